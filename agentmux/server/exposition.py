"""Prometheus's text format, version 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
Values: TypeAlias = Mapping[Labels, float]
Kind = Literal["counter", "gauge", "histogram"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of a histogram's buckets, for waits from a cache's to a queue's."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of samples."""

    name: str
    kind: Kind
    text: str
    """What it is, in one line."""
    samples: tuple[tuple[str, Labels, float], ...]
    """What follows the name, labels, value."""

    @classmethod
    def of(cls, name: str, kind: Kind, text: str, values: Values) -> Metric:
        """One sample for each labels."""
        return cls(name, kind, text, tuple(("", labels, value) for labels, value in values.items()))

    @classmethod
    def one(cls, name: str, kind: Kind, text: str, value: float) -> Metric:
        """One sample without labels."""
        return cls(name, kind, text, (("", (), value),))


class Histogram:
    """How often seconds were within which bounds."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def begin(self, **labels: str) -> None:
        """Be there from now on for these labels, with nothing counted if nothing was."""
        key = tuple(labels.items())
        self._counts.setdefault(key, [0] * (len(SECONDS) + 1))
        self._sums.setdefault(key, 0.0)

    def observe(self, seconds: float, **labels: str) -> None:
        """Count one."""
        self.begin(**labels)
        key = tuple(labels.items())
        self._counts[key][bisect_left(SECONDS, seconds)] += 1
        self._sums[key] += seconds

    def metric(self) -> Metric:
        """All of it."""
        return Metric(self._name, "histogram", self._text, tuple(self._samples()))

    def _samples(self) -> Iterator[tuple[str, Labels, float]]:
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip((*SECONDS, math.inf), counts, strict=True):
                total += count
                yield "_bucket", (*labels, ("le", _number(bound))), total
            yield "_sum", labels, self._sums[labels]
            yield "_count", labels, total


def exposed(metrics: Iterable[Metric]) -> str:
    """All of them, as text."""
    return "".join(f"{line}\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.text}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for suffix, labels, value in metric.samples:
        shown = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels)
        yield (
            f"{metric.name}{suffix}{{{shown}}} {_number(value)}" if shown else f"{metric.name}{suffix} {_number(value)}"
        )


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
