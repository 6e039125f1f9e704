"""A clock that moves when it is told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class _Call:
    when_s: float
    order: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """An ``agentmux.clock.Clock`` in seconds from 0."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._calls: list[_Call] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Seconds that it was moved so far."""
        return self._now_s

    def call_at(self, when_s: float, callback: Callable[[], None]) -> _Call:
        """Run ``callback`` within the ``advance`` that reaches ``when_s``."""
        call = _Call(when_s, next(self._order), callback)
        heapq.heappush(self._calls, call)
        return call

    @property
    def next_call_s(self) -> float | None:
        """Second of the next planned call; None without one."""
        while self._calls and self._calls[0].cancelled:
            heapq.heappop(self._calls)
        return self._calls[0].when_s if self._calls else None

    def advance(self, seconds: float) -> None:
        """Move on, and run the calls that fall due, each at its second and in order."""
        end_s = self._now_s + seconds
        while (when_s := self.next_call_s) is not None and when_s <= end_s:
            call = heapq.heappop(self._calls)
            self._now_s = max(self._now_s, when_s)
            call.callback()
        self._now_s = end_s


async def settle(rounds: int = 25) -> None:
    """Let everything happen that can happen without time passing: tasks, callbacks, and the engine's events."""
    for _ in range(rounds):
        await asyncio.sleep(0)
