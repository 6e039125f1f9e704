"""Time as an argument: what waits for a moment asks a ``Clock``, so that tests need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is planned and can be called off."""

    def cancel(self) -> None:
        """Call it off; no effect once it has run."""
        ...


class Clock(Protocol):
    """Monotonic seconds, and calls at a given second."""

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        ...

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` on the event loop once ``now()`` has reached ``when_s``."""
        ...


class LoopClock:
    """The running event loop's own clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> float:
        """Seconds of the loop's monotonic clock."""
        return self._loop.time()

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` at ``when_s`` of that clock."""
        return self._loop.call_at(when_s, callback)


async def within(clock: Clock, seconds: float, condition: asyncio.Event) -> bool:
    """Wait for ``condition``, for at most so many seconds of ``clock``. Whether it came."""
    over = asyncio.Event()
    timer = clock.call_at(clock.now() + seconds, over.set)
    waits = [asyncio.ensure_future(event.wait()) for event in (condition, over)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        for wait in waits:
            wait.cancel()
    return condition.is_set()
