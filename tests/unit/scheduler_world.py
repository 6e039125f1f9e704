"""A scheduler over a scripted engine, on a fake clock: a small world in which turns take time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agentmux.admission import Ledger
from agentmux.engine.base import (
    Footprint,
    LoadProgress,
    LoadSpec,
    TurnFailed,
    TurnFinished,
    TurnParked,
    TurnRequest,
    TurnResumed,
)
from agentmux.errors import EngineError, from_code
from agentmux.messages import Completion, Event, TurnAdmitted, TurnCancelled, TurnCompleted, TurnErrored, TurnNumbers
from agentmux.scheduler import Policy, Scheduler
from agentmux.testing import Answer, FakeClock, ScriptedEngine, settle
from agentmux.turn import Turn, TurnSpec

ENDS = (TurnCompleted, TurnCancelled, TurnErrored)


@dataclass
class World:
    """A scheduler over a scripted engine whose turns take ``durations_s`` each."""

    weights: dict[str, int]
    slots: dict[str, int]
    arena: int = 100
    policy: Policy = field(default_factory=Policy)
    refused: frozenset[int] = frozenset()
    queue_limit: int = 1024

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.admitted: list[tuple[float, int, str]] = []
        self.active: Counter[str] = Counter()
        self.left_s: dict[int, float] = {}
        self.since_s: dict[int, float] = {}
        self.parked: list[tuple[float, int]] = []
        self.resumed: list[tuple[float, int]] = []
        self.engine = ScriptedEngine(
            {model: self._answer for model in self.weights}, weight_bytes=self.weights, arena_bytes=self.arena
        )
        self.footprints: dict[str, Footprint] = {
            model: self.engine.load(LoadSpec(model, "", slots=self.slots[model])) for model in self.weights
        }
        self.ledger = Ledger(
            self.footprints, arena_bytes=self.arena, budget_bytes=self.arena, queue_limit=self.queue_limit
        )
        self.scheduler = Scheduler(self.engine, self.ledger, self.clock, self.policy)

    def _answer(self, request: TurnRequest) -> Answer:
        if request.turn in self.refused:
            raise EngineError("refused")
        return Answer("x", hold=True)

    def submit(self, turn: int, model: str, duration_s: float = 1.0, run: str = "run", **spec: Any) -> Turn:
        made = Turn(turn, run, "agent", TurnSpec(model, "prompt", **spec), self.emit)
        self.left_s[turn] = duration_s
        self.scheduler.submit(made)
        return made

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TurnAdmitted):
            self.admitted.append((self.clock.now(), event.turn, event.model))
            self.goes(event.turn, event.model)
        elif isinstance(event, ENDS) and event.turn in self.since_s:
            del self.since_s[event.turn]
            self.active[event.model] -= 1

    def goes(self, turn: int, model: str) -> None:
        now_s = self.since_s[turn] = self.clock.now()
        self.active[model] += 1
        self.check_capacity()
        self.clock.call_at(now_s + self.left_s[turn], lambda: self.finish(turn))

    def stops(self, turn: int, model: str) -> None:
        self.left_s[turn] -= self.clock.now() - self.since_s.pop(turn)
        self.active[model] -= 1

    def check_capacity(self) -> None:
        running = [model for model, count in self.active.items() if count]
        assert all(self.active[model] <= self.slots[model] for model in running)
        assert len(running) == 1 or sum(self.weights[model] for model in running) <= self.arena

    def finish(self, turn: int) -> None:
        done_s = self.clock.now() - self.since_s.get(turn, self.clock.now())
        if turn in self.engine.held and done_s >= self.left_s[turn] - 1e-9:
            self.engine.release(turn)
        self.drain()

    def cancel(self, turn: Turn) -> None:
        self.scheduler.cancel(turn)
        self.drain()

    def drain(self) -> None:
        for event in self.engine.poll():
            assert not isinstance(event, LoadProgress)
            turn = self.scheduler.turn(event.turn)
            if isinstance(event, TurnFinished) and turn is not None:
                done = Completion(
                    event.text,
                    event.tokens,
                    event.reason,
                    TurnNumbers(turn.id, "agent", turn.spec.model, prompt_tokens=10, generated_tokens=5),
                )
                self.scheduler.end(turn, None if event.reason == "cancelled" else done)
            elif isinstance(event, TurnFailed) and turn is not None:
                self.scheduler.end(turn, from_code(event.error_code, event.message, event.numbers))
            elif isinstance(event, TurnParked) and turn is not None:
                self.parked.append((self.clock.now(), turn.id))
                self.stops(turn.id, turn.spec.model)
                self.scheduler.parked_by_engine(turn)
            elif isinstance(event, TurnResumed) and turn is not None:
                self.resumed.append((self.clock.now(), turn.id))
                self.goes(turn.id, turn.spec.model)

    async def until_idle(self) -> None:
        await settle()
        while (when_s := self.clock.next_call_s) is not None:
            self.clock.advance(when_s - self.clock.now())
            await settle()

    @property
    def models_in_order(self) -> str:
        return "".join(model for _, _, model in self.admitted)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(world.scheduler.run())
    loop = asyncio.get_running_loop()
    loop.add_reader(world.engine.fileno(), world.drain)
    try:
        yield world
    finally:
        loop.remove_reader(world.engine.fileno())
        world.scheduler.close()
        await task


def world(models: str = "abc", slots: int = 1, **settings: object) -> World:
    return World(dict.fromkeys(models, 100), dict.fromkeys(models, slots), **settings)  # type: ignore[arg-type]
