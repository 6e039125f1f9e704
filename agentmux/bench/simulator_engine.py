"""A cost model of the engine: what steps and uploads take, and what stays resident.

What is modelled: one pass over the weights for all slots of a model in a step; prompts in chunks beside them; one link,
on which what is missing goes first and then what was hinted; weights that stay as long as there is room; uploads that
hide under computing. What is not: KV caches on their way to host memory and back, layers as such (a model's bytes are
one amount), sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentmux.bench.simulator_workloads import SimulatedTurn, SimulatedWorkload
from agentmux.engine.base import EngineStats, Footprint, LoadSpec, TurnFinished, TurnParked, TurnRequest, TurnStats

BATCH_TOKENS = 256


@dataclass(slots=True, eq=False)
class _Work:
    number: int
    turn: SimulatedTurn
    prompt_left: int
    answer_left: int

    @property
    def computed(self) -> int:
        return self.turn.prompt_tokens - self.prompt_left + self.turn.answer_tokens - self.answer_left


@dataclass(slots=True)
class _Step:
    """A step under way, or many in a row in which every turn decodes."""

    began_s: float
    each_s: float
    count: int

    @property
    def end_s(self) -> float:
        return self.began_s + self.count * self.each_s


class SimulatedEngine:
    """What the scheduler uses of an engine. ``now`` is the simulation's clock."""

    def __init__(self, workload: SimulatedWorkload, now: Callable[[], float]) -> None:
        self._models = workload.models
        self._arena = float(workload.arena_bytes)
        self._link = workload.link_bytes_per_s
        self._now = now
        self._announced: dict[int, SimulatedTurn] = {}
        self._works: dict[int, _Work] = {}
        self._parked: dict[int, _Work] = {}
        self._to_park: list[int] = []
        self._resident: dict[str, float] = {}  # [model, used longest ago first] bytes
        self._loaded: dict[str, float] = {}  # [model that computed without another having displaced it] since when
        self._hinted: str | None = None
        self._step: _Step | None = None
        self._idle_since_s: float | None = 0.0
        self._events: list[TurnFinished | TurnParked] = []
        self.switches = 0
        self.lost_s = 0.0
        self.uploaded = 0.0
        self.slices_s: list[float] = []

    def announce(self, turn: SimulatedTurn) -> int:
        """The number under which this turn is going to be submitted."""
        self._announced[len(self._announced)] = turn
        return len(self._announced) - 1

    # What the scheduler calls.

    def load(self, spec: LoadSpec) -> Footprint:
        """The footprint of one of the workload's models."""
        model = self._models[spec.model]
        weight = model.weight_bytes
        least = min(weight, int(self._arena))
        return Footprint(spec.model, "", (weight,), least, 0, 0, 0, weight, 1 << 30, model.slots, 1 << 30, 0, None)

    def submit(self, request: TurnRequest) -> None:
        """A turn that was announced begins."""
        turn = self._announced[request.turn]
        self._works[request.turn] = _Work(request.turn, turn, turn.prompt_tokens, turn.answer_tokens)

    def park(self, turn: int) -> None:
        """At the end of the step."""
        self._to_park.append(turn)

    def resume(self, turn: int) -> None:
        """From the next step on."""
        self._works[turn] = self._parked.pop(turn)

    def prefetch(self, model: str) -> None:
        """What the link does when nothing is missing."""
        self._hinted = model

    def stats(self) -> EngineStats:
        """Of interest is the link's speed, once it has been used."""
        speed = self._link if self.uploaded else 0.0
        return EngineStats("", 0, int(self._arena), 0, 0, int(self.uploaded), 0, 0, 0, 0, speed, 0, 0, ())

    def poll(self) -> list[TurnFinished | TurnParked]:
        """Turns that ended or were parked."""
        events, self._events = self._events, []
        return events

    # What the simulation calls.

    @property
    def step_end_s(self) -> float | None:
        """When the step under way ends; None while there is nothing to compute."""
        return None if self._step is None else self._step.end_s

    def progress(self) -> Iterator[tuple[int, int]]:
        """(turn, tokens computed) of those under way."""
        return ((number, work.computed) for number, work in self._works.items())

    def interrupt(self) -> None:
        """Something has changed: many steps in a row end with the one under way; where there is none, one begins."""
        if self._step is None:
            self._leave()
            self._begin()
        else:
            done = math.ceil((self._now() - self._step.began_s) / self._step.each_s - 1e-9)
            self._step.count = max(1, min(self._step.count, done))

    def end_step(self) -> None:
        """The step under way has ended."""
        step = self._step
        assert step is not None
        self._step = None
        for work in list(self._works.values()):
            self._advance(work, step.count)
        self._leave()

    def _advance(self, work: _Work, count: int) -> None:
        if work.prompt_left:
            work.prompt_left -= self._chunks.get(work.number, 0)
            work.answer_left -= not work.prompt_left
        else:
            work.answer_left -= count
        if work.answer_left <= 0:
            del self._works[work.number]
            stats = TurnStats(prompt_tokens=work.turn.prompt_tokens, generated_tokens=work.turn.answer_tokens)
            self._events.append(TurnFinished(work.number, "length", "", (), stats))

    def _leave(self) -> None:
        for number in self._to_park:
            if work := self._works.pop(number, None):
                self._parked[number] = work
                self._events.append(TurnParked(number))
        self._to_park.clear()

    def _active(self) -> dict[str, list[_Work]]:
        active: dict[str, list[_Work]] = {}
        for work in self._works.values():
            active.setdefault(work.turn.model, []).append(work)
        return active

    def _begin(self) -> None:
        """The next step: one of each model that has turns, or many where nothing but decoding is left."""
        active = self._active()
        now_s = self._now()
        if self._idle_since_s is not None:
            self._upload_ahead(now_s - self._idle_since_s, {})
            self._idle_since_s = now_s
        if not active:
            return
        self._idle_since_s = None
        self._chunks: dict[int, int] = {}
        took_s = waited_s = 0.0
        for model, works in active.items():
            self._load(model, active, now_s)
            compute_s = self._compute_s(model, works)
            missing = self._missing(model)
            self._bring(model, missing, active)
            upload_s = (missing + max(0.0, self._models[model].weight_bytes - self._arena)) / self._link
            took_s += max(compute_s, upload_s)
            waited_s += max(0.0, upload_s - compute_s)
            self.uploaded += missing
        self.lost_s += waited_s
        only_decoding = not self._chunks and not waited_s
        count = min(work.answer_left for work in self._works.values()) if only_decoding else 1
        self._step = _Step(now_s, took_s, count)
        self._upload_ahead((took_s - waited_s) * count, active)

    def _load(self, model: str, active: dict[str, list[_Work]], now_s: float) -> None:
        if self._hinted == model:
            self._hinted = None
        self._resident[model] = self._resident.pop(model, 0.0)
        if model in self._loaded:
            return
        left = {name: since for name, since in self._loaded.items() if name not in active}
        if self._loaded:
            self.switches += 1
        parked = {work.turn.model for work in self._parked.values()}
        self.slices_s += [now_s - since for name, since in left.items() if name in parked]
        self._loaded = {name: since for name, since in self._loaded.items() if name in active} | {model: now_s}

    def _compute_s(self, model: str, works: list[_Work]) -> float:
        costs = self._models[model]
        decoding = sum(not work.prompt_left for work in works)
        room, prompt = BATCH_TOKENS - decoding, 0
        for work in works:
            if work.prompt_left and room:
                self._chunks[work.number] = chunk = min(room, work.prompt_left)
                room, prompt = room - chunk, prompt + chunk
        step_s = costs.step_s + costs.slot_s * (decoding - 1) if decoding else 0.0
        return step_s + prompt / costs.prefill_tokens_per_s

    def _missing(self, model: str) -> float:
        return max(0.0, min(self._models[model].weight_bytes, self._arena) - self._resident[model])

    def _bring(self, model: str, missing: float, active: dict[str, list[_Work]]) -> None:
        self._resident[model] += missing
        self._make_room(active, model)

    def _make_room(self, active: dict[str, list[_Work]], keep: str | None) -> None:
        over = sum(self._resident.values()) - self._arena
        idle = [name for name in self._resident if name not in active and name not in (keep, self._hinted)]
        hinted = [self._hinted] if self._hinted in self._resident and self._hinted not in active else []
        for name in (*idle, *hinted):
            gives = min(max(over, 0.0), self._resident[name])
            self._resident[name] -= gives
            over -= gives

    def _upload_ahead(self, seconds: float, active: dict[str, list[_Work]]) -> None:
        """What was hinted goes into what the running models do not need. It is there a little earlier than in earnest:
        at the beginning of the steps during which it arrives."""
        if self._hinted is None or self._hinted in active:
            return
        room = self._arena - sum(self._resident.get(name, 0.0) for name in active)
        there = self._resident.get(self._hinted, 0.0)
        goal = max(there, min(self._models[self._hinted].weight_bytes, room, there + seconds * self._link))
        self.uploaded += goal - there
        self._resident[self._hinted] = goal
        self._make_room(active, None)
