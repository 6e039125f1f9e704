"""Models that are loaded while others are at work: cancelled, failing, and as the runtime closes."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentmux import (
    Agent,
    EngineError,
    LimitExceeded,
    Limits,
    ModelCorrupt,
    ModelSpec,
    Run,
    Runtime,
    ToolError,
    pipeline,
    tool,
)
from agentmux.engine.base import Footprint, LoadSpec
from agentmux.testing import FakeClock, ScriptedEngine, settle


class Slow(ScriptedEngine):
    """Its model ``late`` is loaded when it is let go on, or fails then."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__({"m": lambda _: "text", "late": lambda _: "late text"})
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.broken = broken
        self.done = list[str]()

    def load(self, spec: LoadSpec) -> Footprint:
        if spec.model == "late":
            self.begun.release()
            self.go_on.wait(30)
            if self.broken:
                raise ModelCorrupt("the file is damaged")
        footprint = super().load(spec)
        self.done.append(spec.model)
        return footprint

    def close(self) -> None:
        self.done.append("closed")
        super().close()

    async def begins(self) -> None:
        """A load has begun, in its thread."""
        await asyncio.to_thread(self.begun.acquire)


class Late(Agent):
    model = "late"


async def opened(engine: Slow, **settings: Any) -> Runtime:
    """A runtime with the model ``m``, which finds ``late`` when it is asked for."""
    mux = await Runtime(models={"m": "m.gguf"}, engine=engine, **settings).__aenter__()
    mux._opened().models._find = lambda name: ModelSpec(f"{name}.gguf")
    return mux


async def test_a_load_whose_asker_was_cancelled_is_booked_and_found_by_the_next_one() -> None:
    engine = Slow()
    mux = await opened(engine)
    try:
        first = asyncio.create_task(mux.run(Late, "x"))
        await engine.begins()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first  # at once: the load is still under way
        assert engine.done == ["m"]
        second = asyncio.create_task(mux.run(Late, "x"))
        await settle()
        engine.go_on.set()
        assert (await second).output == "late text"
        assert engine.done == ["m", "late"]
        assert mux.footprint("late").model == "late"
    finally:
        engine.go_on.set()
        await mux.__aexit__(None, None, None)


async def test_each_who_asks_for_a_broken_model_has_an_error_of_its_own() -> None:
    engine = Slow(broken=True)
    engine.go_on.set()
    mux = await opened(engine)
    try:
        results = await asyncio.gather(*(mux.run(Late, "x") for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, ModelCorrupt) for error in results)
        assert len({id(error) for error in results}) == 3
        assert len({error.partial.run for error in results}) == 3  # type: ignore[union-attr]
        engine.broken = False
        with pytest.raises(ModelCorrupt):
            await mux.run(Late, "x")  # turns cause no attempt for a minute
        assert await mux.load("late") == mux.footprint("late")
        assert (await mux.run(Late, "x")).output == "late text"
    finally:
        await mux.__aexit__(None, None, None)


async def test_a_run_is_ended_by_its_time_limit_while_its_model_is_loaded() -> None:
    engine = Slow()
    clock = FakeClock()
    mux = await opened(engine, clock=clock)
    try:
        task = asyncio.create_task(mux.run(Late, "x", limits=Limits(wall_s=3)))
        await engine.begins()
        clock.advance(3)
        with pytest.raises(LimitExceeded, match="longer than 3"):
            await task
    finally:
        engine.go_on.set()
        await mux.__aexit__(None, None, None)


@pytest.mark.parametrize("impatient", [False, True])
async def test_the_engine_is_closed_after_what_is_being_loaded(impatient: bool) -> None:
    engine = Slow()
    mux = await opened(engine)
    task = asyncio.create_task(mux.run(Late, "x"))
    await engine.begins()
    closing = asyncio.create_task(mux.__aexit__(None, None, None))
    with pytest.raises(EngineError, match="closed"):
        await task
    if impatient:
        closing.cancel()
        await settle()
        closing.cancel()
        await settle()
    assert engine.done == ["m"]
    engine.go_on.set()
    if impatient:
        with pytest.raises(asyncio.CancelledError):
            await closing
    else:
        await closing
    assert engine.done == ["m", "late", "closed"]


async def test_closing_does_not_wait_for_a_download() -> None:
    engine, downloading, go_on = Slow(), threading.Event(), threading.Event()
    mux = await opened(engine)

    def download(name: str) -> ModelSpec:
        downloading.set()
        assert go_on.wait(30)
        raise ModelCorrupt("nobody is left to hear of it")

    mux._opened().models._find = download
    task = asyncio.create_task(mux.run(Late, "x"))
    await asyncio.to_thread(downloading.wait, 30)
    await mux.__aexit__(None, None, None)
    go_on.set()
    with pytest.raises(EngineError, match="closed"):
        await task
    assert engine.done == ["m", "closed"]


async def test_tools_that_hang_keep_nothing_from_being_loaded_and_closed() -> None:
    hangs = threading.Event()

    @tool(timeout_s=0.001)
    def hang() -> str:
        hangs.wait(60)
        return ""

    @pipeline
    async def work(ctx: Run) -> str:
        with pytest.raises(ToolError, match="took longer"):
            await ctx.call(hang)
        text: str = await ctx.run(Late, "x")
        return text

    with ThreadPoolExecutor(max_workers=1) as pool:  # what asyncio's own would be once tools have taken most of it
        asyncio.get_running_loop().set_default_executor(pool)
        engine = Slow()
        engine.go_on.set()
        mux = await opened(engine)
        try:
            async with asyncio.timeout(10):
                assert (await mux.run(work)).output == "late text"
                await mux.__aexit__(None, None, None)
        finally:
            hangs.set()
    assert engine.done == ["m", "late", "closed"]
