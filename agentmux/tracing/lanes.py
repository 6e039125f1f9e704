"""Tracks on which slices nest, although what they show does not.

Several executions of one agent run at the same time, and a track can only have slices one within the other. So a name
has as many lanes as it has slices at the same time, and a slice is on one of them: on that of the slice it belongs to
if it can be within it there, else on the first that is free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agentmux.tracing.records import Record, Said, Track, begun, ended, instant, named, track, whole

Write = Callable[[Record], None]


@dataclass(slots=True, eq=False)
class Lane:
    """A track, and the slices on it that have begun and not ended, the outermost first."""

    track: Track
    stack: list[Slice] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Slice:
    """Something that takes its time."""

    lane: Lane
    began_us: int

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self in self.lane.stack


class Lanes:
    """The lanes of one process of a trace. Moments must be given in order; ``write`` gets the records in that order,
    those of slices that are written whole excepted."""

    def __init__(self, process: int, write: Write) -> None:
        self._process = process
        self._write = write
        self._lanes: dict[str, list[Lane]] = {}
        self._count = 0

    def begin(self, label: str, name: str, at_us: int, said: Said, inside: Slice | None = None) -> Slice:
        """A slice begins, on a lane of this label; on that of ``inside`` where nothing else is within that yet."""
        fits = inside is not None and inside.lane.stack[-1:] == [inside]
        lane = inside.lane if inside is not None and fits else self._free(label)
        opened = Slice(lane, at_us)
        lane.stack.append(opened)
        self._write(begun(lane.track, name, at_us, said))
        return opened

    def end(self, opened: Slice, at_us: int, said: Said) -> None:
        """It ends, and what is still open within it does so before. One that has ended: no effect."""
        if not opened.is_open:
            return
        stack = opened.lane.stack
        while stack[-1] is not opened:
            stack.pop()
            self._write(ended(opened.lane.track, at_us, {"cut": "what it belongs to ended"}))
        stack.pop()
        self._write(ended(opened.lane.track, at_us, said))

    def within(self, opened: Slice, name: str, from_us: int, to_us: int, said: Said) -> None:
        """A part of an open slice that has no other parts then."""
        self._write(whole(opened.lane.track, name, from_us, to_us, said))

    def mark(self, opened: Slice, name: str, at_us: int, said: Said) -> None:
        """Something happened within a slice."""
        self._write(instant(opened.lane.track, name, at_us, said))

    def end_all(self, at_us: int) -> None:
        """All that is open ends."""
        for lanes in self._lanes.values():
            for lane in lanes:
                while lane.stack:
                    lane.stack.pop()
                    self._write(ended(lane.track, at_us, {"cut": "the trace ended"}))

    def _free(self, label: str) -> Lane:
        lanes = self._lanes.setdefault(label, [])
        for lane in lanes:
            if not lane.stack:
                return lane
        self._count += 1
        lane = Lane(track(self._process, self._count))
        lanes.append(lane)
        for record in named(lane.track, label if len(lanes) == 1 else f"{label} ({len(lanes)})"):
            self._write(record)
        return lane
