"""The first turn before the last model: models that are loaded in the background, while others are at work."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress

import pytest
import structlog

from agentmux import (
    Agent,
    AgentmuxError,
    EngineError,
    ModelCorrupt,
    ModelNotFound,
    NeverFits,
    QueueFull,
    Run,
    Runtime,
    pipeline,
    sequence,
)
from agentmux.engine.base import Footprint, LoadSpec
from agentmux.log import configure
from agentmux.testing import ScriptedEngine, settle
from tests.unit.loads import HeldLoads, opened


class First(Agent):
    model = "first"


class Second(Agent):
    model = "second"


class Third(Agent):
    model = "third"


NAMES = ("first", "second", "third")


async def test_the_first_turn_ends_before_the_last_model_is_there() -> None:
    engine = HeldLoads(NAMES, free={"first"})
    async with opened(engine) as mux:
        await engine.begins("second")
        assert (await mux.run(First, "x")).output == "first says"
        assert engine.loaded == ["first"]
        assert mux.stats().loading == ("second", "third")
        engine.let("second")
        assert (await mux.run(Second, "x")).output == "second says"
        assert engine.begun == ["first", "second", "third"], "in their order"
        engine.let("third")
        assert (await mux.load("third")).model == "third"
        assert mux.stats().loading == ()


async def test_all_are_waited_for_unless_asked_otherwise() -> None:
    engine = HeldLoads(NAMES, free={"first", "second"})
    entering = asyncio.create_task(Runtime(models=engine.models, engine=engine).__aenter__())
    await engine.begins("third")
    await settle()
    assert not entering.done()
    engine.let("third")
    mux = await entering
    assert mux.stats().loading == ()
    await mux.__aexit__(None, None, None)


async def test_a_model_that_a_turn_waits_for_goes_before_those_that_nobody_waits_for() -> None:
    engine = HeldLoads(("first", "a", "b", "c", "d"), free={"first"})
    async with opened(engine) as mux:
        await engine.begins("a")
        tasks = [asyncio.create_task(mux.generate(model, "x")) for model in ("d", "c", "d")]
        await settle()
        assert mux.stats().loading == ("a", "d", "c", "b")
        for model in ("a", "d", "c", "b"):
            await engine.begins(model)
            engine.let(model)
        assert [one.text for one in await asyncio.gather(*tasks)] == ["d says", "c says", "d says"]
        await mux.load("b")
        assert engine.begun == ["first", "a", "d", "c", "b"]


async def test_whoever_stops_waiting_gives_its_place_back() -> None:
    engine = HeldLoads(NAMES, free={"first"})
    async with opened(engine) as mux:
        await engine.begins("second")
        waits = asyncio.create_task(mux.generate("third", "x"))
        await settle()
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert mux.stats().loading == ("second", "third"), "it is still loaded, in its turn"
        for model in ("second", "third"):
            engine.let(model)
            await mux.load(model)


async def test_the_turns_that_wait_for_a_broken_model_fail_and_others_go_on() -> None:
    engine = HeldLoads(NAMES, free={"first"}, errors={"second": NeverFits("too large", needed_bytes=9)})
    async with opened(engine) as mux:
        await engine.begins("second")
        waiting = [asyncio.create_task(mux.run(Second, "x")) for _ in range(3)]
        await settle()
        engine.let("second")
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [NeverFits] * 3
        assert len({id(error) for error in errors}) == 3, "each has one of its own"
        assert errors[0].numbers == {"needed_bytes": 9}  # type: ignore[union-attr]
        assert engine.begun.count("second") == 1, "all have the error of one attempt"
        assert mux.stats().load_errors == {"second": "too large"}
        engine.let("third")
        assert (await mux.run(First, "x")).output == "first says"
        assert (await mux.run(Third, "x")).output == "third says"
        engine.errors.clear()
        await mux.load("second")
        assert (await mux.run(Second, "x")).output == "second says", "another attempt for whoever asks for it"
        assert mux.stats().load_errors == {}


class Peculiar(Exception):
    """Cannot be made from its arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


async def test_an_error_that_is_none_of_ours_reaches_all_who_wait() -> None:
    engine = HeldLoads(NAMES, free={"first", "third"}, errors={"second": Peculiar("most", "odd")})
    async with opened(engine) as mux:
        waiting = [asyncio.create_task(mux.generate("second", "x")) for _ in range(2)]
        await settle()
        engine.let("second")
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [Peculiar, EngineError]
        assert [str(error) for error in errors] == ["most odd", "most odd"]


