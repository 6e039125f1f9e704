"""Time slices: which running turns make way for a model that does not fit beside them, and when."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agentmux import admission
from agentmux.admission import Admit, Request
from agentmux.policy.situation import Policy, Running, Waiting

SHORTEST_QUANTUM_S = 0.25
"""As in the engine. Without it, two models that were given no stay would swap for ever, and no time would pass."""
LONG_QUANTA = 2.0
"""A turn that has run for so many quanta without a break is long. With 1, the simulator parks many turns that are about
to end, and where turns last about a quantum runs take a third longer; with 3, short runs wait longer for long ones."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The turns that have to make way, from ``due_s`` on."""

    turns: tuple[int, ...]
    due_s: float


def upload_s(capacity: admission.Snapshot, model: str, bytes_per_s: float) -> float:
    """Seconds that bringing a model in takes at most; 0 while the link has not been measured."""
    if bytes_per_s <= 0:
        return 0.0
    return min(capacity.footprints[model].weight_bytes, capacity.arena_bytes) / bytes_per_s


def stay_s(capacity: admission.Snapshot, model: str, bytes_per_s: float, policy: Policy) -> float:
    """Seconds for which a model that was brought in keeps its turns first: the quantum, by its own size."""
    return max(policy.min_residency_s, policy.switches_per_quantum * upload_s(capacity, model, bytes_per_s))


def make_way(
    capacity: admission.Snapshot,
    residents: Mapping[str, float],
    running: Sequence[Running],
    contender: str,
    queue: Sequence[Waiting],
    stays_s: Mapping[str, float],
    policy: Policy,
) -> Slice | None:
    """Which turns are to be parked for ``contender``, which has ``queue`` waiting and runs nothing, and when.

    None where no parking would let it start.
    """
    models = _in_way(capacity, residents, contender)
    turns = [turn for turn in running if turn.model in models]
    if not turns:
        return None
    quantum_s = max(SHORTEST_QUANTUM_S, stays_s[contender], *(stays_s[model] for model in models))
    due_s = max(residents[model] for model in models) + quantum_s
    waiting_since_s, priority = min(entry.since_s for entry in queue), queue[0].priority
    highest = max(turn.priority for turn in turns)
    if priority <= highest:
        patience_s = quantum_s if priority == highest else max(quantum_s, policy.max_wait_s)
        longest_s = min(turn.since_s for turn in turns)
        due_s = max(due_s, waiting_since_s + patience_s, longest_s + LONG_QUANTA * quantum_s)
    return Slice(tuple(turn.turn for turn in turns if not turn.leaving), due_s)


def _in_way(capacity: admission.Snapshot, residents: Mapping[str, float], contender: str) -> Collection[str]:
    """One running model whose parking is enough, the one that has been resident for longest; else as many of those as
    it takes. Empty where nothing helps."""
    by_stay = sorted(capacity.active, key=lambda model: (residents[model], model))
    groups = [by_stay[i : i + 1] for i in range(len(by_stay))]
    groups += [by_stay[:count] for count in range(2, len(by_stay) + 1)]
    request = Request(contender, in_queue=True)
    for group in groups:
        if isinstance(admission.decide(capacity.without(group), request), Admit):
            return group
    return ()
