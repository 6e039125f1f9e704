"""Whether a turn may start: slots and bytes, decided by a pure function over a snapshot.

Why it is built this way:

- Every byte comes from a ``Footprint`` that the engine measured or from its stats. Nothing is estimated here.
- The order of the questions is that of hopelessness: what could not run on an empty device is refused at once, because
  waiting is pointless; then a full queue is refused, because a bound that is not kept is none; only then may a turn
  wait, for a slot or for bytes, with a reason a person can read.
- Bytes are asked per *model*, not per turn: a loaded model's contexts are already booked by the engine, and what
  turns of two models contend for is the arena that their weights are paged through. One model alone may be larger than
  the arena, since its layers then stream through it. Two models active at once must fit together, because a dense
  model whose layers stream in for every token is bound by the link, and two of them would evict each other at each
  step.
- A grant is a ``Lease``, given back exactly once, whoever ends the turn: a second return is a bug and says so. A turn
  that is parked has left its slot and gives its lease back; when it is resumed, the same questions are asked again.
- Models come and go while turns run. One that goes is no longer there for new turns, but its bytes count until the
  last of its leases is back: until then the engine really has its turns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from agentmux.engine.base import Footprint
from agentmux.errors import AdmissionError, AgentmuxError, ContextOverflow, NeverFits, QueueFull


@dataclass(frozen=True, slots=True)
class Request:
    """What a turn would need."""

    model: str
    prompt_tokens: int | None = None
    """None where only the engine can tell."""
    in_queue: bool = False
    """It waits already, so the queue's bound no longer concerns it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is, and what of it is taken."""

    footprints: Mapping[str, Footprint]
    """[model] its measured sizes."""
    active: Mapping[str, int]
    """[model] turns in the engine; models without one are absent."""
    arena_bytes: int
    """What weights are paged through."""
    budget_bytes: int | None
    """Device memory for everything; None where nothing is counted but the arena."""
    queued: int = 0
    """Turns that wait."""
    queue_limit: int = 1024
    max_active_slots: int | None = None
    """Turns of all models together that may be in the engine."""
    retry_after_s: float = 0.0
    """Seconds after which a full queue is expected to have room; 0 where nobody knows."""

    def with_turn(self, model: str) -> Snapshot:
        """The snapshot after one more turn of ``model`` was admitted."""
        return self.having({**self.active, model: self.active.get(model, 0) + 1})

    def without(self, models: Collection[str]) -> Snapshot:
        """The snapshot after all turns of these models have left the engine."""
        return self.having({name: count for name, count in self.active.items() if name not in models})

    def having(self, active: Mapping[str, int]) -> Snapshot:
        """The snapshot with these turns in the engine. (``dataclasses.replace`` takes three times as long, and this is
        done several times a turn.)"""
        return Snapshot(
            self.footprints,
            active,
            self.arena_bytes,
            self.budget_bytes,
            self.queued,
            self.queue_limit,
            self.max_active_slots,
            self.retry_after_s,
        )


@dataclass(frozen=True, slots=True)
class Admit:
    """It may start now."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It may not start yet."""

    reason: str
    """Readable, such as ``model coder is busy: 1 of 1 slots``."""
    numbers: Mapping[str, int]
    own_slots: bool = False
    """It waits for turns of its own model only; turns of other models are not in its way."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It must not wait. ``error`` is ready to be raised."""

    error: AgentmuxError


def decide(snapshot: Snapshot, request: Request) -> Admit | Wait | Refuse:
    """Whether ``request`` may start in ``snapshot``. ``request.model`` must be one of its footprints."""
    if error := hopeless(snapshot, request):
        return Refuse(error)
    wait = _wait(snapshot, request.model)
    if not request.in_queue and snapshot.queued >= snapshot.queue_limit and (wait or snapshot.queued):
        return Refuse(_queue_full(snapshot, request, wait.reason if wait else "they came first"))
    return wait or Admit()


def hopeless(snapshot: Snapshot, request: Request) -> AdmissionError | ContextOverflow | None:
    """The error of a request that could not run even if everything else were gone; None if it could."""
    footprint = snapshot.footprints[request.model]
    arena, budget = snapshot.arena_bytes, snapshot.budget_bytes
    whole = footprint.min_arena_bytes + footprint.static_bytes + footprint.context_bytes
    if budget is not None and whole > budget:
        return _never_fits(request.model, whole, budget, "the device budget is", budget)
    if footprint.min_arena_bytes > arena:
        return _never_fits(request.model, footprint.min_arena_bytes, arena, "the arena has", budget)
    if request.prompt_tokens is not None and request.prompt_tokens >= footprint.context_tokens:
        return ContextOverflow(
            f"the prompt has {request.prompt_tokens} tokens and leaves no room for an answer: the context of model "
            f"{request.model} has {footprint.context_tokens}",
            prompt_tokens=request.prompt_tokens,
            context_tokens=footprint.context_tokens,
        )
    return None


def _never_fits(model: str, needed: int, available: int, what: str, budget: int | None) -> NeverFits:
    return NeverFits(
        f"model {model} needs at least {needed} bytes, {what} {available}; give it more memory, "
        "or use a model with smaller layers or a smaller context",
        needed_bytes=needed,
        available_bytes=available,
        budget_bytes=budget or 0,
    )


def _queue_full(snapshot: Snapshot, request: Request, reason: str) -> QueueFull:
    again_s = snapshot.retry_after_s
    return QueueFull(
        f"a turn of model {request.model} cannot wait: {snapshot.queued} of {snapshot.queue_limit} turns wait already "
        f"({reason}); try again {f'in about {again_s:.1f} s' if again_s else 'later'} or raise queue_limit",
        queued=snapshot.queued,
        queue_limit=snapshot.queue_limit,
        retry_after_s=again_s,
    )


