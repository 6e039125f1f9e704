"""How the next token is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agentmux.errors import RequestInvalid


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling of one turn. The default is greedy, so that a run repeats itself.

    Raises RequestInvalid at once for values that no sampler could mean (NaN, negative, out of range).
    """

    temperature: float = 0.0
    """0 is greedy; above, logits are divided by it."""
    top_k: int = 40
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 0.95
    """Keep the smallest set of tokens with this much probability; 1 keeps all."""
    min_p: float = 0.05
    """Drop tokens less likely than this share of the most likely one; 0 drops none."""
    repeat_penalty: float = 1.0
    """Divides the logits of tokens among the last 64; 1 is off."""
    seed: int = 0
    """Same seed, same batch: same text. Unsigned 32 bit."""

    def __post_init__(self) -> None:
        _in_range("temperature", self.temperature, 0.0, 100.0)
        _in_range("top_k", self.top_k, 0, 2**31 - 1)
        _in_range("top_p", self.top_p, 0.0, 1.0)
        _in_range("min_p", self.min_p, 0.0, 1.0)
        _in_range("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        _in_range("seed", self.seed, 0, 2**32 - 1)


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if math.isnan(value) or not low <= value <= high:
        raise RequestInvalid(f"{name}={value} is outside {low} to {high}")
