"""Records a runtime while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from agentmux.clock import Clock, Timer
from agentmux.errors import AgentmuxError
from agentmux.messages import Event
from agentmux.runtime_stats import RuntimeStats
from agentmux.tracing.files import TraceFile
from agentmux.tracing.recorder import Recorder
from agentmux.tracing.records import head, micros
from agentmux.tracing.sampler import Sampler

SAMPLE_S = 0.005
"""Seconds between two looks at the engine's counters, while there are turns."""


class Trace:
    """An observer that writes a trace. Give ``observe`` to the runtime, and look at its counters within ``sampling``.

    It keeps what has begun and not ended, whatever the length of the trace.

    Args:
        file: an open file; it stays open.
        clock: the source of time; its now is the trace's zero.
    """

    def __init__(self, file: TraceFile, clock: Clock) -> None:
        self._clock = clock
        self._zero_s = clock.now()
        self._last_us = 0
        self._stats: Callable[[], RuntimeStats] | None = None
        self._timer: Timer | None = None
        self._is_busy = False
        self._sampler = Sampler(file.write)
        self._recorder = Recorder(file.write, self._now_us, self._on_busy)
        for record in head(datetime.now(UTC).isoformat(timespec="milliseconds")):
            file.write(record)

    def observe(self, event: Event) -> None:
        """Take notice of an event of any run or turn."""
        self._recorder.observe(event)

    @contextmanager
    def sampling(self, stats: Callable[[], RuntimeStats]) -> Iterator[None]:
        """Within it, the counters of an open runtime are looked at while there are turns."""
        self._stats = stats
        if self._is_busy:
            self._sample()
        try:
            yield
        finally:
            self._stop()
            self._stats = None

    def close(self) -> None:
        """End all that has not ended. Nothing may be observed afterwards."""
        self._stop()
        self._recorder.close()

    def _now_us(self) -> int:
        # Never back: what is written in one order has its times in that order.
        self._last_us = max(self._last_us, micros(self._clock.now() - self._zero_s))
        return self._last_us

    def _on_busy(self, busy: bool) -> None:
        self._is_busy = busy
        if self._stats is None:
            return
        if busy:
            self._sample()
        else:
            self._stop()

    def _sample(self) -> None:
        self._timer = None
        if self._look():
            self._timer = self._clock.call_at(self._clock.now() + SAMPLE_S, self._sample)

    def _look(self) -> bool:
        """Whether there was something to look at: a runtime that was closed has no counters."""
        if self._stats is None:
            return False
        try:
            stats = self._stats()
        except AgentmuxError:
            return False
        self._sampler.sample(stats.engine, self._now_us())
        return True

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._look()
        self._sampler.pause(self._now_us())
