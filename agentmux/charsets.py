"""Sets of characters, as sorted intervals of their code points."""

from __future__ import annotations

from collections.abc import Mapping

Interval = tuple[int, int]
Charset = tuple[Interval, ...]
"""Sorted, disjoint intervals of code points, both ends included."""

ANY: Charset = ((0x01, 0xD7FF), (0xE000, 0x10FFFF))
"""Without the zero byte and surrogates."""
_DIGIT: Charset = ((0x30, 0x39),)
_WORD: Charset = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Charset = ((0x09, 0x0D), (0x20, 0x20))
_ALL_SPACE: Charset = (
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
_ASCII: Charset = ((0x01, 0x7F),)


def union(*sets: Charset) -> Charset:
    """Every character of any of them."""
    merged: list[Interval] = []
    for low, high in sorted(interval for charset in sets for interval in charset):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def without(charset: Charset, removed: Charset) -> Charset:
    """The characters of the first that are not in the second."""
    left = list(charset)
    for low, high in removed:
        left = [
            part
            for first, last in left
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return tuple(left)


ESCAPED_SETS: Mapping[str, tuple[Charset, Charset]] = {
    # (what it stands for, what its complement stands for: both subsets of the real ones)
    "d": (_DIGIT, without(_ASCII, _DIGIT)),
    "w": (_WORD, without(_ASCII, _WORD)),
    "s": (_SPACE, without(ANY, _ALL_SPACE)),
}
"""[letter] as an escape in an expression."""