def _wait(snapshot: Snapshot, model: str) -> Wait | None:
    slots, taken = snapshot.footprints[model].slots, snapshot.active.get(model, 0)
    if taken >= slots:
        reason = f"model {model} is busy: {taken} of {slots} slots"
        return Wait(reason, MappingProxyType({"active": taken, "slots": slots}), own_slots=True)
    total = sum(snapshot.active.values())
    if snapshot.max_active_slots is not None and total >= snapshot.max_active_slots:
        reason = f"all slots are busy: {total} of {snapshot.max_active_slots}"
        return Wait(reason, MappingProxyType({"active": total, "slots": snapshot.max_active_slots}))
    others = sorted(other for other in snapshot.active if other != model)
    if not others:
        return None
    together = sum(snapshot.footprints[name].weight_bytes for name in (*others, model))
    if together <= snapshot.arena_bytes:
        return None
    reason = f"waiting for {', '.join(others)} to finish"
    numbers = {"needed_bytes": together, "available_bytes": snapshot.arena_bytes}
    return Wait(reason, MappingProxyType(numbers))


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot of a model, granted to a turn."""

    turn: int
    model: str


class Ledger:
    """The leases that are out, and the models they are for. All that is decided is decided from its snapshots.

    Args:
        footprints: [model] measured sizes of the models that are loaded.
        arena_bytes: what weights are paged through.
        budget_bytes: device memory for everything; None where nothing is counted but the arena.
        queue_limit: turns that may wait.
        max_active_slots: turns of all models together that may be in the engine; None: as many as there are slots.
    """

    def __init__(
        self,
        footprints: Mapping[str, Footprint],
        *,
        arena_bytes: int,
        budget_bytes: int | None,
        queue_limit: int = 1024,
        max_active_slots: int | None = None,
    ) -> None:
        self._leases: dict[int, Lease] = {}
        self._models: dict[str, Footprint] = dict(footprints)
        self._leaving: dict[str, Footprint] = {}
        self._snapshot = Snapshot(
            footprints=MappingProxyType(dict(footprints)),
            active=MappingProxyType({}),
            arena_bytes=arena_bytes,
            budget_bytes=budget_bytes,
            queue_limit=queue_limit,
            max_active_slots=max_active_slots,
        )

    @property
    def models(self) -> Mapping[str, Footprint]:
        """[model] sizes of those that new turns may use."""
        return MappingProxyType(self._models)

    def add(self, footprint: Footprint, *, arena_bytes: int, budget_bytes: int | None) -> None:
        """A model was loaded; arena and budget are what the engine reports now. Raises ValueError if it is there."""
        if footprint.model in self._models:
            raise ValueError(f"model {footprint.model} is there already")
        self._models[footprint.model] = footprint
        self._leaving.pop(footprint.model, None)
        self._count_models()
        self.resize(arena_bytes=arena_bytes, budget_bytes=budget_bytes)

    def remove(self, model: str) -> None:
        """A model is about to be unloaded: no new turn may use it. Its bytes count until its leases are back. Raises
        ValueError if it is not there."""
        if model not in self._models:
            raise ValueError(f"model {model} is not there")
        self._leaving[model] = self._models.pop(model)
        self._count_models()

    def resize(self, *, arena_bytes: int, budget_bytes: int | None) -> None:
        """Arena and budget are what the engine reports now, after a model was loaded or unloaded."""
        self._snapshot = replace(self._snapshot, arena_bytes=arena_bytes, budget_bytes=budget_bytes)

    def _count_models(self) -> None:
        active = self._snapshot.active
        self._leaving = {name: print for name, print in self._leaving.items() if name in active}
        self._snapshot = replace(self._snapshot, footprints=MappingProxyType(self._leaving | self._models))

    def snapshot(self, queued: int, retry_after_s: float = 0.0) -> Snapshot:
        """What is taken now, with so many turns waiting, and so many seconds until fewer do."""
        now = self._snapshot
        if now.queued == queued and now.retry_after_s == retry_after_s:
            return now
        return Snapshot(
            now.footprints,
            now.active,
            now.arena_bytes,
            now.budget_bytes,
            queued,
            now.queue_limit,
            now.max_active_slots,
            retry_after_s,
        )

    @property
    def active(self) -> int:
        """Leases that are out."""
        return len(self._leases)

    def grant(self, turn: int, model: str) -> Lease:
        """Take a slot. Raises ValueError if the turn has one, or if admission would not admit it."""
        verdict = decide(self._snapshot, Request(model, in_queue=True)) if model in self._models else None
        if turn in self._leases or not isinstance(verdict, Admit):
            raise ValueError(f"turn {turn} of {model} cannot be granted a lease: {verdict}")
        lease = self._leases[turn] = Lease(turn, model)
        self._snapshot = self._snapshot.with_turn(model)
        return lease

    def give_back(self, lease: Lease) -> None:
        """Return a slot. Raises ValueError if this lease is not out."""
        if self._leases.get(lease.turn) != lease:
            raise ValueError(f"{lease} was given back already")
        del self._leases[lease.turn]
        active = dict(self._snapshot.active)
        active[lease.model] -= 1
        if not active[lease.model]:
            del active[lease.model]
        self._snapshot = self._snapshot.having(active)
        if lease.model in self._leaving:
            self._count_models()
