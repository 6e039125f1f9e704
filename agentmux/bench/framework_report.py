"""The document of ``agentmux bench framework --json``. Fields may be added, those here stay."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agentmux.bench.machine import Machine

AGENTMUX = "agentmux"
JOURNALED = "agentmux with journal"
LANGGRAPH = "langgraph"

Shape = Literal["one by one", "at once"]
ONE_BY_ONE: Shape = "one by one"
AT_ONCE: Shape = "at once"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Timing(_Value):
    """One measurement of one contender."""

    contender: str = Field(description="agentmux, agentmux with journal, or langgraph")
    shape: Shape
    repetition: int = Field(description="from 0; each contender ran once in each, one after another")
    turns: int
    turn_s: float = Field(description="wall time, divided by the turns")
    turn_cpu_s: float = Field(description="CPU time of the process, all threads, divided by the turns")


class Comparison(_Value):
    """What the timings of one contender come to."""

    contender: str
    shape: Shape
    turn_s: float = Field(description="median")
    turn_cpu_s: float = Field(description="median")
    of_langgraph: float | None = Field(
        description="median over the repetitions of turn_s over LangGraph's in the same one; less than 1 is less cost"
    )


class Memory(_Value):
    """What stays in memory while turns come and go, after a warm-up of a tenth as many."""

    turns: int
    traced_bytes_halfway: int = Field(
        description="Python's memory that was allocated since the warm-up and is not freed"
    )
    traced_bytes_at_end: int = Field(description="the same after the other half of the turns")
    resident_bytes_grown: int = Field(description="of the process, since the warm-up; the tracing's own included")
    turns_finished: int = Field(description="events TurnCompleted")
    turns_ended_otherwise: int = Field(description="events TurnCancelled and TurnErrored")
    turns_ended_twice: int = Field(description="turns with more than one such event")
    turns_without_end: int = Field(description="turns with none")


class FrameworkReport(_Value):
    """The whole document."""

    command: tuple[str, ...] = Field(description="the command line, without the program's name")
    began: str = Field(description="date and time, ISO 8601, UTC")
    machine: Machine
    software: Mapping[str, str] = Field(description="[package] version")
    turns: int = Field(description="one after another, in one measurement")
    at_once: int = Field(description="runs at the same time, one turn each")
    repetitions: int
    baseline_missing: str = Field(description="why LangGraph was not measured; empty if it was")
    comparisons: tuple[Comparison, ...]
    memory: Memory | None
    timings: tuple[Timing, ...]


def compared(timings: Iterable[Timing]) -> tuple[Comparison, ...]:
    """Each contender in each shape, beside LangGraph where that was measured."""
    groups: dict[tuple[Shape, str], list[Timing]] = {}
    for one in timings:
        groups.setdefault((one.shape, one.contender), []).append(one)
    return tuple(
        Comparison(
            contender=contender,
            shape=shape,
            turn_s=median(one.turn_s for one in own),
            turn_cpu_s=median(one.turn_cpu_s for one in own),
            of_langgraph=_ratio(own, groups.get((shape, LANGGRAPH), [])),
        )
        for (shape, contender), own in sorted(groups.items(), key=lambda group: group[0][0] != ONE_BY_ONE)
    )


def software() -> dict[str, str]:
    """[package] version of what was measured."""
    found = {"python": platform.python_version()}
    for package in ("agentmux", "pydantic", "structlog", "langgraph"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _ratio(own: list[Timing], baseline: list[Timing]) -> float | None:
    if not baseline:
        return None
    return median(one.turn_s / other.turn_s for one, other in zip(own, baseline, strict=True))
