"""docs/server.md: its programs run, its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentmux.server.app import _ROUTES
from agentmux.server.problems import _KINDS
from agentmux.server.wire import ChatBody
from tests.server.live import Live, chat

GUIDE = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def test_the_client_of_the_guide(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    exec(BLOCKS[0].replace("http://127.0.0.1:8080", live.url), {})
    assert capsys.readouterr().out.startswith('{"steps": [')


def test_the_program_of_the_guide(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    exec(BLOCKS[1], {"__name__": "guide"})
    assert capsys.readouterr().out.startswith("{")


def test_everything_is_named(live: Live) -> None:
    said = {"functions", "function_call"}
    assert not [name for name in ChatBody.model_fields if name not in said and f"`{name}" not in GUIDE]
    assert not [path for path in _ROUTES if path.partition("/{")[0] not in GUIDE]
    assert not [kind.code for kind in _KINDS.values() if f"`{kind.code}`" not in GUIDE]
    live.post("/v1/chat/completions", chat("planner", max_tokens=1))
    names = re.findall(r"^# TYPE (\S+)", live.get("/metrics").text, re.MULTILINE)
    assert len(names) > 20
    own = [name.removeprefix("agentmux_") for name in names]
    assert not [name for name in own if f"`{name}`" not in GUIDE]
