"""A server as clients meet it: a real socket and uvicorn, with a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import httpx
from openai import OpenAI

from agentmux import Runtime
from agentmux.messages import Event
from agentmux.server import ServerSettings, Traffic, application, listen, serve

T = TypeVar("T")
WAIT_S = 60.0


class Live:
    """A server that runs until the end of the block.

    Args:
        make: makes the runtime; it is given the observers.
        settings: the port is any that is free.
        targets: what is published beside the models.
    """

    def __init__(
        self,
        make: Callable[[list[Callable[[Event], None]]], Runtime],
        settings: ServerSettings | None = None,
        targets: Iterable[Any] = (),
    ) -> None:
        self._make = make
        self._settings = settings or ServerSettings(port=0)
        self._targets = tuple(targets)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server")
        self._failed: BaseException | None = None
        self._changed = threading.Condition()
        self.events: list[Event] = []
        self.mux: Runtime
        self.port = 0
        self._clients: list[OpenAI] = []
        self._http = httpx.Client(timeout=WAIT_S)

    def __enter__(self) -> Live:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        if self._failed:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(WAIT_S)
        for client in (self._http, *self._clients):
            client.close()
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except (Exception, asyncio.CancelledError) as error:
            self._failed = error
        self._ready.set()

    async def _serve(self) -> None:
        traffic = Traffic()
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        with listen(self._settings) as listening:
            self.port = listening.getsockname()[1]
            async with self._make([traffic.observe, self._heard]) as self.mux:
                app = application(self.mux, self._settings, traffic, self._targets)
                await serve(app, listening, self._settings, self._ready.set)

    def _heard(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, kind: type[Event], count: int = 1) -> None:
        """Wait until so many events of this kind were seen."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(kind) >= count, WAIT_S), self.events

    def count(self, kind: type[Event]) -> int:
        """Events of this kind so far."""
        return sum(isinstance(event, kind) for event in self.events)

    def on_loop(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run something on the server's loop, where its runtime lives."""

        async def called() -> T:
            return await function()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(WAIT_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def openai(self, key: str = "none", **more: Any) -> OpenAI:
        """The official client, which is not to try again."""
        client = OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=WAIT_S, **more)
        self._clients.append(client)
        return client

    def post(self, path: str, document: Any, **more: Any) -> httpx.Response:
        """A request of any shape: bytes as they are, else JSON."""
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"content-type": "application/json", **more.pop("headers", {})}
        return self._http.post(f"{self.url}{path}", content=content, headers=headers, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        """A GET."""
        return self._http.get(f"{self.url}{path}", **more)

    def raw(self) -> socket.socket:
        """A connection, to be written to byte by byte."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    got = b""
    while chunk := connection.recv(65536):
        got += chunk
    return got


def chat(model: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    """The body of a chat with one message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def code_of(response: httpx.Response) -> str:
    """The code of an error in OpenAI's form."""
    error = response.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert error["message"]
    return str(error["code"])
