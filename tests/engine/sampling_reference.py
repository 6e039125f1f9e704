"""What sampling means, in numpy and double precision: slow, plain, written from the definitions."""

from __future__ import annotations

import math

import numpy as np

from agentmux.sampling import SamplingParams

Array = np.ndarray


def adjusted(logits: Array, params: SamplingParams, before: list[int]) -> Array:
    """Bias, then penalties; ``before`` is prompt and answer so far."""
    changed = logits.astype(np.float64)
    for token, bias in params.logit_bias.items():
        changed[token] += bias
    n = params.repeat_last_n
    window = before if n < 0 else before[max(len(before) - n, 0) :]
    for token in set(window):
        changed[token] *= params.repeat_penalty if changed[token] <= 0 else 1 / params.repeat_penalty
        changed[token] -= window.count(token) * params.frequency_penalty + params.presence_penalty
    return changed


def probabilities(logits: Array, params: SamplingParams, before: list[int]) -> Array:
    """[vocabulary] with which probability each token is the next, at a temperature above 0."""
    changed = adjusted(logits, params, before)
    kept = np.argsort(-changed, kind="stable")
    kept = kept[np.isfinite(changed[kept])]
    if params.top_k:
        kept = kept[: params.top_k]
    if params.typical_p < 1:
        share = _softmax(changed[kept])
        entropy = -(share * np.log(share)).sum()
        by_oddness = np.argsort(np.abs(-np.log(share) - entropy), kind="stable")
        n = int((np.cumsum(share[by_oddness]) <= params.typical_p).sum()) + 1
        kept = kept[np.sort(by_oddness[:n])]
    if params.top_p < 1:
        n = int((np.cumsum(_softmax(changed[kept])) < params.top_p).sum()) + 1
        kept = kept[:n]
    if params.min_p > 0:
        kept = kept[changed[kept] >= changed[kept[0]] + math.log(params.min_p)]
    result = np.zeros(len(logits))
    result[kept] = _softmax(changed[kept] / params.temperature)
    return result


def chi_square(counts: Array, expected: Array) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; rare tokens are put together until 10 are expected."""
    order = np.argsort(expected, kind="stable")
    order = order[expected[order] > 0]
    bins = np.floor(np.cumsum(expected[order]) / 10)
    observed, wanted = (np.bincount(np.unique(bins, return_inverse=True)[1], of[order]) for of in (counts, expected))
    return float(((observed - wanted) ** 2 / wanted).sum()), len(wanted) - 1


def chi_square_limit(freedom: int) -> float:
    """About the quantile that chance exceeds once in 10,000 times (Wilson and Hilferty)."""
    return freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3


def _softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()
