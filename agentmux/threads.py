"""Blocking calls, each in a thread of its own.

Not in the event loop's executor, as ``asyncio.to_thread`` does: that has a few threads for everything in the process.
A few tools that hang would take them all, and from then on no model could be loaded and no engine closed; and whoever
ends the loop, or the process, waits for them. Threads here are daemons, which nobody waits for.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def in_daemon(function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """What ``function(*args)`` gives or raises, called in a thread, with the caller's context variables. A thread
    cannot be stopped: if the future is cancelled, the call goes on and its outcome is dropped."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    work = [functools.partial(contextvars.copy_context().run, function, *args)]

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def call() -> None:
        result: Any = None
        failed: BaseException | None = None
        try:
            result = work.pop()()  # nothing of it is left when its end is told: the process may end before the thread
        except StopIteration as error:  # a future cannot carry it: who waited for it would wait for ever
            failed = RuntimeError(f"StopIteration: {error}")
        except BaseException as error:
            failed = error
        settled = functools.partial(settle, result, failed)
        del result, failed  # an error that its own frame refers to would stay, with all that its traceback refers to
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(settled)

    threading.Thread(target=call, name="agentmux blocking call", daemon=True).start()
    return future


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a blocking call in a thread. Cancelled, however often, it waits for the call's end and drops its outcome:
    what comes next (closing the engine) must not meet a call that is still under way."""
    future = in_daemon(function, *args)
    await finished(future)
    return future.result()


async def finished(*futures: asyncio.Future[Any]) -> None:
    """Return once all of them are done, whatever came of them. A cancellation meanwhile is raised after that."""
    cancelled: asyncio.CancelledError | None = None
    while left := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return
    for future in futures:
        if not future.cancelled():
            future.exception()  # nobody else is going to look at it
    try:
        raise cancelled
    finally:
        del cancelled  # as above
