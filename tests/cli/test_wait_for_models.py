"""Which models the commands wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from agentmux import NeverFits
from agentmux.cli import demo, opening
from agentmux.cli.live import ASCII
from agentmux.cli.main import run
from agentmux.cli.top_view import memory_lines
from agentmux.engine.base import Footprint, LoadSpec
from agentmux.runtime import Runtime
from agentmux.testing import ScriptedEngine
from tests.cli.processes import agentmux, environment, one_line
from tests.cli.test_top import DOCUMENT
from tests.server.test_serve_command import served

MINE = """
from agentmux import Agent

class Writer(Agent):
    model = "planner"
"""


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What ``agentmux run`` with these options waits for."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> str:
        made: list[Runtime] = []

        def make(**settings: Any) -> Runtime:
            made.append(partial(Runtime, engine=ScriptedEngine({"planner": lambda _: "said"}))(**settings))
            return made[0]

        monkeypatch.setattr(opening, "Runtime", make)
        assert run(["run", "mine.py:Writer", "x", "--no-journal", "--models", "planner=planner", *arguments]) == 0
        return made[0].config.wait_for_models

    return invoke


def test_a_run_begins_after_the_first_model_unless_told_otherwise(
    waited_for: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waited_for() == "first"
    assert waited_for("--wait-for-models", "all") == "all"
    monkeypatch.setenv("AGENTMUX_WAIT_FOR_MODELS", "all")
    assert waited_for() == "all"
    assert waited_for("--wait-for-models", "first") == "first"


def test_the_configuration_file_holds_too(waited_for: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "agentmux.toml").write_text('wait_for_models = "all"\n')
    assert waited_for() == "all"


def test_another_word_is_an_error(tmp_path: Path) -> None:
    assert "'all', 'first'" in one_line(agentmux("serve", "--wait-for-models", "none"), 2)
    refused = agentmux("serve", cwd=tmp_path, env=environment(AGENTMUX_WAIT_FOR_MODELS="none"))
    assert "AGENTMUX_WAIT_FOR_MODELS='none'" in one_line(refused, 1)


def test_a_server_of_real_models_that_answers_after_the_first() -> None:
    with served("--wait-for-models", "first") as (_, url):
        root = url.removesuffix("/v1")
        body = {"model": "critic", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        assert httpx.post(f"{url}/chat/completions", json=body, timeout=60).status_code == 200
        while (ready := httpx.get(f"{root}/ready")).status_code != 200:
            assert ready.json()["status"] == "loading"
        assert {one["agentmux"]["state"] for one in httpx.get(f"{url}/models").json()["data"]} == {"loaded"}


def test_top_names_models_that_are_on_their_way() -> None:
    lines = list(memory_lines({**DOCUMENT, "loading": ["coder"]}, 80, ASCII))
    assert lines[-2] == "coder         is being loaded"


def test_a_model_that_turns_out_too_large_ends_the_whole_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of twelve tasks none can be solved: one error, and no table of twelve."""

    class TooLarge(ScriptedEngine):
        def load(self, spec: LoadSpec) -> Footprint:
            if spec.model == "critic":
                raise NeverFits("model critic needs at least 9 bytes, the arena has 8")
            return super().load(spec)

    engine = TooLarge({name: lambda _: '{"steps": ["Add."]}' for name in ("planner", "coder", "critic")})
    monkeypatch.setattr(demo, "Runtime", partial(Runtime, engine=engine))
    assert run(["demo", "--plain"]) == 1
    out, err = capsys.readouterr()
    assert "passed" not in out
    assert err.splitlines()[-1] == "agentmux: error: model critic needs at least 9 bytes, the arena has 8"
    assert err.count("agentmux: error") == 1
