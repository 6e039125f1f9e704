"""Part of a trace: what was there between two moments, as a trace of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agentmux.tracing.records import Record

_Place = tuple[int, int]


def window(records: Sequence[Record]) -> tuple[int, int]:
    """The moments between which there is anything, in microseconds; twice 0 if there is nothing."""
    begins = [one["ts"] for one in records if one["ph"] != "M"]
    ends = [one["ts"] + one.get("dur", 0) for one in records if one["ph"] != "M"]
    return min(begins, default=0), max(ends, default=0)


def excerpt(records: Sequence[Record], from_us: int, to_us: int) -> list[Record]:
    """Slices that reach into the window, cut to it; counters and marks in it. Moments stay what they were.

    Slices are whole (``X``), and what a window's edge cut says so. A counter begins with the value that it has there.
    Tracks on which nothing is left are left out.
    """
    slices = sorted(_cut(_slices(records), from_us, to_us), key=lambda one: (one["ts"], -one["dur"]))
    marks = [one for one in records if one["ph"] == "i" and from_us <= one["ts"] <= to_us]
    kept = sorted([*slices, *marks, *_counters(records, from_us, to_us)], key=lambda one: int(one["ts"]))
    places = {(one["pid"], one["tid"]) for one in kept}
    processes = {process for process, _ in places}
    about = [one for one in records if one["ph"] == "M" and _is_about(one, places, processes)]
    return [*about, *kept]


def _is_about(record: Record, places: set[_Place], processes: set[int]) -> bool:
    if record["name"].startswith("thread_"):
        return (record["pid"], record["tid"]) in places
    return record["pid"] in processes


def _slices(records: Iterable[Record]) -> Iterator[Record]:
    """All slices, whole: those written as they began and ended, too. One that did not end lasts to the last moment."""
    opened: dict[_Place, list[Record]] = {}
    last_us = 0
    for one in records:
        last_us = max(last_us, one["ts"] + one.get("dur", 0))
        stack = opened.setdefault((one["pid"], one["tid"]), [])
        if one["ph"] == "X":
            yield one
        elif one["ph"] == "B":
            stack.append(one)
        elif one["ph"] == "E" and stack:
            yield _whole(stack.pop(), one["ts"], one.get("args", {}))
    for stack in opened.values():
        for one in stack:
            yield _whole(one, last_us, {"cut": "the trace was cut"})


def _whole(begun: Record, to_us: int, said: Record) -> Record:
    args = {**begun.get("args", {}), **said}
    return {**begun, "ph": "X", "dur": max(0, to_us - begun["ts"]), "args": args}


def _cut(slices: Iterable[Record], from_us: int, to_us: int) -> Iterator[Record]:
    for one in slices:
        begin_us, end_us = max(one["ts"], from_us), min(one["ts"] + one["dur"], to_us)
        if begin_us > end_us or (begin_us == end_us and one["dur"] > 0):
            continue
        if end_us - begin_us < one["dur"]:
            args = {**one.get("args", {}), "cut": "by the edge of the excerpt"}
            one = {**one, "ts": begin_us, "dur": end_us - begin_us, "args": args}
        yield one


def _counters(records: Iterable[Record], from_us: int, to_us: int) -> Iterator[Record]:
    before: dict[str, Record] = {}
    inside: list[Record] = []
    for one in records:
        if one["ph"] == "C" and one["ts"] <= from_us:
            before[one["name"]] = {**one, "ts": from_us}
        elif one["ph"] == "C" and one["ts"] <= to_us:
            inside.append(one)
    yield from before.values()
    yield from inside
