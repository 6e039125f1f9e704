"""How runs end where it is difficult: cancelled as they end, with odd outputs, with limits that several tasks meet."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from agentmux import (
    Agent,
    ConfigError,
    EngineError,
    Event,
    JournalError,
    LimitExceeded,
    Limits,
    ModelSpec,
    Run,
    RunErrored,
    Runtime,
    TurnCompleted,
    pipeline,
)
from agentmux.engine.base import EngineEvent, TurnRequest
from agentmux.journal import Journal
from agentmux.testing import Answer, Failure, FakeClock, ScriptedEngine, Step, settle
from agentmux.turn import Turn


class Coder(Agent):
    model = "m"
    max_tokens = 10


def hold(_: TurnRequest) -> Step:
    return Answer("some text", hold=True)


class Deaf(ScriptedEngine):
    """Takes no notice of ``cancel`` until it is closed."""

    closing = False

    def cancel(self, turn: int) -> None:
        if self.closing:
            super().cancel(turn)

    def close(self) -> None:
        self.closing = True
        super().close()


def runtime(engine: ScriptedEngine, **settings: Any) -> Runtime:
    return Runtime(models=engine.models, engine=engine, **settings)


async def test_a_run_that_is_cancelled_as_it_ends_is_written_down_and_forgotten(tmp_path: Path) -> None:
    @pipeline
    async def careless(ctx: Run) -> str:
        left.append(asyncio.create_task(ctx.run(Keeper)))
        await settle()
        return "done"

    class Keeper(Agent):
        model = "m"

        async def run(self, ctx: Run) -> Any:
            return await ctx.session.ask("x")

    left: list[asyncio.Task[Any]] = []
    engine = Deaf({"m": hold})
    events = list[Event]()
    clock = FakeClock()
    async with runtime(engine, journal=tmp_path / "journal.db", observers=[events.append], clock=clock) as mux:
        task = asyncio.create_task(mux.run(careless))
        await settle(60)  # the function has returned; the turn that it left behind is waited for
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(events[-1], RunErrored)
        clock.advance(1)
        with Journal.open(tmp_path / "journal.db") as journal:
            assert journal.runs()[0].status == "cancelled"
        assert len(engine.forgotten) == 1
        engine.release()
        with pytest.raises(JournalError, match="has ended"):
            await left[0]  # too late to be kept, so nobody is told that it completed
        assert not any(isinstance(event, TurnCompleted) for event in events)


@pytest.mark.parametrize("odd", ["bytes", "half a character", "itself"])
async def test_an_output_that_is_no_json_is_written_down_all_the_same(tmp_path: Path, odd: str) -> None:
    loop = list[Any]()
    loop.append(loop)
    outputs = {"bytes": b"\xff\xfe", "half a character": "\ud800", "itself": loop}

    @pipeline
    async def odd_output(ctx: Run) -> Any:
        return outputs[odd]

    engine = ScriptedEngine({"m": []})
    async with runtime(engine, journal=tmp_path / "journal.db") as mux:
        result = await mux.run(odd_output)
        assert result.output is outputs[odd]
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.runs()[0].status == "finished"
        assert journal.show(result.run).output


async def test_a_task_left_behind_that_waits_for_room_gets_no_turn_when_the_run_has_ended() -> None:
    left: list[asyncio.Task[Any]] = []

    @pipeline
    async def careless(ctx: Run) -> str:
        left.extend(asyncio.create_task(ctx.run(Coder, text)) for text in ("x", "y"))
        await settle()
        return "done"

    engine = ScriptedEngine({"m": hold})
    async with runtime(engine) as mux:
        await mux.run(careless, limits=Limits(tokens=10))
        async with asyncio.timeout(5):
            for task in left:
                with pytest.raises(EngineError, match="has ended"):
                    await task
        assert all(str(call.prompt).startswith("x") for call in engine.calls)
        assert mux.stats().active == 0


async def test_tasks_that_wait_for_room_do_not_pass_the_limit_on_turns() -> None:
    @pipeline
    async def many(ctx: Run) -> list[Any]:
        return await asyncio.gather(*(ctx.run(Coder, f"{n}") for n in range(5)), return_exceptions=True)

    engine = ScriptedEngine({"m": lambda _: Answer("word", prompt_tokens=1)})
    async with runtime(engine) as mux:
        result = await mux.run(many, limits=Limits(tokens=19, turns=3))
    assert len(engine.calls) == result.usage.turns == 3
    assert sum(isinstance(one, LimitExceeded) for one in result.output) == 2


async def test_what_an_engine_failed_of_stays_visible() -> None:
    class Broken(ScriptedEngine):
        def poll(self) -> list[EngineEvent]:
            if self.calls and not self._closed:
                raise OSError("the device fell off the bus")
            return super().poll()

    engine = Broken({"m": hold}, strict=False)
    async with runtime(engine) as mux:
        errors = await asyncio.gather(*(mux.run(Coder, "x") for _ in range(3)), return_exceptions=True)
    for error in errors:
        assert isinstance(error, EngineError)
        assert "fell off the bus" in str(error)
        assert isinstance(error.__cause__, OSError)
    assert len({error.partial.run for error in errors}) == 3  # type: ignore[union-attr]


async def test_an_event_that_cannot_be_dealt_with_ends_its_turn_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(self: Turn, text: str, *_: object) -> None:
        if "bad" in text:
            raise ZeroDivisionError("oh")

    monkeypatch.setattr(Turn, "stream", stream)
    engine = ScriptedEngine({"m": lambda request: Answer("bad" if "x" in request.prompt else "good", hold=True)})
    models = {"m": ModelSpec("m.gguf", slots=2)}
    async with Runtime(models=models, engine=engine) as mux, asyncio.timeout(10):
        bad, good = (asyncio.create_task(mux.run(Coder, text)) for text in "xy")
        with pytest.raises(EngineError, match="was lost: ZeroDivisionError"):
            await bad
        assert len(engine.cancels) == 1
        engine.release()
        assert (await good).output == "good"
        assert mux.stats().active == 0


async def test_a_run_is_not_taken_up_again_for_what_cannot_be_run(tmp_path: Path) -> None:
    engine = ScriptedEngine({"m": [Failure(), "fine"]})
    async with runtime(engine, journal=tmp_path / "journal.db") as mux:
        with pytest.raises(EngineError) as caught:
            await mux.run(Coder, "x")
        run = caught.value.partial.run
        with pytest.raises(ConfigError, match="neither an Agent"):
            await mux.resume(run, object())
        with pytest.raises(ConfigError, match="arguments that were recorded"):
            await mux.resume(run, None, "y")
        assert (await mux.resume(run, Coder, "x")).output == "fine"


async def test_a_stream_that_is_left_early_leaves_no_error_that_nobody_saw(caplog: pytest.LogCaptureFixture) -> None:
    class Reader(Agent):
        model = "m"

        async def run(self, ctx: Run) -> str:
            async with aclosing(ctx.stream("x")) as pieces:
                async for piece in pieces:
                    await settle()  # the turn has failed by now
                    return piece
            return ""

    engine = ScriptedEngine({"m": [Answer("some text", hold=True)]})

    async def fail() -> None:
        await settle(10)
        (turn,) = engine.held
        engine.cancel(turn)

    async with runtime(engine) as mux:
        failing = asyncio.create_task(fail())
        assert (await mux.run(Reader)).output == "some text"
        await failing
        gc.collect()
        await settle()
    assert "never retrieved" not in caplog.text


async def test_a_group_of_errors_says_what_the_first_of_them_is(tmp_path: Path) -> None:
    @pipeline
    async def together(ctx: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.run(Coder, "x"))

    events = list[Event]()
    engine = ScriptedEngine({"m": [Failure(message="the disk fell off")]})
    async with runtime(engine, journal=tmp_path / "journal.db", observers=[events.append]) as mux:
        with pytest.raises(ExceptionGroup):
            await mux.run(together)
    with Journal.open(tmp_path / "journal.db") as journal:
        noted = journal.runs()[0].error
    assert isinstance(events[-1], RunErrored)
    assert noted == events[-1].error
    assert noted.endswith("(1 sub-exception): EngineError: the disk fell off")
