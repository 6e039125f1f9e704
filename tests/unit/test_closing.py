"""A runtime that is closed, whatever is under way: every run and turn ends, and the engine is closed after them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentmux import AgentErrored, EngineError, Event, Run, RunErrored, TurnCancelled, pipeline
from agentmux.engine.base import EngineEvent, Footprint, LoadSpec, TurnFinished, TurnRequest
from agentmux.testing import FakeClock, ScriptedEngine, settle
from tests.unit.held_engine import Coder, Deaf, collect, held_engine, hold, runtime


async def test_runs_and_turns_end_when_the_runtime_is_closed() -> None:
    engine = held_engine()
    events: list[Event] = []
    async with runtime(engine) as mux:
        decoding = asyncio.create_task(collect(mux, events, Coder, "x"))
        await settle()
        waiting = asyncio.create_task(mux.run(Coder, "y"))
        raw = asyncio.create_task(mux.generate("coder", "z"))
        await settle()
    for task in (decoding, waiting):
        with pytest.raises(EngineError, match="the runtime was closed while the run was under way"):
            await task
    with pytest.raises(EngineError, match="was cancelled"):
        await raw
    assert [type(event) for event in events[-3:]] == [TurnCancelled, AgentErrored, RunErrored]


async def test_a_turn_that_the_engine_forgets_ends_too() -> None:
    class Forgetful(Deaf):
        def poll(self) -> list[EngineEvent]:
            return [event for event in super().poll() if not isinstance(event, TurnFinished)]

    engine = Forgetful({"coder": hold})
    async with runtime(engine, clock=(clock := FakeClock())) as mux:
        raw = asyncio.create_task(mux.generate("coder", "x"))
        await settle()
        del clock
    with pytest.raises(EngineError, match="was cancelled"):
        await raw


async def test_a_turn_that_has_just_finished_keeps_its_answer() -> None:
    engine = held_engine()
    async with runtime(engine) as mux:
        raw = asyncio.create_task(mux.generate("coder", "x"))
        await settle()
        engine.release()
    assert (await raw).text == "some text"


async def test_a_run_that_waits_for_what_it_left_behind_ends_too() -> None:
    left: list[asyncio.Task[Any]] = []

    @pipeline
    async def careless(ctx: Run) -> None:
        left.append(asyncio.create_task(ctx.run(Coder, "x")))
        await settle()

    async with runtime(Deaf({"coder": hold}), clock=FakeClock()) as mux:
        task = asyncio.create_task(mux.run(careless))
        await settle(60)
        assert not task.done()
    with pytest.raises(EngineError, match="the runtime was closed"):
        await task
    with pytest.raises(EngineError, match="was cancelled"):
        await left[0]


async def test_an_engine_that_fails_to_close_still_ends_the_turns() -> None:
    class Sticky(ScriptedEngine):
        def close(self) -> None:
            super().close()
            raise EngineError("cannot let go")

    engine = Sticky({"coder": hold})
    mux = runtime(engine)
    await mux.__aenter__()
    raw = asyncio.create_task(mux.generate("coder", "x"))
    await settle()
    with pytest.raises(EngineError, match="cannot let go"):
        await mux.__aexit__(None, None, None)
    with pytest.raises(EngineError, match="was cancelled"):
        await raw


async def test_an_error_in_the_body_is_the_one_that_is_raised() -> None:
    class Sticky(ScriptedEngine):
        def close(self) -> None:
            super().close()
            raise EngineError("cannot let go")

    tasks = []

    async def body() -> None:
        async with runtime(Sticky({"coder": hold})) as mux:
            tasks.append(asyncio.create_task(mux.run(Coder, "x")))
            await settle()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()
    with pytest.raises(EngineError):
        await tasks[0]


async def test_the_body_is_cancelled_as_by_ctrl_c() -> None:
    engine = held_engine()
    inside = asyncio.Event()

    async def body() -> None:
        async with runtime(engine) as mux:
            inside.set()
            await mux.run(Coder, "x")

    task = asyncio.create_task(body())
    await inside.wait()
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.cancels == [1]
    with pytest.raises(EngineError):
        engine.submit(TurnRequest(2, "coder", "x"))


async def test_cancelled_while_a_model_loads() -> None:
    loading, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(ScriptedEngine):
        closed_during_load = False
        in_load = False

        def load(self, spec: LoadSpec) -> Footprint:
            self.in_load = True
            loop.call_soon_threadsafe(loading.set)
            go_on.wait()
            self.in_load = False
            return super().load(spec)

        def close(self) -> None:
            self.closed_during_load |= self.in_load
            super().close()

    engine = Slow({"coder": []})

    async def body() -> None:
        async with runtime(engine):
            raise AssertionError("not reached")

    task = asyncio.create_task(body())
    await loading.wait()
    task.cancel()
    await settle()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not engine.closed_during_load
    with pytest.raises(EngineError):
        engine.load(LoadSpec("coder", "coder.gguf"))
