"""Whatever is cancelled, whenever: every turn ends once, every slot comes back, nothing waits for ever."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any

import pytest

from agentmux import (
    Agent,
    EngineError,
    Event,
    Limits,
    QueueTimeout,
    Run,
    RunErrored,
    RunFinished,
    Runtime,
    TextStreamed,
    TurnAdmitted,
    TurnCancelled,
    pipeline,
)
from agentmux.testing import Failure, FakeClock, ScriptedEngine, settle
from tests.unit.held_engine import Coder, Deaf, collect, held_engine, hold, runtime


def check_idle(mux: Runtime, *, cancelled: int) -> None:
    stats = mux.stats()
    assert (stats.active, stats.queued, stats.cancelled) == (0, 0, cancelled)
    assert all(model.slots_active == model.slots_waiting == 0 for model in stats.engine.models)


async def check_usable(mux: Runtime, engine: ScriptedEngine) -> None:
    task = asyncio.create_task(mux.generate("coder", "x"))
    await settle()
    engine.release()
    assert (await task).text == "some text"


async def test_a_run_cancelled_while_its_turn_decodes() -> None:
    engine = held_engine()
    async with runtime(engine) as mux:
        task = asyncio.create_task(mux.run(Coder, "x"))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.cancels == [1]
        check_idle(mux, cancelled=1)
        await check_usable(mux, engine)


async def test_a_run_cancelled_while_its_turn_waits() -> None:
    engine = held_engine()
    async with runtime(engine) as mux:
        first = asyncio.create_task(mux.run(Coder, "x"))
        await settle()
        events: list[Event] = []
        second = asyncio.create_task(collect(mux, events, Coder, "y"))
        await settle()
        assert mux.stats().queued == 1
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert mux.stats().queued == 0
        assert engine.cancels == []
        assert not any(isinstance(event, TurnAdmitted) for event in events)
        engine.release()
        assert (await first).output == "some text"
        check_idle(mux, cancelled=1)


@pytest.mark.parametrize("rounds", range(4))
async def test_the_runtime_closes_as_a_run_begins(rounds: int) -> None:
    async with runtime(held_engine()) as mux:
        task = asyncio.create_task(mux.run(Coder, "x"))
        for _ in range(rounds):
            await asyncio.sleep(0)
    with pytest.raises(EngineError, match=r"closed|not open"):
        await task


@pytest.mark.parametrize("rounds", range(1, 16))
async def test_a_run_cancelled_at_any_step_of_the_loop(rounds: int) -> None:
    engine = ScriptedEngine({"coder": lambda _: "some text", "critic": hold})
    async with runtime(engine) as mux:
        task = asyncio.create_task(mux.run(Coder, "x"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            assert (await task).output == "some text"
        await settle()
        stats = mux.stats()
        assert (stats.active, stats.queued) == (0, 0)
        assert stats.finished + stats.cancelled <= 1
        assert (await mux.run(Coder, "x")).output == "some text"


async def test_a_turn_that_finished_just_before_it_was_cancelled() -> None:
    engine = held_engine()
    async with runtime(engine) as mux:
        task = asyncio.create_task(mux.run(Coder, "x"))
        await settle()
        engine.release()  # the engine has finished, but its event has not been polled
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stats = mux.stats()
        assert (stats.active, stats.finished, stats.cancelled) == (0, 1, 0)


async def test_generate_cancelled() -> None:
    engine = held_engine()
    async with runtime(engine) as mux:
        task = asyncio.create_task(mux.generate("coder", "x"))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        check_idle(mux, cancelled=1)


async def test_asyncio_timeout_inside_an_agent() -> None:
    class Impatient(Agent):
        model = "coder"

        async def run(self, ctx: Run) -> str:
            try:
                async with asyncio.timeout(0):
                    await ctx.ask("x")
            except TimeoutError:
                return "too slow"
            return "not reached"

    engine = held_engine()
    async with runtime(engine) as mux:
        result = await mux.run(Impatient)
        assert result.output == "too slow"
        assert mux.stats().active == 0


async def test_one_agent_of_a_task_group_raises() -> None:
    class Broken(Agent):
        async def run(self, ctx: Run) -> None:
            await settle()
            raise ZeroDivisionError

    @pipeline
    async def together(ctx: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.run(Coder, "x"))
            group.create_task(ctx.run(Coder, "waits for its slot"))
            group.create_task(ctx.run(Broken))

    engine = held_engine()
    async with runtime(engine) as mux:
        events: list[Event] = []
        with pytest.raises(ExceptionGroup) as caught:
            await collect(mux, events, together)
        assert caught.group_contains(ZeroDivisionError)
        assert sum(isinstance(event, TurnCancelled) for event in events) == 2
        assert isinstance(events[-1], RunErrored)
        check_idle(mux, cancelled=2)


async def test_tasks_that_a_run_leaves_behind_lose_their_turns() -> None:
    left: list[asyncio.Task[Any]] = []

    @pipeline
    async def careless(ctx: Run) -> str:
        left.append(asyncio.create_task(ctx.run(Coder, "x")))
        await settle()
        return "done"

    engine = held_engine()
    async with runtime(engine) as mux:
        events: list[Event] = []
        await collect(mux, events, careless)
        assert isinstance(events[-1], RunFinished)
        assert any(isinstance(event, TurnCancelled) for event in events)
        with pytest.raises(EngineError, match="its run has ended"):
            await left[0]
        check_idle(mux, cancelled=1)


async def test_a_task_that_a_run_leaves_behind_gets_no_further_turn() -> None:
    go_on = asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    class Late(Agent):
        model = "coder"

        async def run(self, ctx: Run) -> str:
            await go_on.wait()
            return str(await ctx.ask("x"))

    @pipeline
    async def careless(ctx: Run) -> None:
        left.append(asyncio.create_task(ctx.run(Late)))

    engine = held_engine()
    async with runtime(engine) as mux:
        await mux.run(careless)
        go_on.set()
        with pytest.raises(EngineError, match="left behind"):
            await left[0]
        assert engine.calls == []


async def test_ending_the_iteration_early_cancels_the_run() -> None:
    engine = held_engine()
    async with runtime(engine) as mux:
        async with aclosing(mux.stream(Coder, "x")) as stream:
            async for event in stream:
                if isinstance(event, TextStreamed):
                    break
        check_idle(mux, cancelled=1)


async def test_a_stream_that_is_dropped_cancels_the_run() -> None:
    engine = held_engine()
    async with runtime(engine) as mux:
        async for event in mux.stream(Coder, "x"):
            if isinstance(event, TextStreamed):
                break
        await settle()
        check_idle(mux, cancelled=1)


async def test_an_agent_that_catches_its_cancellation_and_asks_again() -> None:
    class Stubborn(Agent):
        model = "coder"

        async def run(self, ctx: Run) -> str:
            try:
                await ctx.ask("x")
            except asyncio.CancelledError:
                await ctx.ask("last words")
            return "done"

    engine = held_engine()
    clock = FakeClock()
    async with runtime(engine, clock=clock) as mux:
        task = asyncio.create_task(mux.run(Stubborn))
        await settle()
        task.cancel()
        await settle()
        assert not task.done()
        clock.advance(5.0)  # the grace is over: whoever waits is let go, the run goes on without them
        with pytest.raises(asyncio.CancelledError):
            await task
        engine.release()
        await settle()
        stats = mux.stats()
        assert (stats.active, stats.finished, stats.cancelled) == (0, 1, 1)


async def test_an_engine_that_does_not_cancel_keeps_its_slot_and_holds_nobody_up() -> None:
    engine = Deaf({"coder": hold})
    clock = FakeClock()
    async with runtime(engine, clock=clock) as mux:
        task = asyncio.create_task(mux.generate("coder", "x"))
        await settle()
        task.cancel()
        await settle()
        assert not task.done()
        clock.advance(5.0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert mux.stats().active == 1, "the engine still has the turn, so its slot is taken"
        engine.release()
        await settle()
        assert (mux.stats().active, mux.stats().finished) == (0, 1)


async def test_cancelled_twice() -> None:
    engine = Deaf({"coder": hold})
    async with runtime(engine) as mux:
        task = asyncio.create_task(mux.generate("coder", "x"))
        await settle()
        task.cancel()
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        engine.release()
        await settle()
        assert mux.stats().active == 0


async def test_a_turn_that_waits_too_long_fails_with_the_numbers() -> None:
    engine, clock = held_engine(), FakeClock()
    async with runtime(engine, clock=clock) as mux:
        first = asyncio.create_task(mux.run(Coder, "x"))
        await settle()
        second = asyncio.create_task(mux.run(Coder, "y", limits=Limits(queue_wait_s=2)))
        third = asyncio.create_task(mux.run(Coder, "z"))
        await settle()
        clock.advance(1.9)
        await settle()
        assert not second.done()
        clock.advance(0.1)
        with pytest.raises(QueueTimeout, match="model coder is busy: 1 of 1 slots") as caught:
            await second
        assert caught.value.waited_s == pytest.approx(2)
        engine.release()
        await first
        await settle()
        engine.release()
        assert (await third).output == "some text"


async def test_no_time_at_all_still_admits_what_need_not_wait() -> None:
    engine = ScriptedEngine({"coder": ["fine"]})
    async with runtime(engine, limits=Limits(queue_wait_s=0), clock=FakeClock()) as mux:
        assert (await mux.run(Coder, "x")).output == "fine"


async def test_a_failing_turn_frees_its_slot_for_the_next() -> None:
    engine = ScriptedEngine({"coder": [Failure("engine", "boom"), "fine"]})
    async with runtime(engine) as mux:
        first, second = await asyncio.gather(mux.run(Coder, "x"), mux.run(Coder, "y"), return_exceptions=True)
        assert isinstance(first, EngineError)
        assert not isinstance(second, BaseException)
        assert second.output == "fine"
