"""Runs the application on a socket until it is told to end, and lets requests under way come to their end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from agentmux.errors import ConfigError
from agentmux.server.problems import Problem
from agentmux.server.settings import ServerSettings


def listen(settings: ServerSettings) -> socket.socket:
    """A socket that takes connections from now on. Raises ConfigError where that cannot be."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol by its number: asyncio turns off Nagle's algorithm only for sockets that say it, and answers in more
    # pieces than one would else wait 40 ms for the client's acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise ConfigError(f"cannot listen on {settings.host} port {settings.port}: {reason}") from error
    return listening


async def serve(
    app: ASGIApp, listening: socket.socket, settings: ServerSettings, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Answer requests until cancelled; then take no more, and let those under way end.

    Cancelled, it returns if all of them had ended within ``settings.drain_s``; else it cuts them off and raises
    CancelledError.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    server = _Server(config, on_ready)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="agentmux server")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        server.should_exit = True
        await serving
        if loop.time() - began_s >= settings.drain_s:
            raise


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it, and says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: they are the command's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As ever, and say so."""
        await super().startup(sockets)
        self._on_ready()


class _Protocol(H11Protocol):
    """Tells what is no HTTP in the same form as all other errors."""

    def send_400_response(self, msg: str) -> None:
        """A response to what could not be read, and the connection's end."""
        problem = Problem(400, f"no HTTP request that can be read: {msg}", code="invalid_http")
        body = problem.response().body
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(body)),
            h11.EndOfMessage(),
        ):
            self._write(self.conn.send(event))
        self.transport.close()

    def _write(self, output: Any) -> None:
        if output:
            self.transport.write(output)
