"""The way of an engine's events to the event loop.

An engine says that something happened by a descriptor, and each time that the loop is woken costs more than the event
itself. So the loop is woken at once for what comes after a silence, and for the beginnings and ends of turns, which
others wait for; where nothing but pieces of texts came, and came soon after others, more are on their way: then the
descriptor is left alone for a moment, and all that gathers in it is taken at once. The tokens of one step, and on a
quick model those of a few steps, are one wake-up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from agentmux.clock import Clock, Timer
from agentmux.engine.base import Engine, EngineEvent, PrefillProgress, TextDelta

GATHER_S = 0.002
"""Seconds for which pieces of texts gather. A text that is read, or spoken, comes at a hundredth of this pace."""
_SOON = 2
"""Events that come within so many times that of others are a stream; a slower one is not worth the waiting."""


class Pump:
    """Takes an engine's events on the running loop, in their order, until it is closed.

    Args:
        engine: whose events.
        clock: by which they gather.
        deliver: called with each event; must not raise.
        fail: called with what ``poll`` raised, after which nothing is taken any more.
        gather_s: seconds for which pieces of texts gather; 0: they do not, as of an engine in a test, whose turns take
            no time.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        deliver: Callable[[EngineEvent], None],
        fail: Callable[[Exception], None],
        gather_s: float = GATHER_S,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._deliver = deliver
        self._fail = fail
        self._gather_s = gather_s
        self._loop = asyncio.get_running_loop()
        self._fd = engine.fileno()
        self._taken_s = -math.inf
        self._gathering: Timer | None = None
        self._is_closed = False
        self._loop.add_reader(self._fd, self._take)

    def close(self) -> None:
        """Take nothing any more. Closing twice is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._gathering is None:
            self._loop.remove_reader(self._fd)
        else:
            self._gathering.cancel()

    def _take(self) -> None:
        try:
            events = self._engine.poll()
        # An engine that cannot say what happened is lost; whoever waits for it must be told.
        except Exception as error:
            self.close()
            self._fail(error)
            return
        for event in events:
            self._deliver(event)
        if not self._is_closed:
            self._go_on(events)

    def _go_on(self, events: Sequence[EngineEvent]) -> None:
        """Wait for the next events: on the descriptor, or for a moment without looking at it."""
        now_s = self._clock.now()
        is_soon, self._taken_s = now_s - self._taken_s < _SOON * self._gather_s, now_s if events else self._taken_s
        was_gathering = self._gathering is not None
        if events and is_soon and all(isinstance(event, TextDelta | PrefillProgress) for event in events):
            self._gathering = self._clock.call_at(now_s + self._gather_s, self._take)
            if not was_gathering:
                self._loop.remove_reader(self._fd)
        elif was_gathering:
            self._gathering = None
            self._loop.add_reader(self._fd, self._take)
