"""What a decision rests on, and what it says: values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentmux import admission
from agentmux.errors import AgentmuxError


@dataclass(frozen=True, slots=True)
class Policy:
    """The bounds that hold affinity, priority and time slices in check."""

    max_wait_s: float = 10.0
    """Seconds after which a waiting turn is overdue."""
    min_residency_s: float = 1.0
    """Seconds for which a model that became resident keeps its turns first, at least."""
    switches_per_quantum: float = 8.0
    """And at least as long as so many of its uploads take."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn in the queue, or one that was parked and wants to go on."""

    turn: int
    order: int
    """Grows with each submission."""
    since_s: float
    """Second of its arrival, or at which it was parked."""
    priority: int = 0
    attained: float = 0.0
    """Tokens computed so far for the run that it belongs to."""
    parked: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A turn in the engine."""

    turn: int
    model: str
    since_s: float
    """Second at which it was admitted or last resumed."""
    priority: int = 0
    leaving: bool = False
    """It was asked to park, and the engine has not said yet that it has."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision rests on."""

    capacity: admission.Snapshot
    waiting: Mapping[str, Sequence[Waiting]]
    """[model][in the order in which they should start] waiting turns: as many as its free slots and one more. Those
    that have waited longest are among them, in any place, where they are overdue."""
    residents: Mapping[str, float]
    """[model] second since which it has been resident without a break, by what was admitted."""
    running: Sequence[Running] = ()
    upload_bytes_per_s: float = 0.0
    """Of the link, as measured; 0 before anything was uploaded."""
    claimant: str | None = None
    """The model for which turns were parked, until it runs or nothing of it waits any more."""
    passed: bool = False
    """The last turn that started did so before an overdue one, because it outranks it."""
    hint: str | None = None
    """The model that is being uploaded ahead."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    admit: tuple[int, ...] = ()
    """Waiting turns to start, in this order; parked ones among them go on."""
    prefetch: str | None = None
    """The model that waits to run next and is not running; None where none waits."""
    waits: Mapping[int, str] = field(default_factory=dict)
    """[turn that is next of its model and stays] why."""
    park: tuple[int, ...] = ()
    """Running turns that have to make way."""
    claimant: str | None = None
    """As in the snapshot, from now on."""
    passed: bool = False
    """As in the snapshot, from now on."""
    refuse: Mapping[int, AgentmuxError] = field(default_factory=dict)
    """[waiting turn] why it cannot run any more, whatever ends: what was measured has changed."""
    wake_s: float | None = None
    """The second at which, with nothing else happening, turns are to be parked."""