async def test_a_broken_model_that_nobody_asks_for_is_a_warning() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    try:
        await _with_a_broken_model()
    finally:
        structlog.reset_defaults()
    (told,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (told["level"], told["model"], told["error"]) == ("warning", "second", "the file is damaged")


async def _with_a_broken_model() -> None:
    engine = HeldLoads(NAMES, free=set(NAMES), errors={"second": ModelCorrupt("the file is damaged")})
    async with opened(engine) as mux:
        await mux.load("third")
        assert (await mux.run(First, "x")).output == "first says"
        with pytest.raises(ModelNotFound, match="model second is not loaded: the file is damaged"):
            mux.footprint("second")


async def test_what_the_body_raises_is_seen_whatever_becomes_of_a_load() -> None:
    engine = HeldLoads(NAMES, free={"first"}, errors={"second": ModelCorrupt("the file is damaged")})

    async def body() -> None:
        async with opened(engine):
            await engine.begins("second")
            engine.let("second")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()
    assert engine.begun == ["first", "second"]


async def test_leaving_begins_no_further_load_and_waits_for_the_one_under_way() -> None:
    engine = HeldLoads(("first", "a", "b"), free={"first"})
    mux = await opened(engine).__aenter__()
    await engine.begins("a")
    waits = asyncio.create_task(mux.generate("b", "x"))
    runs = asyncio.create_task(mux.run(First, "y"))
    await runs
    closing = asyncio.create_task(mux.__aexit__(None, None, None))
    with pytest.raises(EngineError, match="the runtime is closed: model b is not loaded any more"):
        await waits
    await settle()
    assert not closing.done()
    engine.let("a")
    await closing
    assert engine.begun == ["first", "a"]
    assert engine.loaded == ["first", "a"]
    assert engine.closed_during_load is False


@pytest.mark.parametrize("cancelled", [False, True])
async def test_entering_fails_or_is_cancelled_with_the_first_model(cancelled: bool) -> None:
    engine = HeldLoads(NAMES, errors={} if cancelled else {"first": ModelCorrupt("the file is damaged")})
    entering = asyncio.create_task(opened(engine).__aenter__())
    await engine.begins("first")
    if cancelled:
        entering.cancel()
        await settle()
    assert not entering.done()
    engine.let("first")
    with pytest.raises(asyncio.CancelledError if cancelled else ModelCorrupt):
        await entering
    assert engine.begun == ["first"]
    assert engine.is_closed
    assert engine.closed_during_load is False


async def test_the_successor_is_hinted_once_it_is_there_and_not_before() -> None:
    engine = HeldLoads(NAMES, free={"first"}, hold={"first"})
    async with opened(engine) as mux:
        await engine.begins("second")
        running = asyncio.create_task(mux.run(sequence(First, Second), "x"))
        await settle()
        assert engine.held, "the first turn is under way"
        assert engine.prefetches == []
        engine.let("second")
        await mux.load("second")
        await settle()
        assert engine.prefetches == ["second"], "while the first turn still runs"
        engine.release()
        assert (await running).output == "second says"
        engine.let("third")


async def test_a_turn_that_had_no_room_starts_when_a_load_makes_the_arena_larger() -> None:
    """The arena grows with the models up to the budget: what is decided is decided anew."""

    class Growing(HeldLoads):
        def load(self, spec: LoadSpec) -> Footprint:
            footprint = super().load(spec)
            self._arena_bytes = 100 * max(1, len(self.loaded) - 1)
            return footprint

    engine = Growing(NAMES, free={"first", "second"}, hold={"first", "second"})
    engine._arena_bytes = 100
    async with opened(engine) as mux:
        await mux.load("second")
        await engine.begins("third")
        tasks = [asyncio.create_task(mux.generate(model, "x")) for model in ("first", "second")]
        await settle()
        assert (mux.stats().active, mux.stats().queued) == (1, 1)
        engine.let("third")
        await mux.load("third")
        await settle()
        assert (mux.stats().active, mux.stats().queued) == (2, 0)
        while engine.held:
            engine.release()
            await settle()
        await asyncio.gather(*tasks)


async def test_as_many_may_wait_for_models_as_may_wait() -> None:
    engine = HeldLoads(NAMES, free={"first"})
    async with opened(engine, queue_limit=2) as mux:
        mux.check("second")
        tasks = [asyncio.create_task(mux.generate(model, "x")) for model in ("second", "third")]
        await settle()
        with pytest.raises(QueueFull, match="2 of 2 wait already for models to be loaded") as refused:
            mux.check("second")
        assert refused.value.numbers == {"queued": 2, "queue_limit": 2, "retry_after_s": 0}
        mux.check("first")
        with pytest.raises(ModelNotFound, match="no model named 'fourth'"):
            mux.check("fourth")
        for model in ("second", "third"):
            engine.let(model)
        await asyncio.gather(*tasks)
        mux.check("second")


async def test_agents_of_one_run_on_models_that_come_one_after_the_other() -> None:
    @pipeline
    async def all_of_them(ctx: Run) -> list[str]:
        return [await ctx.run(agent, "x") for agent in (Third, First, Second)]

    engine = HeldLoads(NAMES, free={"first"})
    async with opened(engine) as mux:
        await engine.begins("second")
        running = asyncio.create_task(mux.run(all_of_them))
        engine.let("second")
        await engine.begins("third")
        engine.let("third")
        assert (await running).output == ["third says", "first says", "second says"]


async def test_no_models_at_all() -> None:
    engine = ScriptedEngine({})
    async with Runtime(models={}, engine=engine, wait_for_models="first") as mux:
        assert mux.stats().loading == ()


async def test_a_loop_that_ends_all_its_tasks() -> None:
    engine = HeldLoads(NAMES, free={"first"})
    mux = await opened(engine).__aenter__()
    await engine.begins("second")
    waits = asyncio.create_task(mux.generate("third", "x"))
    await settle()
    loading = next(task for task in asyncio.all_tasks() if "loads second" in task.get_name())
    loading.cancel()
    engine.let("second")
    with pytest.raises(EngineError, match="closed"):
        await waits
    with suppress(AgentmuxError):
        await mux.__aexit__(None, None, None)
    assert engine.begun == ["first", "second"]
