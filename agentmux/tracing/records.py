"""Records of Chrome's trace event format, as https://perfetto.dev reads them. Moments and durations in microseconds.

A track is a thread of a process, as the format has it. Slices are written as they begin and end (``B``, ``E``), so that
those are there which a crash cut; what is known only afterwards is written whole (``X``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
Said: TypeAlias = Mapping[str, object]
"""What a slice has to say beside its name: numbers, short texts."""


@dataclass(frozen=True, slots=True)
class Track:
    """Where slices are."""

    process: int
    thread: int


DEVICE, MODELS, AGENTS, RUNS = 1, 2, 3, 4
"""The processes of a trace."""
_PROCESSES = {
    DEVICE: "device: compute, uploads, waits, queue",
    MODELS: "models: turns in the engine",
    AGENTS: "agents: turns and tools",
    RUNS: "runs",
}
_THREADS_EACH = 100_000
"""Threads have numbers of their own in all of a trace: readers of the format take them for those of a system."""

COMPUTE = Track(DEVICE, DEVICE * _THREADS_EACH + 1)
UPLOADS = Track(DEVICE, DEVICE * _THREADS_EACH + 2)
WAITS = Track(DEVICE, DEVICE * _THREADS_EACH + 3)
SWITCHES = Track(DEVICE, DEVICE * _THREADS_EACH + 4)
_OF_DEVICE = {COMPUTE: "compute", UPLOADS: "uploads", WAITS: "waits for uploads", SWITCHES: "switches of model"}


def micros(seconds: float) -> int:
    """Seconds as the format has them."""
    return round(seconds * 1e6)


def head(began: str, kinds: tuple[int, ...] = (DEVICE, MODELS, AGENTS, RUNS)) -> list[Record]:
    """What a trace begins with: the processes' names, and the moment that is its zero."""
    records: list[Record] = []
    for process in kinds:
        records += [
            _about("process_name", process, 0, name=_PROCESSES[process]),
            _about("process_sort_index", process, 0, sort_index=process),
        ]
    records.append(_about("process_labels", kinds[0], 0, labels=f"began {began}"))
    if DEVICE in kinds:
        for track, name in _OF_DEVICE.items():
            records += named(track, name)
    return records


def track(process: int, number: int) -> Track:
    """The process's track with this number, from 1."""
    return Track(process, process * _THREADS_EACH + number)


def named(track: Track, name: str) -> list[Record]:
    """The name of a track, and its place below those before it."""
    return [
        _about("thread_name", track.process, track.thread, name=name),
        _about("thread_sort_index", track.process, track.thread, sort_index=track.thread),
    ]


def begun(track: Track, name: str, at_us: int, said: Said) -> Record:
    """A slice begins."""
    return _record("B", track, at_us, name=name, args=dict(said))


def ended(track: Track, at_us: int, said: Said) -> Record:
    """The slice that began last on this track, and has not ended, ends."""
    return _record("E", track, at_us, args=dict(said))


def whole(track: Track, name: str, from_us: int, to_us: int, said: Said) -> Record:
    """A slice that is over."""
    return _record("X", track, from_us, name=name, dur=to_us - from_us, args=dict(said))


def instant(track: Track, name: str, at_us: int, said: Said) -> Record:
    """Something that takes no time."""
    return _record("i", track, at_us, name=name, s="t", args=dict(said))


def counted(name: str, at_us: int, values: Mapping[str, float]) -> Record:
    """The values of a counter of the device, from this moment on."""
    return {"ph": "C", "pid": DEVICE, "tid": 0, "ts": at_us, "name": name, "args": dict(values)}


def _record(phase: str, track: Track, at_us: int, **more: object) -> Record:
    return {"ph": phase, "pid": track.process, "tid": track.thread, "ts": at_us, **more}


def _about(what: str, process: int, thread: int, **said: object) -> Record:
    return {"ph": "M", "pid": process, "tid": thread, "ts": 0, "name": what, "args": said}
