"""A trace of a runtime at work: sampled while turns run, with every turn in it, on a clock that is told to move."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentmux import Agent, Run, Runtime, pipeline
from agentmux.messages import RunStarted
from agentmux.testing import Answer, FakeClock, ScriptedEngine, settle
from agentmux.tracing import Trace, TraceFile
from agentmux.tracing.records import micros
from agentmux.tracing.trace import SAMPLE_S
from tests.tracing.reading import Records, drawn, lenient, samples


class Planner(Agent):
    """Plans."""

    model = "planner"


class Coder(Agent):
    """Writes."""

    model = "coder"


@pipeline
async def both(ctx: Run, task: str) -> str:
    """One after the other."""
    return await ctx.run(Coder, await ctx.run(Planner, task))


async def traced(path: Path) -> None:
    """One run of ``both`` whose answers are held for ten samples each."""
    clock = FakeClock()
    engine = ScriptedEngine(
        {"planner": [Answer("a plan", hold=True)], "coder": [Answer("a program", hold=True)]},
    )
    with TraceFile(path) as file:
        trace = Trace(file, clock)
        models = {"planner": "p.gguf", "coder": "c.gguf"}
        async with Runtime(models, engine=engine, clock=clock, observers=[trace.observe], config=False) as mux:
            with trace.sampling(mux.stats):
                running = asyncio.create_task(mux.run(both, "add"))
                for _ in range(2):
                    await settle()
                    clock.advance(10 * SAMPLE_S)
                    engine.release()
                await running
                assert clock.next_call_s is None, "it looks although nothing runs"
        trace.close()


def read(path: Path) -> Records:
    text = path.read_text()
    return lenient(text.partition('application/json">')[2].partition("</script>")[0].strip() or text)


async def test_a_run_is_in_its_trace(tmp_path: Path) -> None:
    await traced(tmp_path / "t.json")
    records = read(tmp_path / "t.json")
    slices = drawn(records)
    assert {one.track: one.name for one in slices if one.track in ("compute", "runs", "both")} == {
        "compute": "coder",
        "runs": "both",
        "both": "both",
    }
    assert [one.name for one in slices if one.track == "compute"] == ["planner", "coder"]
    turn = next(one for one in slices if one.name == "turn coder")
    assert (turn.track, turn.to_us - turn.from_us) == ("Coder", micros(10 * SAMPLE_S))
    assert turn.said["finish_reason"] == "stop"
    assert samples(records, "turns")[-1][1] == {"waiting": 0.0, "in the engine": 0.0}
    resident = samples(records, "resident weights (bytes)")
    assert [sum(value > 0 for value in values.values()) for _, values in resident[1:]] == [1] * len(resident[1:])
    assert sum(one["name"] == "switch" for one in records if one["ph"] == "i") == 1
    assert sum(one.said["bytes"] for one in slices if one.track == "uploads") > 0


async def test_without_an_open_runtime_there_are_only_events(tmp_path: Path) -> None:
    with TraceFile(tmp_path / "t.json") as file:
        Trace(file, FakeClock()).close()
    assert {one["ph"] for one in read(tmp_path / "t.json")} == {"M"}


def test_times_do_not_go_back(tmp_path: Path) -> None:
    class Clock(FakeClock):
        def now(self) -> float:
            self._now_s -= 1.0
            return self._now_s

    with TraceFile(tmp_path / "t.json") as file:
        trace = Trace(file, Clock())
        trace.observe(RunStarted("r", "x", 0))
        trace.close()
    assert drawn(read(tmp_path / "t.json"))


@pytest.mark.parametrize("name", ["t.json", "t.html"])
async def test_both_forms_have_the_same_records(tmp_path: Path, name: str) -> None:
    await traced(tmp_path / name)
    slices = drawn(read(tmp_path / name))
    assert sorted(one.name for one in slices if one.track in ("compute", "runs")) == ["both", "coder", "planner"]
