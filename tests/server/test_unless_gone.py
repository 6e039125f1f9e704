"""Work that goes on for as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from agentmux.server.reading import ClientGone, unless_gone
from agentmux.testing import settle


class Client:
    """One that goes when it is told to."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()

    async def _receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    @property
    def request(self) -> Request:
        return Request({"type": "http"}, self._receive)


class Work:
    """Goes on until it may end; knows how it ended."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended = ""

    async def __call__(self) -> str:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "well"
        return "done"


async def test_what_the_work_gives_and_raises_comes_through() -> None:
    async def fails() -> None:
        raise ValueError("mine")

    client, work = Client(), Work()
    work.may_end.set()
    assert await unless_gone(client.request, work()) == "done"
    with pytest.raises(ValueError, match="mine"):
        await unless_gone(client.request, fails())
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nobody watches any more"


async def test_it_begins_before_anything_else_is_done() -> None:
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)
        await asyncio.Event().wait()

    async def ask() -> None:
        await unless_gone(Client().request, work())

    asked = ask()
    asked.send(None)  # as a task does in its first step
    assert begun
    asked.close()


async def test_a_client_that_goes_ends_it() -> None:
    client, work = Client(), Work()
    task = asyncio.create_task(unless_gone(client.request, work()))
    await settle()
    client.leave.set()
    with pytest.raises(ClientGone):
        await task
    assert work.ended == "cancelled"


async def test_after_a_client_has_gone_its_task_goes_on_as_any() -> None:
    client = Client()
    client.leave.set()
    with pytest.raises(ClientGone):
        await unless_gone(client.request, Work()())
    own = asyncio.current_task()
    assert own is not None
    assert own.cancelling() == 0
    async with asyncio.timeout(60):
        await settle()


@pytest.mark.parametrize("client_goes", [False, True])
async def test_whoever_cancels_the_task_is_obeyed(client_goes: bool) -> None:
    client, work = Client(), Work()
    task = asyncio.create_task(unless_gone(client.request, work()))
    await settle()
    task.cancel()
    if client_goes:
        client.leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended == "cancelled"


async def test_a_generator_is_ended_where_it_is() -> None:
    ended: list[str] = []

    async def events() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            ended.append("closed")

    client = Client()
    task = asyncio.create_task(unless_gone(client.request, anext(events())))
    await settle()
    client.leave.set()
    with pytest.raises(ClientGone):
        await task
    assert ended == ["closed"]
