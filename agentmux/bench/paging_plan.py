"""Which turns a paging bench runs, and what no scheduler could do better. No native library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentmux.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Step:
    """One turn: which model, which of its agents, and which model comes next."""

    model: int
    agent: int
    following: int
    """The model of the next turn."""


def steps(n_turns: int, use: Sequence[int], agents: int) -> tuple[Step, ...]:
    """Turns over models that are used in these shares, as evenly mixed as can be.

    Equal shares give the cycle 0, 1, 2, 0, ...; each turn goes to the model that lags furthest behind its share. A
    model's agents take turns. Raises ConfigError where no share is above 0.
    """
    if not use or min(use) < 0 or sum(use) == 0:
        raise ConfigError(f"shares {', '.join(map(str, use))}: none may be below 0, and one must be above")
    had = [0] * len(use)
    order: list[tuple[int, int]] = []
    for n in range(1, n_turns + 2):
        model = max(range(len(use)), key=lambda m: (n * use[m] / sum(use) - had[m], -m))
        order.append((model, had[model] % agents))
        had[model] += 1
    return tuple(Step(model, agent, order[i + 1][0]) for i, (model, agent) in enumerate(order[:-1]))


def missing_bytes(arena_bytes: int, weight_bytes: int, previous_bytes: int | None) -> int:
    """What of a model cannot be in the arena when the model before it ends.

    That one needs all its own bytes until its last token; only what is left beside them can hold the next one's front.
    None: the same model ran before, and nothing is missing.
    """
    if previous_bytes is None:
        return max(0, weight_bytes - arena_bytes)
    return weight_bytes - min(weight_bytes, max(0, arena_bytes - previous_bytes))


def bound_first_token_s(resident_s: float, missing: int, link_bytes_per_s: float) -> float:
    """The soonest that a first token can be there: computed as with everything resident, or as soon as what is missing
    has come over the link, whichever takes longer (both go on at once)."""
    return max(resident_s, missing / link_bytes_per_s) if link_bytes_per_s > 0 else resident_s


IDS = 512
"""Token ids used with a model without a vocabulary: each has at least so many."""


def prompt_of(n_tokens: int, seed: int, n_vocabulary: int) -> tuple[int, ...]:
    """Token ids that wander over the vocabulary; another seed, other ids."""
    return tuple((i * 7919 + seed * 104729 + 13) % n_vocabulary for i in range(n_tokens))
