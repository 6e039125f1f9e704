"""The texts of ``agentmux top``. Pure: a document in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentmux.cli.live import Cells, unit_cells
from agentmux.cli.output import printable
from agentmux.cli.summary import size_text

Document = Mapping[str, Any]
NAME_COLUMNS = 14
RECENT_S = 10.0
"""Rates are of so many seconds."""


def headline(document: Document, now_s: float) -> str:
    """One line: what runs, how fast, what is used."""
    states = [turn["state"] for turn in document["turns"].values()]
    tokens, uploaded = (rate(document, now_s, which) for which in (0, 1))
    return (
        f"{states.count('running')} running, {states.count('queued')} waiting, {tokens:.0f} tokens/s, "
        f"{size_text(round(uploaded))}/s paged"
    )


def rate(document: Document, now_s: float, which: int) -> float:
    """Tokens (0) or bytes (1) a second, of the last seconds."""
    each: int = document["bucket_s"]
    first = int((now_s - RECENT_S) // each)
    total = sum(values[which] for slice_, values in document["rates"].items() if int(slice_) >= first)
    return float(total) / (now_s - first * each)


def memory_lines(document: Document, width: int, cells: Cells) -> Iterator[str]:
    """The device's memory and each model's layers."""
    memory = document.get("memory")
    if memory is None:
        yield "the engine is closed"
        return
    used = f"{size_text(memory['arena_used_bytes'])} of {size_text(memory['arena_bytes'])}"
    paged = f"{size_text(memory['uploaded_bytes'])} paged so far"
    yield f"{'memory':<{NAME_COLUMNS}}{used} on {document['device']}, {paged}"
    for name, model in document["models"].items():
        shown = printable(name)[: NAME_COLUMNS - 1]
        busy = f"  {size_text(model['resident_bytes']):>9}  {model['active']} of {model['slots']} slots"
        room = max(8, width - NAME_COLUMNS - len(busy))
        yield f"{shown:<{NAME_COLUMNS}}{unit_cells(model['units'], room, cells)}{busy}"
    for name in document.get("loading", ()):
        yield f"{printable(name)[: NAME_COLUMNS - 1]:<{NAME_COLUMNS}}is being loaded"
    yield (
        f"{'':<{NAME_COLUMNS}}{cells.resident} on the device  {cells.arriving} arriving  {cells.cpu} by the CPU  "
        f"{cells.host} in host memory"
    )


def turn_rows(document: Document, now_s: float, count: int) -> Iterator[tuple[str, ...]]:
    """Turns: those that wait first, then those that run, then those that ended last.

    Each is (turn, agent, model, state, seconds, tokens, why it waits or how it ended).
    """
    order = {"queued": 0, "running": 1}
    turns = sorted(
        document["turns"].items(),
        key=lambda item: (order.get(item[1]["state"], 2), -item[1].get("ended_s", 0), int(item[0])),
    )
    for number, turn in turns[:count]:
        took_s = turn.get("ended_s", now_s) - turn["queued_s"]
        why = turn.get("error") or (turn["reason"] if turn["state"] == "queued" else turn.get("finish_reason", ""))
        texts = (number, turn["agent"], turn["model"], turn["state"], f"{took_s:.1f}", str(turn["tokens"]), why)
        yield tuple(printable(text) for text in texts)
