"""Reads a trace as others do, and complains of what they would not understand."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """A slice as a reader has it."""

    track: str
    name: str
    from_us: int
    to_us: int
    said: dict[str, Any]


def lenient(text: str) -> Records:
    """A JSON array whose end may be missing, as the format has it."""
    try:
        return json.loads(text)  # type: ignore[no-any-return]
    except ValueError:
        whole, _, _ = text.rpartition("\n")
        whole = whole.rstrip().removesuffix(",")
        return json.loads(whole + "]") if whole != "" else []  # type: ignore[no-any-return]


def drawn(records: Iterable[dict[str, Any]]) -> list[Drawn]:
    """All slices. Fails where begins and ends do not match, times are not in order, or slices of a track overlap."""
    names: dict[tuple[int, int], str] = {}
    opened: dict[tuple[int, int], Records] = defaultdict(list)
    last_us: dict[tuple[int, int], int] = defaultdict(int)
    found: dict[tuple[int, int], list[Drawn]] = defaultdict(list)
    for one in records:
        place = one["pid"], one["tid"]
        assert isinstance(one["ts"], int)
        assert one["ts"] >= 0
        if one["ph"] == "M" and one["name"] == "thread_name":
            assert place not in names
            names[place] = one["args"]["name"]
        elif one["ph"] in "BE":
            assert one["ts"] >= last_us[place]
            last_us[place] = one["ts"]
            if one["ph"] == "B":
                opened[place].append(one)
            else:
                begun = opened[place].pop()
                assert not begun["args"].keys() & one["args"].keys(), "readers keep only one of two values"
                said = begun["args"] | one["args"]
                found[place].append(Drawn(names[place], begun["name"], begun["ts"], one["ts"], said))
        elif one["ph"] == "X":
            assert one["dur"] >= 0
            found[place].append(Drawn(names[place], one["name"], one["ts"], one["ts"] + one["dur"], one["args"]))
    assert not any(opened.values()), "begun and not ended"
    for slices in found.values():
        nests(slices)
    return [one for slices in found.values() for one in slices]


def nests(slices: list[Drawn]) -> None:
    """Fails if two slices overlap without one being within the other."""
    around: list[Drawn] = []
    for one in sorted(slices, key=lambda one: (one.from_us, -one.to_us)):
        while around and around[-1].to_us <= one.from_us:
            around.pop()
        assert not around or one.to_us <= around[-1].to_us, f"{one} overlaps {around[-1]}"
        around.append(one)


def samples(records: Iterable[dict[str, Any]], counter: str) -> list[tuple[int, dict[str, float]]]:
    """Moments and values of a counter, which must be in order."""
    values = [(one["ts"], one["args"]) for one in records if one["ph"] == "C" and one["name"] == counter]
    assert values == sorted(values, key=lambda value: value[0])
    return values
