"""docs/telemetry.md: its program writes a trace, and its tables are complete."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from agentmux.telemetry import instruments
from agentmux.telemetry.instruments import Instrument
from agentmux.tracing.records import head
from tests.tracing.reading import drawn

GUIDE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def test_the_program_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    monkeypatch.setenv("AGENTMUX_THREADS", "1")
    (block,) = (block for block in BLOCKS if "TraceFile" in block)
    names: dict[str, Any] = {}
    exec(block, names)
    asyncio.run(names["traced"](tmp_path / "t.json"))
    slices = drawn(json.loads((tmp_path / "t.json").read_text()))
    assert [one.name for one in slices if one.track == "runs"] == ["solve"]


def test_every_track_and_instrument_is_named() -> None:
    tracks = [one["args"]["name"] for one in head("") if one["name"] == "thread_name"]
    found = [one for one in vars(instruments).values() if isinstance(one, Instrument)]
    counters = [instruments.UPLOADED[0], instruments.SWITCHES[0]]
    assert len(found) == 9
    assert not [name for name in (*tracks, *(one.name for one in found), *counters) if f"`{name}`" not in GUIDE]
