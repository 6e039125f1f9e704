"""Runs a command's coroutine so that SIGINT and SIGTERM end it in order: cancelled, cleaned up, one line of goodbye."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(Exception):
    """The command was ended by a signal, and everything has been closed."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(_WORDS[number])
        self.word = _WORDS[number]
        self.status = 128 + number


def run_to_end(body: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` that turns the first signal into cancellation, and a second one into an end on the spot.

    Raises Stopped once the cancelled coroutine is done with cleaning up.
    """
    return asyncio.run(_stoppable(body))


async def _stoppable(body: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = loop.create_task(body)
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(number)
        task.cancel()

    for number in _WORDS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except BaseException:
        if caught:
            raise Stopped(caught[0]) from None
        raise
    finally:
        for number in _WORDS:
            loop.remove_signal_handler(number)
