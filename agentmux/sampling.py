"""How the next token is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real

from agentmux.errors import RequestInvalid


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling of one turn. The default is greedy, so that a run repeats itself.

    The order is llama.cpp's: bias and penalties change logits, a grammar takes tokens out, then come top-k, typical-p,
    top-p, min-p and the temperature. Greedy turns keep to bias, penalties and grammar.

    Raises RequestInvalid at once for values that no sampler could mean (NaN, negative, out of range). Ids in
    ``logit_bias`` that the model's vocabulary lacks are RequestInvalid when the turn is submitted.
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
    """Divides the logits of tokens in the penalty window, multiplies those below 0; 1 is off."""
    seed: int = 0
    """Same seed, same batch: same text. 0 to 2**32 - 2; llama.cpp takes the number above as a wish for any seed."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit for each time it is in the penalty window."""
    presence_penalty: float = 0.0
    """Taken from a token's logit once if it is in the penalty window."""
    repeat_last_n: int = 64
    """The penalty window: the last tokens of prompt and answer together, as in llama-server; -1 is all of them, 0
    turns all three penalties off."""
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    """[token id] added to its logit, -10000 to 10000; ``-inf`` bans the token."""
    typical_p: float = 1.0
    """Keep the tokens whose surprise is closest to the expected one, up to this much probability (locally typical
    sampling, Meister et al. 2022); 1 keeps all."""

    def __post_init__(self) -> None:
        _in_range("temperature", self.temperature, 0.0, 100.0)
        _in_range("top_k", self.top_k, 0, 2**31 - 1, Integral)
        _in_range("top_p", self.top_p, 0.0, 1.0)
        _in_range("min_p", self.min_p, 0.0, 1.0)
        _in_range("typical_p", self.typical_p, 0.0, 1.0)
        _in_range("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        _in_range("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _in_range("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _in_range("repeat_last_n", self.repeat_last_n, -1, 2**31 - 1, Integral)
        _in_range("seed", self.seed, 0, 2**32 - 2, Integral)
        for token, bias in self.logit_bias.items():
            _in_range("logit_bias: token id", token, 0, 2**31 - 1, Integral)
            if bias != -math.inf:
                _in_range(f"logit_bias[{token}]", bias, -10_000.0, 10_000.0)
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))


def _in_range(name: str, value: object, low: float, high: float, kind: type = Real) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise RequestInvalid(f"{name}={value!r} is not a {'whole ' if kind is Integral else ''}number")
    if not low <= value <= high:  # type: ignore[operator]  # false for NaN, too
        raise RequestInvalid(f"{name}={value} is outside {low} to {high}")
