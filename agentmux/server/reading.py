"""Requests as they come in: bytes of limited number and in limited time, JSON of the right types, or a Problem."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from agentmux.server.problems import Problem
from agentmux.server.settings import ServerSettings

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_SHOWN_PROBLEMS = 3


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


async def document_of(request: Request, kind: type[M], settings: ServerSettings) -> M:
    """The request's body as a value of ``kind``. Raises Problem: 400, 408, 413 or 415; ClientDisconnect."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Not only a formality: a page in a browser may send anything else to another site without asking.
        raise Problem(
            415, f"the body must be application/json, not {media_type or 'of no type'}", code="unsupported_media_type"
        )
    body = await _body(request, settings)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error


async def _body(request: Request, settings: ServerSettings) -> bytes:
    limit = settings.max_body_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(int(length), limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(size, limit)
                chunks.append(chunk)
    except TimeoutError as error:
        raise Problem(
            408,
            f"the body did not come within {settings.body_s:g} s",
            code="timeout",
            headers={"Connection": "close"},
        ) from error
    return b"".join(chunks)


def _too_large(size: int, limit: int) -> Problem:
    return Problem(
        413,
        f"the body has {size} bytes or more, the limit is {limit}",
        code="body_too_large",
        headers={"Connection": "close"},
        numbers={"body_bytes": size, "limit_bytes": limit},
    )


def _invalid(error: ValidationError) -> Problem:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return Problem(400, f"the body is no JSON: {found[0]['msg']}", code="invalid_json")
    places = [".".join(map(str, one["loc"])) for one in found]
    said = "; ".join(
        f"{place or 'body'}: {one['msg']}" for place, one in list(zip(places, found, strict=True))[:_SHOWN_PROBLEMS]
    )
    return Problem(400, said, code="invalid_value", param=places[0] or None)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What ``work`` gives; cancelled, with ClientGone, as soon as the client has gone. For requests whose body was
    read.

    The work is done by the task that asks, and begins at once: what it takes, it has before any other request is read.
    """
    own = asyncio.current_task()
    assert own is not None
    watch = _Watch(own)
    watching = asyncio.create_task(watch.follow(request))
    try:
        return await work
    except asyncio.CancelledError:
        if watch.is_gone and own.uncancel() <= watch.cancelled_before:
            raise ClientGone from None
        raise
    finally:
        watching.cancel()


class _Watch:
    """Cancels a task when its client has gone."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self.cancelled_before = task.cancelling()
        self.is_gone = False

    async def follow(self, request: Request) -> None:
        await _gone(request)
        self.is_gone = True
        self._task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
