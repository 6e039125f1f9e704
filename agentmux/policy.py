"""Which turns start, in which order, and which model comes next: a pure decision over a snapshot and the time.

Why it is built this way:

- The unit is the turn, not the token. Bringing a dense model's weights in costs one pass over the link, which a turn's
  many tokens share; switching models per token would be bound by the link.
- Turns of a model that is resident go first, so ABCABC is worked off as AABBCC and two switches take the place of five.
- Left alone, that starves the others. So a turn that has waited for longer than ``max_wait_s`` is *overdue*: it goes
  before all that came later, and if it cannot start yet nothing else starts, so that what is in its way drains.
- Left alone, that thrashes under load, when every turn is overdue. So a model that became resident keeps its turns
  first for ``min_residency_s``. Only a model that is resident can be protected so, and while an overdue turn waits no
  further model becomes resident before it; its wait is therefore bounded by ``max_wait_s``, the protected time of each
  model that is resident, and the turns that then drain, however many turns come after it.
- An overdue turn that waits only for a slot of its own model is not helped by holding the other models back.
- Within a model, order is by arrival. So only the first ``slots`` waiting turns of each model can start, and a
  decision looks at no more, however long the queue.
- The successor (whom the engine may upload ahead) is the model of the next waiting turn; where none waits, the model
  that last followed the current one: agents mostly take turns in a fixed round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentmux import admission
from agentmux.admission import Admit, Request, Wait


@dataclass(frozen=True, slots=True)
class Policy:
    """The two bounds that hold affinity in check, in seconds."""

    max_wait_s: float = 10.0
    min_residency_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn in the queue. ``order`` grows with each submission."""

    turn: int
    order: int
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision rests on."""

    capacity: admission.Snapshot
    waiting: Mapping[str, Sequence[Waiting]]
    """[model][by arrival] turns in the queue; those beyond a model's slots may be left out."""
    residents: Mapping[str, float]
    """[model] second since which it has been resident without a break, by what was admitted."""
    current: str | None = None
    """Model of the turn that was admitted last."""
    successors: Mapping[str, str] = field(default_factory=dict)
    """[model] the other model that was admitted after it last time."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    admit: tuple[int, ...]
    """Turns to start, in this order."""
    prefetch: str | None
    """The model that will run next, if that is known and it is not running."""
    waits: Mapping[int, str]
    """[turn that is first of its model and stays] why."""


def plan(snapshot: Snapshot, now_s: float, policy: Policy) -> Decision:
    """Which waiting turns start at ``now_s``, and which model is to be uploaded ahead. See the top of this module."""
    queues = {model: deque(turns) for model, turns in snapshot.waiting.items() if turns}
    capacity, residents = snapshot.capacity, dict(snapshot.residents)
    admitted: list[int] = []
    while True:
        waits: dict[int, str] = {}
        chosen = None
        for model in _ranked(queues, residents, now_s, policy):
            head = queues[model][0]
            verdict = admission.decide(capacity, Request(model, in_queue=True))
            if isinstance(verdict, Admit):
                chosen = model
                break
            reason, own_slots = (verdict.reason, verdict.own_slots) if isinstance(verdict, Wait) else ("", True)
            waits[head.turn] = reason
            if not own_slots and now_s - head.arrived_s > policy.max_wait_s:
                break
        if chosen is None:
            break
        admitted.append(queues[chosen].popleft().turn)
        if not queues[chosen]:
            del queues[chosen]
        residents = residents_after(residents, capacity.active, chosen, now_s)
        capacity = capacity.with_turn(chosen)
    return Decision(tuple(admitted), _successor(snapshot, capacity, queues, residents, now_s, policy), waits)


def residents_after(
    residents: Mapping[str, float], active: Mapping[str, int], model: str, now_s: float
) -> dict[str, float]:
    """The residents once a turn of ``model`` starts while turns of ``active`` models run.

    A model that was resident stays so since the same second, lest two models that fit together renew each other's
    protection for ever; a new one displaces those that run nothing.
    """
    if model in residents:
        return dict(residents)
    return {name: since for name, since in residents.items() if name in active} | {model: now_s}


def _ranked(
    queues: Mapping[str, deque[Waiting]], residents: Mapping[str, float], now_s: float, policy: Policy
) -> list[str]:
    """Models with waiting turns: protected ones, those whose first turn is overdue, residents, the others."""

    def rank(model: str) -> tuple[int, int]:
        head = queues[model][0]
        since = residents.get(model)
        if since is not None and now_s - since < policy.min_residency_s:
            return 0, head.order
        if now_s - head.arrived_s > policy.max_wait_s:
            return 1, head.order
        return (2 if since is not None else 3), head.order

    return sorted(queues, key=rank)


def _successor(
    snapshot: Snapshot,
    capacity: admission.Snapshot,
    queues: Mapping[str, deque[Waiting]],
    residents: Mapping[str, float],
    now_s: float,
    policy: Policy,
) -> str | None:
    for model in _ranked(queues, residents, now_s, policy):
        if model not in capacity.active:
            return model
    running = set(capacity.active)
    current = snapshot.current if not running or snapshot.current in running else None
    current = current or next(iter(sorted(running)), None)
    learned = snapshot.successors.get(current) if current else None
    return None if learned in running else learned
