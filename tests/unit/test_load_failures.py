"""Models that could not be loaded: who is told, and when they are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agentmux import (
    Agent,
    ConfigError,
    EngineError,
    ModelCorrupt,
    ModelUnsupported,
    NeverFits,
    Run,
    Runtime,
    pipeline,
)
from agentmux.testing import FakeClock, settle
from tests.unit.loads import PATIENCE_S, HeldLoads, opened

NAMES = ("first", "second", "third")


class Second(Agent):
    model = "second"


async def test_who_looks_first_is_told_of_a_failure_for_a_minute() -> None:
    """Each attempt takes the device from others: clients of a server must not have one made at each request."""
    clock = FakeClock()
    engine = HeldLoads(NAMES, free=NAMES, errors={"second": NeverFits("too large", needed_bytes=9)})
    async with opened(engine, clock=clock) as mux:
        await mux.load("third")
        for _ in range(2):
            with pytest.raises(NeverFits, match="too large") as refused:
                mux.check("second")
            assert refused.value.numbers == {"needed_bytes": 9}
        clock.advance(60)
        mux.check("second")
        with pytest.raises(NeverFits):
            await mux.generate("second", "x")
        assert engine.begun.count("second") == 2
        with pytest.raises(NeverFits):
            mux.check("second")
        engine.errors.clear()
        await mux.load("second")
        mux.check("second")


async def test_turns_have_the_error_of_a_failed_attempt_for_a_minute() -> None:
    """Of agents and pipelines too, which nobody can look into before they run."""

    @pipeline
    async def asks(ctx: Run) -> str:
        return await ctx.run(Second, "x")

    clock = FakeClock()
    engine = HeldLoads(NAMES, free=NAMES, errors={"second": NeverFits("too large", needed_bytes=9)})
    async with opened(engine, clock=clock) as mux:
        await mux.load("third")
        turns: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: mux.run(Second, "x"),
            lambda: mux.run(asks),
            lambda: mux.generate("second", "x"),
            lambda: mux.vocabulary("second"),
        )
        for attempts in (1, 2):
            for turn in turns:
                with pytest.raises(NeverFits, match="too large") as refused:
                    await turn()
                assert refused.value.numbers == {"needed_bytes": 9}
            assert engine.begun.count("second") == attempts
            clock.advance(60)
            engine.errors.clear() if attempts == 2 else await _fails(mux.run(Second, "x"))
        assert (await mux.run(Second, "x")).output == "second says"


@pytest.mark.parametrize("error", [EngineError("the device is gone"), OSError("no such device")], ids=repr)
async def test_a_failure_that_may_pass_leads_to_another_attempt_unasked(error: Exception) -> None:
    clock = FakeClock()
    engine = HeldLoads(NAMES, free=NAMES, errors={"second": error})
    async with opened(engine, clock=clock) as mux:
        await mux.load("third")
        for attempts, minutes in enumerate((1, 2, 4, 8, 16, 16), 1):
            assert engine.begun.count("second") == attempts
            clock.advance(60 * minutes - 1)
            assert mux.stats().loading == ()
            clock.advance(1)
            assert mux.stats().loading == ("second",)
            assert mux.stats().load_errors == {"second": str(error)}
            await _settled(mux)
        assert await _fails(mux.load("second"), type(error)), "whoever asks puts the next one off"
        clock.advance(16 * 60 - 1)
        assert mux.stats().loading == ()
        engine.errors.clear()
        clock.advance(1)
        await _settled(mux)
        assert mux.stats().load_errors == {}
        assert mux.footprint("second").model == "second"
        assert clock.next_call_s is None


@pytest.mark.parametrize("error", [ModelCorrupt("a"), ModelUnsupported("b"), NeverFits("c"), ConfigError("d")])
async def test_what_the_engine_finds_of_the_model_itself_is_final(error: Exception) -> None:
    clock = FakeClock()
    async with opened(HeldLoads(NAMES, free=NAMES, errors={"second": error}), clock=clock) as mux:
        await mux.load("third")
        assert mux.stats().load_errors == {"second": str(error)}
        assert clock.next_call_s is None


async def test_no_attempt_is_planned_any_more_once_the_runtime_is_closed() -> None:
    clock = FakeClock()
    engine = HeldLoads(NAMES, free={"first", "second"}, errors={name: EngineError("gone") for name in NAMES[1:]})
    async with opened(engine, clock=clock) as mux:
        await engine.begins("third")
        assert clock.next_call_s == 60
        closing = asyncio.create_task(mux._opened().close())
        await settle()
        assert clock.next_call_s is None
        engine.let("third")
        await closing
        assert clock.next_call_s is None, "what fails meanwhile is not tried again either"


async def _settled(mux: Runtime) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while mux.stats().loading:
            await settle(1)


async def _fails(turn: Awaitable[object], kind: type[Exception] = NeverFits) -> bool:
    with pytest.raises(kind):
        await turn
    return True
