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
    app: ASGIApp,
    listening: socket.socket,
    settings: ServerSettings,
    on_ready: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until cancelled; then call ``on_end``, take no more, and let those under way end.

    Cancelled, it returns if all of them had ended within ``settings.drain_s``; else it cuts them off and raises
    CancelledError.
    """
    config = _Config(
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
    config.head_s = settings.head_s
    server = _Server(config, on_ready)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="agentmux server")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        on_end()
        server.should_exit = True
        await serving
        if loop.time() - began_s >= settings.drain_s:
            raise


class _Config(uvicorn.Config):
    """With what only agentmux knows."""

    head_s: float
    """Seconds in which a request's head must have come."""


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


class _Joined:
    """A transport that sends at once what is written within one step of the loop: an answer's head with the first of
    its body, its last words with its end. Each piece that is sent costs more than the making of it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """All but writing and ending is as it was."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it, soon. Nothing is what ends an answer of known length: what waits is all of it, and goes at once."""
        if not data:
            self._send()
            return
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)

    def close(self) -> None:
        """Send what was written, then end."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.write(b"".join(waiting))


class _Protocol(H11Protocol):
    """Tells what is no HTTP in the same form as all other errors, and does not wait for a request's head for ever."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """As ever; the first request's head must come in time."""
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]  # it is one by its methods
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """As ever; a further request's head must come in time, too."""
        if self._is_between and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if not self._is_between:
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """As ever."""
        self._stop_timer()
        super().connection_lost(exc)

    @property
    def _is_between(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        assert isinstance(self.config, _Config)
        self._head_timer = self.loop.call_later(self.config.head_s, self._on_late_head)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_late_head(self) -> None:
        self._head_timer = None
        if self.conn.trailing_data[0]:
            self._refuse(Problem(408, "the request's head did not come in time", code="timeout"), b"Request Timeout")
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """A response to what could not be read, and the connection's end."""
        problem = Problem(400, f"no HTTP request that can be read: {msg}", code="invalid_http")
        self._refuse(problem, b"Bad Request")

    def _refuse(self, problem: Problem, reason: bytes) -> None:
        body = bytes(problem.response().body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=problem.status, headers=headers, reason=reason)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
