"""Property: in whatever order models are there or fail, and turns come, are cancelled and end, each turn ends once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux import (
    Agent,
    AgentmuxError,
    EngineError,
    Event,
    ModelCorrupt,
    ModelError,
    ModelNotFound,
    Runtime,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnQueued,
)
from agentmux.testing import FakeClock, settle
from tests.unit.loads import PATIENCE_S, HeldLoads

NAMES = ("one", "two", "three", "four")
ENDS = (TurnCompleted, TurnCancelled, TurnErrored)
AGENTS: dict[str, type[Agent]] = {name: type(name.title(), (Agent,), {"model": name}) for name in NAMES}

Step = st.one_of(
    st.tuples(st.just("begin"), st.tuples(st.sampled_from(["run", "generate", "load"]), st.sampled_from(NAMES))),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("let"), st.sampled_from(NAMES)),
    st.tuples(st.just("break"), st.sampled_from(NAMES)),
    st.tuples(st.just("mend"), st.sampled_from(NAMES)),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("advance"), st.sampled_from([30, 60, 120])),
    st.tuples(st.just("arrive"), st.just(None)),
    st.tuples(st.just("leave"), st.just(None)),
)


class World:
    """A runtime that waits for the first of its models, and what was seen of it."""

    def __init__(self, held: bool, far: bool) -> None:
        self.clock = FakeClock()
        self.far = far
        """Files have to be looked for, and are prepared."""
        self.turns = Counter[int]()
        self.engine = HeldLoads(NAMES, free={"one"}, hold=NAMES if held else ())
        self.mux = Runtime(
            self.engine.models,
            engine=self.engine,
            clock=self.clock,
            queue_limit=3,
            wait_for_models="first",
            observers=[self._see],
        )
        self.tasks: list[asyncio.Task[Any]] = []

    def _see(self, event: Event) -> None:
        if isinstance(event, TurnQueued):
            self.turns[event.turn] += 0
        elif isinstance(event, ENDS):
            self.turns[event.turn] += 1

    async def play(self, steps: list[tuple[str, Any]]) -> None:
        """Do all that, then let everything come to its end, and look."""
        before = asyncio.all_tasks()
        async with self.mux:
            if self.far:
                models = self.mux._opened().models
                models._at_hand, models.prepare = {}, lambda spec, is_given_up: None
            for kind, given_ in steps:
                if kind == "leave":
                    break
                await self._step(kind, given_)
            else:
                await self._finish()
                self._check()
            for name in NAMES:  # what is under way is waited for
                self.engine.let(name)
        outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        for outcome in outcomes:
            assert not isinstance(outcome, Exception) or isinstance(outcome, AgentmuxError), outcome
        assert set(self.turns.values()) <= {1}
        assert self.engine.closed_during_load is False
        assert len(set(self.engine.loaded)) == len(self.engine.loaded)
        await settle()
        assert asyncio.all_tasks() == before, "nothing is left over"
        assert self.clock.next_call_s is None

    async def _step(self, kind: str, what: Any) -> None:
        engine, tasks = self.engine, self.tasks
        if kind == "begin":
            tasks.append(asyncio.create_task(self._begun(*what)))
        elif kind == "cancel" and what < len(tasks):
            tasks[-1 - what].cancel()
        elif kind == "let":
            engine.let(what)
        elif kind == "break" and what != "one":
            engine.errors[what] = (ModelCorrupt if what == "two" else ModelNotFound)(f"{what} is damaged")
        elif kind == "mend":
            engine.errors.pop(what, None)
        elif kind == "release" and what < len(engine.held):
            engine.release(engine.held[what])
        elif kind == "wait":
            await settle(what)
        elif kind == "advance":
            self.clock.advance(what)
        elif kind == "arrive":
            await self._arrive()

    async def _begun(self, how: str, name: str) -> object:
        if how == "run":
            return await self.mux.run(AGENTS[name], "x")
        return await (self.mux.generate(name, "x") if how == "generate" else self.mux.load(name))

    async def _arrive(self) -> None:
        """Until what was let go on in its thread has come back to the loop."""
        while any(self.engine.may(name) for name in self.mux.stats().loading[:1]):
            await settle(1)

    async def _finish(self) -> None:
        for name in NAMES:
            self.engine.let(name)
        while not all(task.done() for task in self.tasks) or self.mux.stats().loading:
            await self._arrive()
            await settle(5)
            if self.engine.held:
                self.engine.release()

    def _check(self) -> None:
        stats, core = self.mux.stats(), self.mux._opened()
        assert (stats.active, stats.queued) == (0, 0)
        assert stats.loading == ()
        assert core.models.waiting == 0
        assert set(core.models.footprints) == set(self.engine.loaded)
        assert set(core.models.footprints) | set(stats.load_errors) == set(NAMES)
        assert core.scheduler._ledger.active == 0
        for task in self.tasks:
            if not task.cancelled() and isinstance(error := task.exception(), ModelError):
                assert "is damaged" in str(error)
            assert task.cancelled() or not isinstance(task.exception(), EngineError)


@settings(max_examples=200, deadline=None)
@given(st.lists(Step, max_size=30), st.booleans(), st.booleans())
def test_every_turn_ends_once_whatever_becomes_of_its_model(
    steps: list[tuple[str, Any]], held: bool, far: bool
) -> None:
    async def play() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await World(held, far).play(steps)

    asyncio.run(play())
