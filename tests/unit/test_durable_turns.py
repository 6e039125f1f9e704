"""A turn that somebody was told of is in the journal: its record comes first, whatever happens at that moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentmux import (
    Agent,
    Event,
    JournalError,
    LimitExceeded,
    Limits,
    Run,
    RunErrored,
    Runtime,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    pipeline,
)
from agentmux.journal import Journal, RunRecord
from agentmux.testing import Answer, ScriptedEngine, settle

ENDS = (TurnCompleted, TurnCancelled, TurnErrored)


class Planner(Agent):
    model = "m"


def runtime(script: Any, path: Path, **settings: Any) -> tuple[ScriptedEngine, Runtime]:
    engine = ScriptedEngine({"m": script})
    return engine, Runtime(models=engine.models, engine=engine, journal=path / "journal.db", **settings)


def recorded_turns(path: Path) -> int:
    with Journal.open(path / "journal.db") as journal:
        return journal.runs()[0].turns


def only_run(path: Path) -> str:
    with Journal.open(path / "journal.db") as journal:
        (summary,) = journal.runs()
        return summary.id


@pipeline
async def three(ctx: Run, text: str) -> str:
    for _ in range(3):
        text = await ctx.run(Planner, text)
    return text


async def test_a_turn_is_recorded_before_anybody_is_told_of_it(tmp_path: Path) -> None:
    seen = list[tuple[int, int]]()
    told = 0

    def observe(event: Event) -> None:
        nonlocal told
        if isinstance(event, TurnCompleted):
            told += 1
            seen.append((told, recorded_turns(tmp_path)))

    _engine, mux = runtime(["a", "b", "c"], tmp_path, observers=[observe])
    async with mux:
        await mux.run(three, "x")
    assert seen == [(1, 1), (2, 2), (3, 3)]


async def test_a_turn_that_finished_as_its_run_was_cancelled_is_recorded(tmp_path: Path) -> None:
    events = list[Event]()
    engine, mux = runtime([Answer("the plan", hold=True)], tmp_path, observers=[events.append])
    async with mux:
        task = asyncio.create_task(mux.run(Planner, "x"))
        await settle()
        engine.release()  # the engine has finished, but its event has not been polled
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert isinstance(events[-1], RunErrored)
    assert len(events[-1].partial.turns) == 1
    assert recorded_turns(tmp_path) == 1
    engine, mux = runtime([], tmp_path)
    async with mux:
        result = await mux.resume(only_run(tmp_path), Planner, "x")
    assert result.output == "the plan"
    assert engine.calls == []


async def test_a_turn_that_cannot_be_recorded_fails_once_and_gives_its_slot_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    record = RunRecord.record_turn

    def record_turn(self: RunRecord, *args: Any) -> None:
        if full:
            raise JournalError("journal: the disk is full")
        record(self, *args)

    monkeypatch.setattr(RunRecord, "record_turn", record_turn)
    events = list[Event]()
    _engine, mux = runtime(lambda _: "text", tmp_path, observers=[events.append])
    async with mux:
        with pytest.raises(JournalError, match="the disk is full") as caught:
            await mux.run(Planner, "x")
        assert [type(event) for event in events if isinstance(event, ENDS)] == [TurnErrored]
        assert isinstance(events[-1], RunErrored)
        assert caught.value.partial.turns == ()  # type: ignore[attr-defined]
        stats = mux.stats()
        assert (stats.active, stats.queued, stats.finished, stats.failed) == (0, 0, 0, 1)
        full = False
        assert (await mux.run(Planner, "x")).output == "text"  # the model's one slot is free


async def test_an_answer_that_the_limits_cut_is_not_taken_for_whole_when_resumed(tmp_path: Path) -> None:
    class Brief(Agent):
        model = "m"
        max_tokens = 10

    limits = Limits(tokens=6)
    cut = Answer("one two three", reason="length", prompt_tokens=1)
    _engine, mux = runtime([cut], tmp_path)
    async with mux:
        with pytest.raises(LimitExceeded, match="cut an answer short"):
            await mux.run(Brief, "x", limits=limits)
    assert recorded_turns(tmp_path) == 1
    engine, mux = runtime(["one two three four five six seven"], tmp_path)
    async with mux:
        result = await mux.resume(only_run(tmp_path), Brief, "x", limits=Limits(tokens=100))
    assert result.output == "one two three four five six seven"
    assert len(engine.calls) == 1
