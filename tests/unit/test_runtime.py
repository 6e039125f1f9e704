"""Runs on a scripted engine: events, results, structured output, limits, statistics, opening and closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from agentmux import (
    Agent,
    AgentErrored,
    AgentFinished,
    AgentStarted,
    ConfigError,
    ContextOverflow,
    EngineError,
    Event,
    LimitExceeded,
    Limits,
    ModelCorrupt,
    ModelNotFound,
    ModelSpec,
    NeverFits,
    OutputInvalid,
    OutputRetried,
    PrefillProgressed,
    QueueFull,
    RequestInvalid,
    Run,
    RunErrored,
    RunFinished,
    RunStarted,
    Runtime,
    SamplingParams,
    TextStreamed,
    TurnAdmitted,
    TurnCompleted,
    TurnErrored,
    TurnQueued,
    pipeline,
)
from agentmux.engine.base import EngineEvent, Footprint, LoadSpec
from agentmux.testing import Answer, Failure, FakeClock, Refusal, ScriptedEngine, ScriptError, settle


class Plan(BaseModel):
    steps: list[str]


class Planner(Agent):
    model = "planner"
    instructions = "Plan the task."
    output = Plan
    sampling = SamplingParams(temperature=0.5)
    max_tokens = 99


class Coder(Agent):
    model = "coder"


@pipeline
async def write_code(ctx: Run, task: str) -> str:
    plan = await ctx.run(Planner, task)
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(ctx.run(Coder, step)) for step in plan.steps]
    return "\n".join(part.result() for part in parts)


def runtime(engine: ScriptedEngine, **settings: Any) -> Runtime:
    return Runtime(models=engine.models, engine=engine, **settings)


async def collect(stream: AsyncIterator[Event], events: list[Event]) -> None:
    async for event in stream:
        events.append(event)


async def test_the_events_of_one_agent() -> None:
    engine = ScriptedEngine({"coder": [Answer("def f", chunks=("def ", "f"), prompt_tokens=7)]})
    async with runtime(engine) as mux:
        events = [event async for event in mux.stream(Coder, "a task")]
    kinds = [
        RunStarted,
        AgentStarted,
        TurnQueued,
        TurnAdmitted,
        PrefillProgressed,
        TextStreamed,
        TextStreamed,
        TurnCompleted,
        AgentFinished,
        RunFinished,
    ]
    assert [type(event) for event in events] == kinds
    assert {event.agent for event in events} == {"Coder"}
    assert len({event.run for event in events}) == 1
    result = events[-1].result  # type: ignore[union-attr]
    assert result.output == "def f"
    assert (result.usage.turns, result.usage.prompt_tokens, result.usage.generated_tokens) == (1, 7, 2)
    assert [(message.role, message.content) for message in result.messages] == [
        ("user", "a task"),
        ("assistant", "def f"),
    ]
    assert [numbers.prompt_tokens for numbers in result.turns] == [7]


async def test_a_pipeline_of_nested_and_parallel_agents() -> None:
    engine = ScriptedEngine({"planner": ['{"steps": ["one", "two"]}'], "coder": ["1", "2"]})
    async with runtime(engine) as mux:
        result = await mux.run(write_code, "count")
        stats = mux.stats()
    assert result.output == "1\n2"
    assert result.usage.turns == 3
    assert [numbers.agent for numbers in result.turns] == ["Planner", "Coder", "Coder"]
    assert (stats.finished, stats.cancelled, stats.failed, stats.queued, stats.active) == (3, 0, 0, 0, 0)
    assert (stats.switches, stats.bytes_paged) == (1, 200)


async def test_what_an_agent_declares_reaches_the_engine() -> None:
    engine = ScriptedEngine({"planner": ['{"steps": []}']})
    async with runtime(engine) as mux:
        assert (await mux.run(Planner(), "the task")).output == Plan(steps=[])
    (call,) = engine.calls
    assert (call.max_tokens, call.sampling) == (99, SamplingParams(temperature=0.5))
    assert call.grammar is not None
    assert call.grammar.startswith("root ::=")
    assert isinstance(call.prompt, str)
    assert call.prompt.startswith("Plan the task.\n\nAnswer with JSON")
    assert call.prompt.endswith("the task\n\n")


async def test_ask_overrides_what_the_agent_declares() -> None:
    class Counter(Agent):
        model = "m"
        stop = ("END",)

        async def run(self, ctx: Run, text: str) -> int:
            return await ctx.ask(text, output=int, sampling=SamplingParams(seed=3), max_tokens=5)

    engine = ScriptedEngine({"m": ["42"]})
    async with runtime(engine) as mux:
        assert (await mux.run(Counter, "how many?")).output == 42
    (call,) = engine.calls
    assert (call.max_tokens, call.sampling, call.stop) == (5, SamplingParams(seed=3), ("END",))


async def test_show_schema_can_be_switched_off() -> None:
    class Quiet(Planner):
        instructions = ""
        show_schema = False

    engine = ScriptedEngine({"planner": ['{"steps": []}']})
    async with runtime(engine) as mux:
        await mux.run(Quiet, "task")
    assert engine.calls[0].prompt == "task\n\n"


async def test_an_invalid_answer_goes_back_to_the_model() -> None:
    class Rating(Agent):
        model = "m"
        output = Annotated[int, Field(le=5)]

    engine = ScriptedEngine({"m": ["9", Answer("4", expect="less than or equal to 5")]})
    async with runtime(engine) as mux:
        events = [event async for event in mux.stream(Rating, "rate it")]
    (retried,) = [event for event in events if isinstance(event, OutputRetried)]
    assert retried.attempt == 1
    assert "less than or equal to 5" in retried.error
    result = events[-1].result  # type: ignore[union-attr]
    assert (result.output, result.usage.turns) == (4, 2)
    assert [message.role for message in result.messages][-3:] == ["assistant", "user", "assistant"]


async def test_after_the_retries_all_attempts_are_in_the_error() -> None:
    engine = ScriptedEngine({"planner": ["x", "y", "z"]})
    async with runtime(engine) as mux:
        with pytest.raises(OutputInvalid) as caught:
            await mux.run(Planner, "task")
    assert caught.value.attempts == ("x", "y", "z")


async def test_an_answer_that_was_cut_says_so() -> None:
    engine = ScriptedEngine(
        {"planner": [Answer('{"steps": ["a', reason="length"), Answer('{"steps": []}', expect="cut after")]}
    )
    async with runtime(engine) as mux:
        assert (await mux.run(Planner, "task")).output == Plan(steps=[])


async def test_a_retry_that_no_longer_fits_is_an_invalid_output() -> None:
    engine = ScriptedEngine({"planner": ["bad", Failure("context_overflow", "too long")]})
    async with runtime(engine) as mux:
        with pytest.raises(OutputInvalid) as caught:
            await mux.run(Planner, "task")
    assert caught.value.attempts == ("bad",)
    assert str(caught.value.__cause__) == "too long"


async def test_text_that_was_cut_is_returned_and_reported() -> None:
    engine = ScriptedEngine({"coder": [Answer("def", reason="length")]})
    async with runtime(engine) as mux:
        result = await mux.run(Coder, "task")
    assert (result.output, result.turns[0].finish_reason) == ("def", "length")


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Failure("never_fits", "no", {"needed_bytes": 5}), NeverFits),
        (Failure("engine"), EngineError),
        (Refusal(RequestInvalid("bad grammar")), RequestInvalid),
        (Refusal(RuntimeError("a bug")), RuntimeError),
    ],
)
async def test_a_turn_that_fails_raises_and_leaves_nothing_behind(step: Any, kind: type[Exception]) -> None:
    engine = ScriptedEngine({"coder": [step, "fine"]})
    async with runtime(engine) as mux:
        events: list[Event] = []
        with pytest.raises(kind):
            await collect(mux.stream(Coder, "task"), events)
        assert [type(event) for event in events[-3:]] == [TurnErrored, AgentErrored, RunErrored]
        assert (mux.stats().active, mux.stats().failed) == (0, 1)
        assert (await mux.run(Coder, "again")).output == "fine"


async def test_an_agent_that_raises_ends_the_run() -> None:
    class Broken(Agent):
        async def run(self, ctx: Run) -> None:
            raise ZeroDivisionError("oops")

    async with runtime(ScriptedEngine({})) as mux:
        events: list[Event] = []
        with pytest.raises(ZeroDivisionError):
            await collect(mux.stream(Broken), events)
    assert [type(event) for event in events] == [RunStarted, AgentStarted, AgentErrored, RunErrored]
    assert events[-1].error == "oops"


async def test_a_thousand_runs_of_one_instance_do_not_mix() -> None:
    class Echo(Agent):
        model = "m"

        async def run(self, ctx: Run, text: str) -> str:
            first = await ctx.ask(text)
            return first + await ctx.ask(first)

    echo = Echo()
    engine = ScriptedEngine({"m": lambda request: str(request.prompt).strip()})
    async with runtime(engine, queue_limit=2000) as mux:
        results = await asyncio.gather(*(mux.run(echo, str(i)) for i in range(1000)))
        assert [result.output for result in results] == [f"{i}{i}" for i in range(1000)]
        assert all(result.usage.turns == 2 for result in results)
        assert (mux.stats().finished, mux.stats().active) == (2000, 0)


class TestLimits:
    async def test_turns(self) -> None:
        @pipeline
        async def three(ctx: Run) -> None:
            for _ in range(3):
                await ctx.run(Coder, "x")

        engine = ScriptedEngine({"coder": ["1", "2"]})
        async with runtime(engine) as mux:
            with pytest.raises(LimitExceeded, match="2 turns"):
                await mux.run(three, limits=Limits(turns=2))

    async def test_tokens_are_checked_before_a_turn_and_cap_its_answer(self) -> None:
        @pipeline
        async def twice(ctx: Run) -> None:
            await ctx.run(Coder, "x")
            await ctx.run(Coder, "x")

        engine = ScriptedEngine({"coder": ["a b c", Answer("d", reason="length")]})
        async with runtime(engine) as mux:
            with pytest.raises(LimitExceeded, match="cut an answer short"):
                await mux.run(twice, limits=Limits(tokens=6))
        assert [call.max_tokens for call in engine.calls] == [6, 2]

    async def test_tokens_used_up(self) -> None:
        @pipeline
        async def twice(ctx: Run) -> None:
            await ctx.run(Coder, "x")
            await ctx.run(Coder, "x")

        engine = ScriptedEngine({"coder": ["a b c"]})
        async with runtime(engine, limits=Limits(tokens=4)) as mux:
            with pytest.raises(LimitExceeded, match="4 of its 4 tokens"):
                await mux.run(twice)

    async def test_wall_time_cancels_the_turn_in_the_engine(self) -> None:
        clock = FakeClock()
        engine = ScriptedEngine({"coder": [Answer("...", hold=True)]})
        async with runtime(engine, clock=clock) as mux:
            task = asyncio.create_task(mux.run(Coder, "x", limits=Limits(wall_s=3)))
            await settle()
            assert engine.held == (1,)
            clock.advance(3)
            with pytest.raises(LimitExceeded, match="longer than 3 s"):
                await task
            assert engine.cancels == [1]
            assert (mux.stats().active, mux.stats().cancelled) == (0, 1)

    async def test_the_deadline_can_be_read(self) -> None:
        class Asks(Agent):
            async def run(self, ctx: Run) -> tuple[float | None, str, str]:
                return ctx.deadline, ctx.agent, ctx.id

        clock = FakeClock()
        clock.advance(5)
        async with runtime(ScriptedEngine({}), clock=clock) as mux:
            result = await mux.run(Asks, limits=Limits(wall_s=3))
            assert result.output == (8, "Asks", result.run)
            assert (await mux.run(Asks)).output[0] is None


class TestGenerate:
    async def test_one_turn_without_a_run(self) -> None:
        engine = ScriptedEngine({"m": [Answer("a b", prompt_tokens=3)]})
        async with runtime(engine) as mux:
            done = await mux.generate(
                "m", [1, 2, 3], max_tokens=7, temperature=0.5, stop="x", ignore_eos=True, grammar="g"
            )
        assert (done.text, len(done.tokens), done.finish_reason, done.stats.prompt_tokens) == ("a b", 2, "stop", 3)
        (call,) = engine.calls
        assert (call.prompt, call.max_tokens, call.stop, call.ignore_eos, call.grammar) == (
            (1, 2, 3),
            7,
            ("x",),
            True,
            "g",
        )
        assert call.sampling == SamplingParams(temperature=0.5)

    async def test_unknown_model(self) -> None:
        async with runtime(ScriptedEngine({"m": []})) as mux:
            with pytest.raises(ModelNotFound, match="no model named 'n'; the runtime has: m"):
                await mux.generate("n", "x")

    async def test_a_full_queue_refuses_at_once(self) -> None:
        engine = ScriptedEngine({"m": lambda _: Answer("x", hold=True)})
        async with runtime(engine, queue_limit=1) as mux:
            first, second = (asyncio.create_task(mux.generate("m", "x")) for _ in range(2))
            await settle()
            with pytest.raises(QueueFull) as caught:
                await mux.generate("m", "x")
            assert (caught.value.queued, caught.value.queue_limit) == (1, 1)
            engine.release()
            await first
            await settle()
            engine.release()
            await second

    async def test_a_burst_up_to_slots_and_queue_is_taken(self) -> None:
        engine = ScriptedEngine({"m": lambda _: "x"})
        async with Runtime(models={"m": ModelSpec("m.gguf", slots=4)}, engine=engine, queue_limit=2) as mux:
            done = await asyncio.gather(*(mux.generate("m", "x") for _ in range(6)))
            assert len(done) == 6

    async def test_a_prompt_of_known_length_that_fills_the_context(self) -> None:
        engine = ScriptedEngine({"m": []})
        async with Runtime(models={"m": ModelSpec("m.gguf", context_tokens=4)}, engine=engine) as mux:
            with pytest.raises(ContextOverflow):
                await mux.generate("m", [1, 2, 3, 4])


async def test_what_cannot_be_run() -> None:
    async def plain(ctx: Run) -> None: ...

    async with runtime(ScriptedEngine({})) as mux:
        with pytest.raises(ConfigError, match="decorate the function with @pipeline"):
            await mux.run(plain)
        with pytest.raises(ConfigError, match="cannot be run"):
            await mux.run(3)  # type: ignore[call-overload]


async def test_a_pipeline_function_has_no_model() -> None:
    @pipeline
    async def asks(ctx: Run) -> None:
        await ctx.ask("x")

    async with runtime(ScriptedEngine({})) as mux:
        with pytest.raises(ConfigError, match="has no model to ask"):
            await mux.run(asks)


async def test_an_agent_of_an_unknown_model() -> None:
    async with runtime(ScriptedEngine({"coder": []})) as mux:
        with pytest.raises(ModelNotFound, match="the runtime has: coder"):
            await mux.run(Planner, "x")


async def test_a_runtime_must_be_open_and_opens_once() -> None:
    mux = runtime(ScriptedEngine({"coder": []}))
    with pytest.raises(EngineError, match="not open"):
        await mux.run(Coder, "x")
    with pytest.raises(EngineError, match="not open"):
        mux.stats()
    async with mux:
        pass
    with pytest.raises(EngineError, match="not open"):
        await mux.generate("coder", "x")
    with pytest.raises(EngineError, match="entered once"):
        await mux.__aenter__()


class FailingLoad(ScriptedEngine):
    def __init__(self, error: BaseException) -> None:
        super().__init__({"a": [], "b": []})
        self.closed = 0
        self._error = error

    def load(self, spec: LoadSpec) -> Footprint:
        if spec.model == "b":
            raise self._error
        return super().load(spec)

    def close(self) -> None:
        self.closed += 1
        super().close()


async def test_a_model_that_does_not_load_closes_the_engine() -> None:
    engine = FailingLoad(ModelCorrupt("b.gguf is cut short"))
    with pytest.raises(ModelCorrupt):
        async with runtime(engine):
            raise AssertionError("not reached")
    assert engine.closed == 1


async def test_two_runtimes_in_one_process() -> None:
    engines = [ScriptedEngine({"coder": [text]}) for text in "ab"]
    async with runtime(engines[0]) as one, runtime(engines[1]) as two:
        results = await asyncio.gather(one.run(Coder, "x"), two.run(Coder, "x"))
    assert [result.output for result in results] == ["a", "b"]


async def test_an_unexpected_turn_and_a_step_left_over_are_errors() -> None:
    engine = ScriptedEngine({"coder": []})
    async with runtime(engine) as mux:
        with pytest.raises(ScriptError, match="no further step"):
            await mux.run(Coder, "x")
    with pytest.raises(ScriptError, match="no turn asked for"):
        async with runtime(ScriptedEngine({"coder": ["unused"]})):
            pass


class LyingEngine(ScriptedEngine):
    """Reports some events twice, and some of turns that do not exist."""

    def poll(self) -> list[EngineEvent]:
        events = super().poll()
        return [*events, *(replace(event, turn=event.turn + 1000) for event in events), *events]


async def test_each_turn_ends_once_whatever_the_engine_says() -> None:
    engine = LyingEngine({"coder": ["a", "b"]})
    async with runtime(engine) as mux:
        for answer in "ab":
            assert (await mux.run(Coder, "x")).output == answer
        assert mux.stats().finished == 2


class MuteEngine(ScriptedEngine):
    def poll(self) -> list[EngineEvent]:
        if not self._closed:
            raise OSError("lost the device")
        return super().poll()


async def test_an_engine_that_breaks_fails_every_turn() -> None:
    engine = MuteEngine({"coder": lambda _: "a"})
    async with runtime(engine) as mux:
        with pytest.raises(EngineError, match="lost the device"):
            await mux.run(Coder, "x")
        with pytest.raises(EngineError, match="lost the device"):
            await mux.run(Coder, "x")
        assert mux.stats().active == 0


@pytest.mark.parametrize("misspelt", ["vrma", "model", "slots"])
def test_unknown_keywords_are_errors(misspelt: str) -> None:
    make: Callable[..., Runtime] = Runtime
    with pytest.raises(TypeError):
        make(models={}, **{misspelt: 1})
