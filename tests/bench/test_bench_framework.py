"""The framework's bench: its arithmetic, one small run of everything, and that it counts what goes wrong."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agentmux import Event, TurnCancelled, TurnCompleted, TurnNumbers
from agentmux.bench import framework
from agentmux.bench.framework import BATCH, Settings, bench_framework
from agentmux.bench.framework_report import AGENTMUX, AT_ONCE, LANGGRAPH, ONE_BY_ONE, FrameworkReport, Timing, compared
from agentmux.cli.main import run
from agentmux.errors import ConfigError

COMMANDS = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
SMALL = ["--turns", "2", "--at-once", "3", "--repetitions", "1", "--memory-turns", "200", "--no-baseline"]


def timing(contender: str, repetition: int, turn_s: float) -> Timing:
    return Timing(
        contender=contender, shape=ONE_BY_ONE, repetition=repetition, turns=10, turn_s=turn_s, turn_cpu_s=turn_s / 2
    )


def test_ratios_are_taken_within_a_repetition() -> None:
    # The machine was half as fast in the second repetition, for both.
    own = [timing(AGENTMUX, repetition, turn_s) for repetition, turn_s in enumerate((1.0, 2.0, 1.5))]
    other = [timing(LANGGRAPH, repetition, turn_s) for repetition, turn_s in enumerate((2.0, 4.0, 2.0))]
    first, second = compared(own + other)
    assert (first.contender, first.turn_s, first.turn_cpu_s, first.of_langgraph) == (AGENTMUX, 1.5, 0.75, 0.5)
    assert (second.contender, second.of_langgraph) == (LANGGRAPH, 1.0)
    assert compared(own)[0].of_langgraph is None


@pytest.mark.parametrize("name", ["turns", "at_once", "repetitions"])
def test_what_cannot_be_measured_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings(**{name: 0})


def test_a_small_run_of_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "framework.json"
    try:
        assert run(["bench", "framework", "--json", "--output", str(target), *SMALL]) == 0
    finally:
        structlog.reset_defaults()
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads(target.read_text())
    report = FrameworkReport.model_validate_json(printed)
    own = [row for row in report.comparisons if row.contender == AGENTMUX]
    assert [row.shape for row in own] == [ONE_BY_ONE, AT_ONCE]
    assert all(row.turn_s > 0 and row.of_langgraph is None for row in report.comparisons)
    assert report.baseline_missing == "it was not asked for"
    assert report.memory is not None
    memory = report.memory
    assert (memory.turns, memory.turns_finished) == (200, 200)
    assert (memory.turns_ended_otherwise, memory.turns_ended_twice, memory.turns_without_end) == (0, 0, 0)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert run(["bench", "framework", *SMALL]) == 0
    finally:
        structlog.reset_defaults()
    printed = capsys.readouterr().out
    assert "agentmux" in printed
    assert "LangGraph was not measured: it was not asked for" in printed
    assert "200 finished, 0 ended otherwise, 0 twice, 0 never" in printed


def test_a_missing_baseline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langgraph.graph", None)
    report = bench_framework(Settings(turns=1, at_once=1, repetitions=1, memory_turns=0), [])
    assert "pip install 'agentmux[bench]'" in report.baseline_missing
    assert report.memory is None


async def test_ends_are_counted() -> None:
    """A runtime that ends one turn twice, cancels another and forgets a third is found out."""
    numbers = TurnNumbers(1, "a", "m")
    done = TurnCompleted("r", "a", 1, 1, "m", "", numbers)
    streams: list[list[Event]] = [[done, done], [TurnCancelled("r", "a", 1, 2, "m")], []]

    turns = itertools.count(10)

    class Broken:
        async def stream(self, *_: Any) -> AsyncIterator[Event]:
            for event in streams.pop() if streams else [TurnCompleted("r", "a", 1, next(turns), "m", "", numbers)]:
                yield event

    ends: Counter[str] = Counter()
    await framework._counted(Broken(), ends)  # type: ignore[arg-type]
    assert (ends["twice"], ends["TurnCancelled"]) == (1, 1)
    assert ends["TurnCompleted"] + ends["TurnCancelled"] - ends["twice"] + ends["none"] == BATCH


def test_the_documents_fields_are_documented() -> None:
    text = COMMANDS.split("bench framework`", 1)[1]
    assert all(f"`{name}`" in text for name in FrameworkReport.model_fields)
