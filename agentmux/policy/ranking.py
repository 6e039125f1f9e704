"""In which order models get at the device: a candidate turn for each, and the class that it competes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from agentmux.policy.situation import Policy, Waiting

Queues: TypeAlias = Mapping[str, Sequence[Waiting]]
"""[model][in the order in which they should start], none of them empty."""


class Class(IntEnum):
    """What decides before anything else, best first. See ``agentmux.policy`` for why there are these."""

    CLAIMS = 0
    """Turns were parked for it."""
    PROTECTED = 1
    """Its model became resident a moment ago."""
    OUTRANKS = 2
    """Of higher priority, or of a run that has had less, than the turn that is overdue for longest; every second turn
    at most."""
    OVERDUE = 3
    USUAL = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """The one turn by which a model competes."""

    model: str
    entry: Waiting
    rank: Class
    passes: bool
    """If it starts, a turn that is overdue has been passed by one that outranks it."""
    catches_up: bool
    """If it starts, the turn that is overdue for longest has."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What candidates are ranked by, beside themselves."""

    residents: Mapping[str, float]
    stays_s: Mapping[str, float]
    """[resident] seconds for which it is protected."""
    claimant: str | None
    passed: bool
    hint: str | None


def ranked(queues: Queues, standing: Standing, now_s: float, policy: Policy) -> list[Candidate]:
    """One candidate for each model with waiting turns, best first."""
    late = min(_overdue(queues, now_s, policy), key=_age, default=None)
    found = [_candidate(model, queue, late, standing, now_s, policy) for model, queue in queues.items()]
    return sorted(found, key=lambda one: _key(one, standing)) if len(found) > 1 else found


def _candidate(
    model: str, queue: Sequence[Waiting], late: Waiting | None, standing: Standing, now_s: float, policy: Policy
) -> Candidate:
    head = queue[0]
    oldest = head if len(queue) == 1 else min(queue, key=_age)
    own_late = oldest if now_s - oldest.since_s > policy.max_wait_s else None
    passes = late is not None and not standing.passed and outranks(head, late)
    since = standing.residents.get(model)
    if model == standing.claimant:
        rank = Class.CLAIMS
    elif since is not None and now_s - since < standing.stays_s[model]:
        rank = Class.PROTECTED
    elif passes:
        rank = Class.OUTRANKS
    else:
        rank = Class.USUAL if own_late is None else Class.OVERDUE
    entry = head if own_late is None or passes else own_late
    # What is protected passes no turn of another model: it would have gone first in any case.
    counts = passes and (rank is not Class.PROTECTED or own_late is not None)
    return Candidate(model, entry, rank, counts and entry is not late, entry is late)


def outranks(one: Waiting, other: Waiting) -> bool:
    """Whether priority, or else what their runs have had so far, puts ``one`` before ``other``."""
    return (-one.priority, one.attained) < (-other.priority, other.attained)


def _overdue(queues: Queues, now_s: float, policy: Policy) -> Iterator[Waiting]:
    return (entry for queue in queues.values() for entry in queue if now_s - entry.since_s > policy.max_wait_s)


def _age(entry: Waiting) -> tuple[float, int]:
    return entry.since_s, entry.order


def _key(candidate: Candidate, standing: Standing) -> tuple[float, ...]:
    entry, model = candidate.entry, candidate.model
    if candidate.rank is Class.OVERDUE:
        return candidate.rank, *_age(entry)
    affinity = 0 if model in standing.residents else 1 if model == standing.hint else 2
    return candidate.rank, -entry.priority, affinity, entry.attained, *_age(entry)
