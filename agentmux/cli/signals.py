"""Runs a command's coroutines so that SIGINT and SIGTERM end them in order: cancelled, cleaned up, a last line."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(Exception):
    """The coroutine was ended by a signal, and has cleaned up."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(_WORDS[number])
        self.number = number
        self.word = _WORDS[number]
        self.status = 128 + number


class Steps:
    """Runs coroutine after coroutine on one event loop. A signal cancels the one that is under way; a second one,
    before that has ended, ends the process on the spot, after ``restore``.

    The handlers are Python's own, not the loop's: they are called even while the user's code keeps the loop busy.
    Between two steps signals do what they did before.
    """

    def __init__(self, restore: Callable[[], None] = lambda: None) -> None:
        self._restore = restore
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, traceback)

    def run(self, body: Coroutine[Any, Any, T]) -> T:
        """Run it to its end. Raises Stopped once it has ended because of a signal."""
        caught: list[signal.Signals] = []
        loop = self._runner.get_loop()
        tasks: list[asyncio.Task[Any]] = []

        def stop(number: int, frame: FrameType | None) -> None:
            if caught:
                self._restore()
                os._exit(128 + number)
            caught.append(signal.Signals(number))
            for task in tasks:
                loop.call_soon_threadsafe(task.cancel)

        async def started() -> T:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            if caught:
                body.close()
                raise asyncio.CancelledError
            return await body

        before = {number: signal.signal(number, stop) for number in _WORDS}
        try:
            return self._runner.run(started())
        except BaseException:
            if caught:
                raise Stopped(caught[0]) from None
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_to_end(body: Coroutine[Any, Any, T], restore: Callable[[], None] = lambda: None) -> T:
    """``asyncio.run`` that turns the first signal into cancellation, and a second one into an end on the spot.

    Args:
        body: what to run.
        restore: called before that, to leave the terminal as it was.

    Raises Stopped once the cancelled coroutine is done with cleaning up.
    """
    with Steps(restore) as steps:
        return steps.run(body)
