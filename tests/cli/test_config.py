"""``agentmux config``: what holds, and the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentmux.cli.config import config
from agentmux.config.schema import file_schema


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTMUX_THREADS", "3")
    (tmp_path / "agentmux.toml").write_text('vram = "1MiB"\nthreads = 2\nmodels.m = "m.gguf"')


def test_show_tells_what_holds(tmp_path: Path) -> None:
    document = json.loads(CliRunner().invoke(config, ["show", "--json"], catch_exceptions=False).output)
    assert (document["vram"], document["threads"], document["device"]) == (1 << 20, 3, "auto")
    assert document["source"] == str(tmp_path / "agentmux.toml")
    assert document["models"]["m"]["path"] == f"{tmp_path}/m.gguf"
    shown = CliRunner().invoke(config, ["show"], catch_exceptions=False).output.splitlines()
    assert shown[0] == f"# {tmp_path}/agentmux.toml"
    assert {line.split(maxsplit=1)[0]: json.loads(line.split(maxsplit=1)[1]) for line in shown[1:]} == {
        key: value for key, value in document.items() if key != "source"
    }


def test_schema_is_the_schema() -> None:
    assert json.loads(CliRunner().invoke(config, ["schema"], catch_exceptions=False).output) == file_schema()
