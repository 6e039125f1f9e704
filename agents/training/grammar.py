"""Many ways of saying one thing: a tiny bracket grammar, and its split into train and held-out.

``[keep|select] the even [numbers|values]`` stands for four phrasings. ``{...}`` are parameters
and are left alone, so that a phrasing is the same phrasing whatever its numbers are.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache

HELD_OUT_SHARE = 0.15
"""Share of phrasings, and of compositions, that training never sees."""

_GROUP = re.compile(r"\[([^\[\]]*)\]")


def bucket(text: str) -> float:
    """Return a number in [0, 1) that depends on `text` alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


@cache
def expand(pattern: str) -> tuple[str, ...]:
    """Return every phrasing of `pattern`, innermost brackets first, without duplicates."""
    done: dict[str, None] = {}
    waiting = [pattern]
    while waiting:
        text = waiting.pop()
        found = _GROUP.search(text)
        if found is None:
            done[" ".join(text.split())] = None
            continue
        for choice in found.group(1).split("|"):
            waiting.append(text[: found.start()] + choice + text[found.end() :])
    return tuple(sorted(done))


@cache
def split(pattern: str, owner: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the phrasings of `pattern` into (train, held-out).

    A phrasing is held out only if each of its words also occurs in a phrasing of the same pattern
    that training sees: the models are asked to recombine what they know, not to guess unknown words.
    """
    ordered = sorted(expand(pattern), key=lambda text: bucket(owner + "\0" + text))
    wanted = max(1, round(HELD_OUT_SHARE * len(ordered)))
    train, held_out = list(ordered), []
    for text in ordered:
        if len(held_out) == wanted:
            break
        known = {word for other in train if other != text for word in other.split()}
        if set(text.split()) <= known:
            train.remove(text)
            held_out.append(text)
    return tuple(train), tuple(held_out)
