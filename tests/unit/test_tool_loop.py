"""Agents whose models call tools, on a scripted engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel

from agentmux import (
    Agent,
    ConfigError,
    Event,
    LimitExceeded,
    Limits,
    ModelRetry,
    OutputInvalid,
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
from agentmux.testing import Answer, ScriptedEngine, settle


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(name: str, /, **arguments: Any) -> str:
    """What a model without a format of its own writes to call a tool."""
    return json.dumps({"tool": name, "arguments": arguments})


class Sum(BaseModel):
    total: int


class Adder(Agent):
    model = "m"
    instructions = "Add."
    tools = (add,)


def runtime(script: Any, **settings: Any) -> tuple[ScriptedEngine, Runtime]:
    engine = ScriptedEngine({"m": script})
    return engine, Runtime(models=engine.models, engine=engine, **settings)


async def events_of(mux: Runtime, target: Any, *args: Any, **options: Any) -> list[Event]:
    return [event async for event in mux.stream(target, *args, **options)]


async def test_a_call_is_run_and_its_result_goes_back_to_the_model() -> None:
    _engine, mux = runtime([call("add", a=2, b=3), Answer("five", expect="5")])
    async with mux:
        events = await events_of(mux, Adder, "2 + 3?")
    (called,) = [event for event in events if isinstance(event, ToolCalled)]
    (returned,) = [event for event in events if isinstance(event, ToolReturned)]
    assert (called.call.name, json.loads(called.call.arguments)) == ("add", {"a": 2, "b": 3})
    assert (returned.call, returned.result) == (called.call, "5")
    result = events[-1].result  # type: ignore[union-attr]
    assert result.output == "five"
    assert result.usage.tool_calls == 1
    assert [message.role for message in result.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert result.messages[2].tool_calls == (called.call,)
    assert result.messages[3].tool_call == called.call


async def test_all_turns_of_a_question_continue_one_session() -> None:
    engine, mux = runtime([call("add", a=1, b=1), "two"])
    async with mux:
        await mux.run(Adder, "1 + 1?")
    sessions = [request.session for request in engine.calls]
    assert sessions[0] is not None
    assert sessions[0] == sessions[1]
    assert engine.forgotten == [("m", sessions[0])]


async def test_typed_answers_and_tools_go_together() -> None:
    _engine, mux = runtime([call("add", a=2, b=3), '{"total": 5}'])
    async with mux:

        class Typed(Adder):
            output = Sum

        assert (await mux.run(Typed, "2 + 3?")).output == Sum(total=5)


async def test_arguments_that_do_not_validate_go_back_to_the_model() -> None:
    _engine, mux = runtime([call("add", a="x", b=3), Answer(call("add", a=2, b=3), expect="valid integer"), "5"])
    async with mux:
        events = await events_of(mux, Adder, "?")
    (errored,) = [event for event in events if isinstance(event, ToolErrored)]
    assert "integer" in errored.error


async def test_a_tool_can_ask_the_model_to_try_again() -> None:
    def look_up(name: str) -> str:
        if name != "b":
            raise ModelRetry("no such name; there is: b")
        return "found"

    class Finder(Agent):
        model = "m"
        tools = (look_up,)

    _engine, mux = runtime([call("look_up", name="a"), Answer(call("look_up", name="b"), expect="there is: b"), "done"])
    async with mux:
        assert (await mux.run(Finder, "?")).output == "done"


async def test_a_tool_that_never_succeeds_is_an_error() -> None:
    @tool(retries=1)
    def fail(n: int) -> str:
        raise ModelRetry("not that")

    class Failing(Agent):
        model = "m"
        tools = (fail,)

    _engine, mux = runtime([call("fail", n=1), call("fail", n=2)])
    async with mux:
        with pytest.raises(ToolError, match=r"tool fail failed 2 times in a row; the last: not that"):
            await mux.run(Failing, "?")


async def test_what_a_tool_raises_is_the_cause_of_a_tool_error() -> None:
    def crash() -> str:
        raise ZeroDivisionError("oh")

    class Crashing(Agent):
        model = "m"
        tools = (crash,)

    _engine, mux = runtime([call("crash")])
    async with mux:
        with pytest.raises(ToolError, match="tool crash failed: ZeroDivisionError: oh") as caught:
            await mux.run(Crashing, "?")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_calls_of_one_answer_run_at_the_same_time() -> None:
    both = asyncio.Event()
    running: list[str] = []

    async def meet(name: str) -> str:
        running.append(name)
        if len(running) == 2:
            both.set()
        await both.wait()
        return name

    class Meeting(Agent):
        model = "m"
        tools = (meet,)

    _engine, mux = runtime([call("meet", name="a") + "\n" + call("meet", name="b"), "met"])
    async with mux:
        result = await mux.run(Meeting, "?")
    assert [message.content for message in result.messages if message.role == "tool"] == ["a", "b"]


async def test_a_model_that_only_repeats_itself_has_to_answer() -> None:
    runs: list[int] = []

    def clock() -> str:
        runs.append(1)
        return "noon"

    class Stuck(Agent):
        model = "m"
        tools = (clock,)

    _engine, mux = runtime([call("clock")] * 4 + [Answer("noon", expect="You made this call before")])
    async with mux:
        assert (await mux.run(Stuck, "?")).output == "noon"
    assert len(runs) == 3


async def test_a_repeated_call_with_new_results_is_no_repetition() -> None:
    ticks = iter(range(100))

    def tick() -> int:
        return next(ticks)

    class Polling(Agent):
        model = "m"
        tools = (tick,)

    _engine, mux = runtime([call("tick")] * 8 + ["done"])
    async with mux:
        assert (await mux.run(Polling, "?")).output == "done"
    assert next(ticks) == 8


async def test_after_its_tool_rounds_the_model_has_to_answer() -> None:
    class Busy(Adder):
        tool_rounds = 2

    engine, mux = runtime([call("add", a=1, b=n) for n in range(2)] + ["answer"])
    async with mux:
        assert (await mux.run(Busy, "?")).output == "answer"
    assert engine.calls[0].grammar != engine.calls[2].grammar


async def test_the_limit_of_tool_calls() -> None:
    _engine, mux = runtime([call("add", a=1, b=1), call("add", a=1, b=2)], limits=Limits(tool_calls=1))
    async with mux:
        with pytest.raises(LimitExceeded, match="the run has used its 1 calls of tools"):
            await mux.run(Adder, "?")


@pytest.mark.parametrize(
    ("verdict", "shown"), [(True, "ran"), (False, "denied: the user said no"), ("not today", "denied: not today")]
)
async def test_approval(verdict: bool | str, shown: str) -> None:
    asked: list[tuple[ToolCall, str]] = []

    @tool(approval=True)
    def launch() -> str:
        return "ran"

    class Launcher(Agent):
        model = "m"
        tools = (launch,)

    async def approve(wanted: ToolCall, agent: str) -> bool | str:
        asked.append((wanted, agent))
        return verdict

    _engine, mux = runtime([call("launch"), Answer("ok", expect=shown)], approve=approve)
    async with mux:
        await mux.run(Launcher, "?")
    assert [(wanted.name, agent) for wanted, agent in asked] == [("launch", "Launcher")]


async def test_a_tool_that_needs_approval_does_not_run_where_nobody_can_be_asked() -> None:
    @tool(approval=True)
    def launch() -> str:
        raise AssertionError

    class Launcher(Agent):
        model = "m"
        tools = (launch,)

    _engine, mux = runtime([call("launch")])
    async with mux:
        with pytest.raises(ConfigError, match="tool launch needs approval"):
            await mux.run(Launcher, "?")


async def test_approval_may_depend_on_the_arguments() -> None:
    @tool(approval=lambda arguments: arguments["n"] > 1)
    def pay(n: int) -> str:
        return f"paid {n}"

    class Payer(Agent):
        model = "m"
        tools = (pay,)

    _engine, mux = runtime(
        [call("pay", n=1), Answer(call("pay", n=2), expect="paid 1"), Answer("ok", expect="denied")],
        approve=lambda wanted, agent: False,
    )
    async with mux:
        await mux.run(Payer, "?")


async def test_two_tools_of_one_name_are_refused() -> None:
    class Twice(Agent):
        model = "m"
        tools = (add, tool(name="add")(lambda: 1))

    _engine, mux = runtime([])
    async with mux:
        with pytest.raises(ConfigError, match="two tools are called add"):
            await mux.run(Twice, "?")


async def test_an_agent_can_be_a_tool_of_another() -> None:
    class Expert(Agent):
        """Knows everything."""

        model = "m"
        instructions = "expert"

    class Asker(Agent):
        model = "m"
        tools = (Expert,)

    _engine, mux = runtime(
        [call("Expert", prompt="why?"), Answer("because", expect="why?"), Answer("so", expect="because")]
    )
    async with mux:
        result = await mux.run(Asker, "?")
    assert (result.output, result.usage.turns, result.usage.tool_calls) == ("so", 3, 1)


async def test_a_pipeline_calls_tools_as_steps_of_the_run() -> None:
    @pipeline
    async def compute(ctx: Run) -> int:
        total: int = await ctx.call(add, a=1, b=2)
        return total

    _engine, mux = runtime([])
    async with mux:
        events = await events_of(mux, compute)
        assert events[-1].result.output == 3  # type: ignore[union-attr]
        assert [type(event) for event in events[2:4]] == [ToolCalled, ToolReturned]


async def test_a_tool_that_is_called_wrongly_by_a_pipeline_is_an_error() -> None:
    @pipeline
    async def compute(ctx: Run) -> int:
        total: int = await ctx.call(add, a=1)
        return total

    _engine, mux = runtime([])
    async with mux:
        with pytest.raises(ToolError, match="tool add cannot be called so"):
            await mux.run(compute)


async def test_cancelling_the_run_cancels_its_tools() -> None:
    cancelled = asyncio.Event()

    async def wait() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    class Waiting(Agent):
        model = "m"
        tools = (wait,)

    _engine, mux = runtime([call("wait")])
    async with mux:
        run = asyncio.create_task(mux.run(Waiting, "?"))
        await settle()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert cancelled.is_set()


async def test_a_rejected_typed_answer_goes_back_beside_the_results_of_tools() -> None:
    class Typed(Adder):
        output = Sum
        retries = 1

    _engine, mux = runtime([call("add", a=2, b=3), '{"total": "x"}', Answer('{"total": "y"}', expect="not accepted")])
    async with mux:
        with pytest.raises(OutputInvalid) as caught:
            await mux.run(Typed, "?")
    assert caught.value.attempts == ('{"total": "x"}', '{"total": "y"}')
