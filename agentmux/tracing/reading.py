"""Reads the files that ``TraceFile`` writes, one that was cut included."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agentmux.errors import ConfigError
from agentmux.tracing.records import Record

_BEFORE, _BEHIND = '<script id="trace" type="application/json">', "</script>"
"""In a page, what stands around the records."""
_NEEDED = {"M": ("name", "args"), "B": ("name",), "E": (), "X": ("name", "dur"), "i": ("name",), "C": ("name", "args")}
"""For each kind of record, what it has beside process, thread and moment."""
_TYPES: dict[str, type] = {"name": str, "args": dict, "dur": int}


def read(path: Path) -> list[Record]:
    """The records of a trace in order, from JSON or from a page. What a crash cut of the last one is left out.

    Raises ConfigError for a file that cannot be read, and for one that is no trace of agentmux.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"cannot read the trace {os.fspath(path)}: {error.strerror}") from error
    _, found, embedded = text.partition(_BEFORE)
    lines = (embedded.partition(_BEHIND)[0] if found else text).strip().split("\n")
    if lines[0] != "[":
        raise ConfigError(f"{os.fspath(path)} is no trace of agentmux: it does not begin with a line '['")
    records = []
    for number, line in enumerate(lines[1:], start=2):
        if line in ("", "]"):
            continue
        record = _record(line.removesuffix(","))
        if record is not None:
            records.append(record)
        elif number < len(lines):
            raise ConfigError(f"{os.fspath(path)} is no trace of agentmux: there is no record in its line {number}")
    return records


def _record(line: str) -> Record | None:
    """None if it is not one that we write."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("ph") not in _NEEDED:
        return None
    has_place = all(_is_count(record.get(name)) for name in ("pid", "tid", "ts"))
    has_all = all(isinstance(record.get(name), _TYPES[name]) for name in _NEEDED[record["ph"]])
    return record if has_place and has_all and _fits(record) else None


def _fits(record: Record) -> bool:
    """Whether what its kind says is so: a duration that is one, a counter of numbers."""
    if record["ph"] == "C":
        return all(isinstance(value, int | float) for value in record["args"].values())
    return record["ph"] != "X" or _is_count(record["dur"])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
