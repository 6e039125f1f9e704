"""Clients of ``agentmux bench server``, in a process of their own: ``python -m agentmux.bench.server_load``.

They do as little as clients can, since they compute on the cores of what they measure: bytes are kept as they come, and
read once the measurement is over. Settings come by stdin, and the result goes to stdout, both JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from agentmux.bench.machine import main_thread_cpu_s, process_cpu_s
from agentmux.bench.server_report import Load, Measured, Question, Refusals, questions

_END = b"\r\n0\r\n\r\n"
"""Of a stream. Line ends within JSON are escaped, so it is nowhere else."""
_RETRY_AFTER = re.compile(rb"retry-after: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time of a server, of its event loop's thread, and of the clients."""

    server_s: float
    loop_s: float
    own_s: float

    @classmethod
    def now(cls, pid: int) -> Cpu:
        """Since they began."""
        return cls(process_cpu_s(pid), main_thread_cpu_s(pid), time.process_time())

    def since(self, before: Cpu) -> Cpu:
        """What was spent from then on."""
        return Cpu(self.server_s - before.server_s, self.loop_s - before.loop_s, self.own_s - before.own_s)


@dataclass(slots=True)
class Reply:
    """What came of a request."""

    question: Question
    status: int
    first_byte_s: float
    raw: bytes


class Connection(asyncio.Protocol):
    """One client's, kept open from request to request; opened again where the server has ended it meanwhile, as it
    does when a client that was refused waits for longer than connections may be silent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._parts: list[bytes] = []
        self._end = b""
        self._first_s = 0.0
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if not self._parts:
            self._first_s = time.perf_counter()
        self._parts.append(data)
        self._end = (self._end + data)[-len(_END) :]
        is_refused = not self._parts[0].startswith(b"HTTP/1.1 200")
        if (is_refused or self._end == _END) and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    @property
    def is_closed(self) -> bool:
        """Whether there is none, or none any more."""
        return self._transport is None or self._transport.is_closing()

    async def open(self) -> asyncio.Transport:
        """The transport of a connection that is open."""
        if self.is_closed:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)
        assert self._transport is not None
        return self._transport

    async def ask(self, question: Question, tokens: int) -> Reply:
        """Send a request, and wait until all of its answer is there."""
        transport = await self.open()
        self._parts, self._end = [], b""
        self._done = asyncio.get_running_loop().create_future()
        began_s = time.perf_counter()
        transport.write(_request(question, tokens))
        await self._done
        raw = b"".join(self._parts)
        return Reply(question, int(raw[9:12]), self._first_s - began_s, raw)


def _request(question: Question, tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": question.model,
            "messages": [{"role": "user", "content": question.text}],
            "temperature": 0,
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read(raw: bytes) -> tuple[str, int, int, bool]:
    """Text, tokens and pieces of a streamed answer, and whether it is whole."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    body = b""
    while rest and b"chunked" in head.lower():
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    events = [part.removeprefix("data: ") for part in body.decode().split("\n\n") if part]
    text, tokens, pieces, ends = "", 0, 0, 0
    for event in events[:-1]:
        document = json.loads(event)
        for choice in document.get("choices", ()):
            text += choice["delta"].get("content") or ""
            pieces += 1 if choice["delta"].get("content") else 0
            ends += choice["finish_reason"] is not None
        tokens += (document.get("usage") or {}).get("completion_tokens", 0)
    return text, tokens, pieces, events[-1:] == ["[DONE]"] and ends == 1


async def load(given: Load) -> Measured:
    """Ask for as long as told, first each question once, uncounted."""
    asked = questions(given.models, given.questions)
    connections = [Connection(given.port) for _ in range(given.clients)]
    for connection in connections:
        await connection.open()
    replies: list[Reply] = []
    left = deque(asked)

    async def warm(connection: Connection) -> None:
        while left:
            await _until_answered(connection, left.popleft(), given.tokens, replies)

    async def drive(number: int, connection: Connection, until_s: float) -> None:
        at = number
        while time.perf_counter() < until_s:
            await _until_answered(connection, asked[at % len(asked)], given.tokens, replies)
            at += given.clients + 1

    await asyncio.gather(*(warm(connection) for connection in connections))
    replies.clear()
    began_s, before = time.perf_counter(), Cpu.now(given.pid)
    await asyncio.gather(
        *(drive(number, connection, began_s + given.seconds) for number, connection in enumerate(connections))
    )
    took_s = time.perf_counter() - began_s
    spent = Cpu.now(given.pid).since(before)
    for connection in connections:
        (await connection.open()).close()
    return measured(given, replies, took_s, spent)


async def _until_answered(connection: Connection, question: Question, tokens: int, replies: list[Reply]) -> None:
    while True:
        reply = await connection.ask(question, tokens)
        replies.append(reply)
        if reply.status != 429:
            return
        told = _RETRY_AFTER.search(reply.raw)
        # As told, and not all at the same moment, as clients do it that are well made.
        await asyncio.sleep(int(told[1]) * random.uniform(1, 2) if told else 1)


def measured(given: Load, replies: list[Reply], took_s: float, spent: Cpu) -> Measured:
    """What the replies come to."""
    answers, tokens, pieces, wrong, cut = 0, 0, 0, 0, 0
    for reply in replies:
        if reply.status != 200:
            continue
        text, count, parts, is_whole = read(reply.raw)
        answers, tokens, pieces, cut = answers + 1, tokens + count, pieces + parts, cut + (not is_whole)
        wrong += text != given.expected.get(reply.question.key, text)
    firsts = sorted(reply.first_byte_s for reply in replies if reply.status == 429)
    refusals = Refusals.of(firsts)
    errors = Counter(str(reply.status) for reply in replies if reply.status not in (200, 429))
    return Measured(
        seconds=took_s,
        answers=answers,
        tokens=tokens,
        pieces=pieces,
        cpu_s=spent.server_s,
        loop_cpu_s=spent.loop_s,
        client_cpu_s=spent.own_s,
        cut=cut,
        wrong=wrong,
        errors=dict(errors),
        refusals=refusals,
    )


def main(arguments: Any = None) -> None:
    """Read the settings, ask, write the result."""
    given = Load.model_validate_json(sys.stdin.buffer.read())
    print(asyncio.run(load(given)).model_dump_json())


if __name__ == "__main__":
    main()
