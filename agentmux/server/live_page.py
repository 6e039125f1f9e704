"""``GET /``, the page's files, ``/live`` and ``/live/turns/{turn}``."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentmux.server.answers import EventStream
from agentmux.server.problems import Problem
from agentmux.server.state import Served

PAGE = "/page/"
"""What lies below it, and ``/`` itself, needs no API key: it says nothing of what goes on."""
_FILES = Path(__file__).parent / "page"
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)


def is_live(path: str) -> bool:
    """Whether an endpoint is one of the live page's."""
    return path == "/" or path.startswith((PAGE, "/live"))


async def page(served: Served, request: Request) -> Response:
    """The live page."""
    return _file("index.html", request)


async def page_file(served: Served, request: Request) -> Response:
    """One of its files. Raises Problem for others."""
    return _file(request.path_params["name"], request)


def _file(name: str, request: Request) -> Response:
    path = next((one for one in _FILES.iterdir() if one.name == name), None)
    if path is None or path.suffix not in _TYPES:
        raise Problem(404, f"the page has no file {name!r}", code="not_found")
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[path.suffix], headers=headers)


async def live(served: Served, request: Request) -> Response:
    """What goes on, as it changes. Raises Problem if too many follow it."""
    events = served.live.follow()
    first = await anext(events)
    return EventStream(_with(first, events))


async def _with(first: str, events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """All of a stream whose first event has been taken."""
    async with aclosing(events):
        yield first
        async for event in events:
            yield event


async def live_turn(served: Served, request: Request) -> Response:
    """A recent turn's prompt, answer and numbers. Raises Problem for one that is not known any more."""
    turn = request.path_params["turn"]
    found = served.live.turn(turn)
    if found is None:
        raise Problem(404, f"turn {turn!r} is not among the recent ones", code="not_found")
    return JSONResponse(found, headers={"Cache-Control": "no-store"})
