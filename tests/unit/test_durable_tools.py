"""Tools in runs that are resumed: what was done is taken as it was, and nobody is asked about it again."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentmux import (
    Agent,
    EngineError,
    Event,
    JournalError,
    Run,
    Runtime,
    ToolCall,
    ToolCalled,
    ToolError,
    ToolErrored,
    ToolReturned,
    pipeline,
    tool,
)
from agentmux.journal import Journal, RecordedTool, RunRecord
from agentmux.testing import Answer, Failure, ScriptedEngine, settle


def call(name: str, /, **arguments: Any) -> str:
    return json.dumps({"tool": name, "arguments": arguments})


def runtime(script: Any, path: Path | None = None, **settings: Any) -> tuple[ScriptedEngine, Runtime]:
    engine = ScriptedEngine({"m": script})
    journal = path / "journal.db" if path else False
    return engine, Runtime(models=engine.models, engine=engine, journal=journal, **settings)


def only_run(path: Path) -> str:
    with Journal.open(path / "journal.db") as journal:
        (summary,) = journal.runs()
        return summary.id


@pytest.mark.parametrize(
    "result",
    [
        b"\xff\x00",
        float("nan"),
        {"n": [float("inf"), -0.0, 1e300]},
        "half of a pair: \ud800",
        '"quoted"',
        "",
        None,
        date(2020, 2, 2),
        Decimal("1.50"),
        {"text": "ünï"},
    ],
    ids=repr,
)
async def test_whatever_a_tool_gives_the_model_is_told_the_same_when_resumed(tmp_path: Path, result: Any) -> None:
    runs = 0

    def give() -> Any:
        nonlocal runs
        runs += 1
        return result

    class Asker(Agent):
        model = "m"
        tools = (give,)

    first, mux = runtime([call("give"), call("give"), Failure()], tmp_path)
    async with mux:
        with pytest.raises(EngineError):
            await mux.run(Asker, "x")
    second, mux = runtime(["done"], tmp_path)
    async with mux:
        assert (await mux.resume(only_run(tmp_path), Asker, "x")).output == "done"
    assert runs == 2
    assert [request.prompt for request in second.calls] == [first.calls[-1].prompt]


async def test_what_was_done_needs_no_approval_again(tmp_path: Path) -> None:
    asked = list[ToolCall]()

    @tool(approval=True)
    def pay(amount: int) -> str:
        return f"paid {amount}"

    class Payer(Agent):
        model = "m"
        tools = (pay,)

    def approve(wanted: ToolCall, agent: str) -> bool:
        asked.append(wanted)
        return len(asked) == 1

    _engine, mux = runtime([call("pay", amount=3), Failure()], tmp_path, approve=approve)
    async with mux:
        with pytest.raises(EngineError):
            await mux.run(Payer, "x")
    _engine, mux = runtime([Answer("done", expect="paid 3")], tmp_path, approve=approve)
    async with mux:
        assert (await mux.resume(only_run(tmp_path), Payer, "x")).output == "done"
    assert len(asked) == 1


class Helper(Agent):
    """Helps."""

    model = "m"

    async def run(self, ctx: Run, question: str) -> str:
        first = await ctx.ask(f"first {question}")
        return str(await ctx.ask(f"then {first}"))


class Boss(Agent):
    model = "m"
    tools = (Helper,)


async def test_an_agent_that_was_under_way_as_a_tool_goes_on_where_it_was(tmp_path: Path) -> None:
    script = [call("Helper", question="why"), "because", Answer("never", hold=True)]
    engine, mux = runtime(script, tmp_path)
    async with mux:
        task = asyncio.create_task(mux.run(Boss, "x"))
        await settle(80)
        assert len(engine.calls) == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    engine, mux = runtime([Answer("so", expect="then because"), Answer("done", expect="so")], tmp_path)
    async with mux:
        assert (await mux.resume(only_run(tmp_path), Boss, "x")).output == "done"


async def test_a_tool_that_had_nothing_to_say_at_first_may_be_asked_again() -> None:
    news = iter(["", "first", "second", "third"])

    def poll() -> str:
        return next(news)

    class Poller(Agent):
        model = "m"
        tools = (poll,)

    _engine, mux = runtime([call("poll")] * 4 + [Answer("done", expect="third")])
    async with mux:
        assert (await mux.run(Poller, "x")).output == "done"


async def test_calls_of_a_pipelines_own_can_be_told_apart() -> None:
    def double(n: int) -> int:
        return 2 * n

    @pipeline
    async def work(ctx: Run) -> list[int]:
        return list(await asyncio.gather(*(ctx.call(double, n=n) for n in (1, 1, 2))))

    events = list[Event]()
    _engine, mux = runtime([], observers=[events.append])
    async with mux:
        assert (await mux.run(work)).output == [2, 2, 4]
    called = {event.call.id for event in events if isinstance(event, ToolCalled)}
    returned = {event.call.id for event in events if isinstance(event, ToolReturned)}
    assert called == returned
    assert len(called) == 3


async def test_a_cancelled_tool_is_told_of_once() -> None:
    @pipeline
    async def work(ctx: Run) -> str:
        async def hang() -> str:
            await asyncio.Event().wait()
            return ""

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await ctx.call(hang)
        return "went on"

    events = list[Event]()
    _engine, mux = runtime([], observers=[events.append])
    async with mux:
        assert (await mux.run(work)).output == "went on"
    assert [type(event) for event in events if isinstance(event, ToolCalled | ToolErrored)] == [ToolCalled, ToolErrored]


@pytest.mark.parametrize("argument", [object(), "\ud800", b"\xff"], ids=["object", "half a character", "bytes"])
async def test_arguments_that_are_no_json_are_refused_in_one_line(argument: object) -> None:
    def show(text: str) -> str:
        return text

    @pipeline
    async def work(ctx: Run) -> Any:
        return await ctx.call(show, text=argument)

    _engine, mux = runtime([])
    async with mux:
        with pytest.raises(ToolError, match="tool show cannot be called so") as caught:
            await mux.run(work)
    assert "\n" not in str(caught.value)


async def test_a_call_whose_end_cannot_be_recorded_has_an_end_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tool_ended(self: RunRecord, key: str, outcome: RecordedTool) -> None:
        raise JournalError("journal: the disk is full")

    @pipeline
    async def go(ctx: Run) -> object:
        return await ctx.call(look)

    def look() -> str:
        """Look."""
        return "seen"

    monkeypatch.setattr(RunRecord, "tool_ended", tool_ended)
    events: list[Event] = []
    _engine, mux = runtime([], tmp_path, observers=[events.append])
    async with mux:
        with pytest.raises(JournalError, match="the disk is full"):
            await mux.run(go)
    told = [event for event in events if isinstance(event, ToolCalled | ToolReturned | ToolErrored)]
    assert [type(event) for event in told] == [ToolCalled, ToolErrored]
