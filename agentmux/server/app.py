"""The ASGI application: which path is answered by what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agentmux.log import get_logger
from agentmux.runtime import Runtime
from agentmux.server.chats import chat_completions
from agentmux.server.completions import completions
from agentmux.server.embeddings import embeddings
from agentmux.server.guard import Guard
from agentmux.server.health import Health
from agentmux.server.listing import health, metrics, model, models, ready
from agentmux.server.live import Live
from agentmux.server.live_page import PAGE, is_live, live, live_turn, page, page_file
from agentmux.server.openapi import openapi
from agentmux.server.prefixes import Prefixes
from agentmux.server.problems import Problem, problem_of
from agentmux.server.published import publish
from agentmux.server.reading import ClientGone
from agentmux.server.responses import responses
from agentmux.server.settings import ServerSettings
from agentmux.server.state import Served
from agentmux.server.traffic import Traffic

Endpoint = Callable[[Served, Request], Awaitable[Response]]

_ROUTES: Mapping[str, tuple[str, Endpoint]] = MappingProxyType(
    {
        "/v1/chat/completions": ("POST", chat_completions),
        "/v1/completions": ("POST", completions),
        "/v1/responses": ("POST", responses),
        "/v1/embeddings": ("POST", embeddings),
        "/v1/models": ("GET", models),
        "/v1/models/{name:path}": ("GET", model),
        "/health": ("GET", health),
        "/ready": ("GET", ready),
        "/metrics": ("GET", metrics),
        "/openapi.json": ("GET", openapi),
        "/": ("GET", page),
        PAGE + "{name}": ("GET", page_file),
        "/live": ("GET", live),
        "/live/turns/{turn}": ("GET", live_turn),
    }
)
_CLIENT_GONE = 499
"""As nginx has it; nobody reads it, but it is counted."""


def application(
    mux: Runtime,
    settings: ServerSettings,
    traffic: Traffic,
    targets: Iterable[Any] = (),
    watched: Live | None = None,
) -> ASGIApp:
    """OpenAI's interface to a runtime, as an ASGI application for HTTP.

    Args:
        mux: an open runtime, which must stay open for as long as requests come. Its models are published.
        settings: who may ask, and how much.
        traffic: one that the runtime has as an observer.
        targets: agents and pipelines that are published as models, each with one argument after ``ctx``.
        watched: one that the runtime has as an observer, for the live page; None: it shows the engine, but no turns.

    Raises ConfigError for targets that cannot be published.
    """
    published, watched = publish(targets, mux.config.models), watched or Live()
    watched.bind(mux, {name: one.kind for name, one in published.items()})
    prefixes = Prefixes(settings.reuse_prefixes) if settings.reuse_prefixes else None
    served = Served(mux, settings, published, traffic, Health(settings.stall_s), watched, prefixes=prefixes)
    routes = [
        Route(path, _answered(served, each), methods=[verb])
        for path, (verb, each) in _ROUTES.items()
        if settings.live or not is_live(path)
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_place})
    app.router.redirect_slashes = False
    return Guard(app, settings, traffic, frozenset(_ROUTES))


def _answered(served: Served, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(served, request)
        except (ClientGone, ClientDisconnect):
            return Response(status_code=_CLIENT_GONE)
        except Exception as error:
            problem = problem_of(error)
            served.traffic.refused(problem.code)
            if problem.code == "internal_error":
                get_logger("agentmux.server").error("request failed", error=repr(error), exc_info=True)
            return problem.response()

    answer.__doc__ = endpoint.__doc__
    return answer


async def _no_such_place(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    message = f"{request.method} {request.url.path}: {error.detail}"
    return Problem(error.status_code, message, code=code, headers=error.headers).response()
