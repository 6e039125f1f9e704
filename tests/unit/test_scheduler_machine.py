"""The scheduler under everything at once, in any order: each turn ends once, and no lease is lost."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentmux.engine.base import TurnRequest
from agentmux.errors import EngineError
from agentmux.scheduler import Policy
from agentmux.testing import Answer, Failure, settle
from agentmux.testing.scripted import Step
from agentmux.turn import Turn
from tests.unit.scheduler_world import ENDS, World


class Flaky(World):
    """Turns stay until they are let go; some fail at once, some are refused."""

    def _answer(self, request: TurnRequest) -> Step:  # type: ignore[override]
        if request.turn % 11 == 7:
            raise EngineError("refused")
        return Failure() if request.turn % 11 == 3 else Answer("x", hold=True)


class Anything(RuleBasedStateMachine):
    @initialize(slots=st.integers(1, 2), arena=st.sampled_from([100, 150, 250]), limit=st.sampled_from([3, 1000]))
    def begin(self, slots: int, arena: int, limit: int) -> None:
        self.loop = asyncio.new_event_loop()
        weights = {"a": 100, "b": 60, "c": 60}
        policy = Policy(max_wait_s=10, min_residency_s=1)
        self.world = Flaky(weights, dict.fromkeys(weights, slots), arena, policy, queue_limit=limit)
        self.turns: list[Turn] = []
        self.closed = self.draining = False
        self.loop.add_reader(self.world.engine.fileno(), self.world.drain)
        self.tasks = [self.loop.create_task(self.world.scheduler.run())]

    def settle(self) -> None:
        self.loop.run_until_complete(settle(8))

    @rule(
        model=st.sampled_from("aabbc"),
        run=st.sampled_from(["", "r", "s"]),
        priority=st.integers(-1, 1),
        wait_s=st.none() | st.floats(0, 20),
        at_once=st.booleans(),
    )
    def submit(self, model: str, run: str, priority: int, wait_s: float | None, at_once: bool) -> None:
        turn = self.world.submit(len(self.turns), model, 1e9, run, priority=priority, queue_wait_s=wait_s)
        self.turns.append(turn)
        assert not (self.closed or self.draining) or turn.state == "failed"
        if at_once:
            self.settle()

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0, 5.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.settle()

    @precondition(lambda self: self.world.engine.held)
    @rule(data=st.data(), settled=st.booleans())
    def finish(self, data: st.DataObject, settled: bool) -> None:
        self.world.engine.release(data.draw(st.sampled_from(self.world.engine.held)))
        if settled:
            self.settle()

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), settled=st.booleans())
    def cancel(self, data: st.DataObject, settled: bool) -> None:
        self.world.scheduler.cancel(data.draw(st.sampled_from(self.turns)))
        if settled:
            self.settle()

    @precondition(lambda self: not self.closed and "c" in self.world.ledger.models)
    @rule()
    def retire(self) -> None:
        self.world.scheduler.retire("c")

    @precondition(lambda self: not self.draining and len(self.turns) > 5)
    @rule()
    def drain(self) -> None:
        self.draining = True
        self.tasks.append(self.loop.create_task(self.world.scheduler.drain()))
        self.settle()

    @precondition(lambda self: not self.closed and len(self.turns) > 8)
    @rule(lost=st.booleans())
    def close(self, lost: bool) -> None:
        self.closed = True
        self.world.scheduler.close(EngineError("lost") if lost else None)
        assert all(turn.has_ended for turn in self.turns)

    @invariant()
    def leases_are_those_of_turns_with_a_slot(self) -> None:
        scheduler, ledger = self.world.scheduler, self.world.ledger
        assert ledger.active == scheduler.active
        states = Counter(turn.state for turn in self.turns)
        assert (states["queued"], states["parked"]) == (scheduler.queued, scheduler.parked)
        assert states["active"] == scheduler.active
        ends = Counter(event.turn for event in self.world.events if isinstance(event, ENDS))
        assert ends == Counter(turn.id for turn in self.turns if turn.has_ended)
        assert sum(scheduler.ends.values()) == len(ends)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.come_to_an_end()
        finally:
            self.world.scheduler.close()
            self.loop.run_until_complete(asyncio.wait_for(asyncio.gather(*self.tasks), 10))
            self.loop.remove_reader(self.world.engine.fileno())
            self.world.engine.close()
            self.loop.close()

    def come_to_an_end(self) -> None:
        scheduler = self.world.scheduler
        for _ in range(20 * len(self.turns) + 20):
            self.settle()
            if not self.closed and self.world.engine.held:
                self.world.engine.release(self.world.engine.held[0])
            elif scheduler.queued + scheduler.active + scheduler.parked == 0:
                break
            else:
                self.world.clock.advance(1)
        assert all(turn.has_ended for turn in self.turns), "left alone, everything comes to its end"
        self.leases_are_those_of_turns_with_a_slot()


Anything.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnything = Anything.TestCase
