"""Blocking calls in threads of their own."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from agentmux.threads import in_daemon, in_thread


class Thing:
    """Something that can be told to be gone."""

    def use(self) -> None:
        """Is used."""

    def fail(self) -> None:
        """Cannot be used."""
        raise OSError("broken")


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("broken", [False, True])
async def test_nothing_of_a_call_is_kept_once_it_has_ended(broken: bool) -> None:
    # An engine that a dead thread or error refers to is still there when the process ends, which it complains of.
    for _ in range(50):
        thing = Thing()
        gone = weakref.ref(thing)
        try:
            await in_thread(thing.fail if broken else thing.use)
        except OSError as error:
            error.__traceback__ = None
        del thing
        assert gone() is None


@pytest.mark.usefixtures("no_collector")
async def test_nothing_is_kept_where_the_caller_was_cancelled() -> None:
    go_on = threading.Event()

    async def body(thing: Thing) -> None:
        await in_thread(go_on.wait, 30)
        thing.use()

    thing = Thing()
    gone = weakref.ref(thing)
    task = asyncio.create_task(body(thing))
    del thing
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    go_on.set()
    await asyncio.wait({task})
    assert task.cancelled()
    del task
    await asyncio.sleep(0)
    assert gone() is None


async def test_a_future_cannot_carry_the_end_of_an_iteration() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_daemon(lambda: next(iter(())))
