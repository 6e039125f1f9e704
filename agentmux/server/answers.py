"""The turns of a request, told as one stream; and how that is sent."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agentmux.chatting import ChatAnswer, ChatDelta, ChatEvent, ChatRequest
from agentmux.messages import TokenLogprob
from agentmux.runtime import Runtime
from agentmux.server.prefixes import Prefixes
from agentmux.server.reading import ClientGone, unless_gone

Told = tuple[int, ChatEvent]
"""Of which choice, and what."""
_IMPOSSIBLE = -9999.0
"""As OpenAI writes the logarithm of no probability at all, which JSON has no number for."""


async def told(
    mux: Runtime, turns: Sequence[ChatRequest], prefixes: Prefixes | None = None
) -> AsyncGenerator[Told, None]:
    """The events of all turns, as they come. The first error ends all of them. Closed early, it cancels them.

    A turn that is alone goes on with the session that its conversation left, if there are ``prefixes``.
    """
    if len(turns) > 1:
        async with aclosing(_told_of_several(mux, turns)) as several:
            async for one in several:
                yield one
        return
    # Most requests: without a task and a queue between the turn and whoever sends it.
    (turn,) = turns
    async with aclosing(mux.chat(turn) if prefixes is None else prefixes.chat(mux, turn)) as events:
        async for event in events:
            yield 0, event


async def _told_of_several(mux: Runtime, turns: Sequence[ChatRequest]) -> AsyncGenerator[Told, None]:
    queue: asyncio.Queue[Told | None] = asyncio.Queue()

    async def follow(number: int, turn: ChatRequest) -> None:
        async with aclosing(mux.chat(turn)) as events:
            async for event in events:
                queue.put_nowait((number, event))

    tasks = [asyncio.create_task(follow(number, turn)) for number, turn in enumerate(turns)]
    for task in tasks:
        task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        left = len(tasks)
        while left:
            waiting = [await queue.get()]
            while not queue.empty():
                waiting.append(queue.get_nowait())
            for one in merged([one for one in waiting if one is not None]):
                yield one
            left -= waiting.count(None)
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def merged(waiting: Sequence[Told]) -> list[Told]:
    """The same with fewer deltas: each choice's deltas that follow each other are one. A choice's events keep their
    order; what different choices say has none."""
    result: list[Told] = []
    deltas: dict[int, int] = {}
    for number, event in waiting:
        at = deltas.get(number)
        if not isinstance(event, ChatDelta):
            deltas.pop(number, None)
        elif at is None:
            deltas[number] = len(result)
        else:
            before = result[at][1]
            assert isinstance(before, ChatDelta)
            result[at] = number, ChatDelta(before.text + event.text, before.logprobs + event.logprobs)
            continue
        result.append((number, event))
    return result


async def whole(events: AsyncGenerator[Told, None]) -> tuple[ChatAnswer, ...]:
    """[choice] the answers. The events are closed."""
    answers: dict[int, ChatAnswer] = {}
    async with aclosing(events):
        async for number, event in events:
            if isinstance(event, ChatAnswer):
                answers[number] = event
    return tuple(answer for _, answer in sorted(answers.items()))


async def begun(request: Request, events: AsyncGenerator[Told, None]) -> Told:
    """The first event: from then on the turn is not refused any more. Raises what refuses it, and ClientGone."""
    try:
        return await unless_gone(request, anext(events))
    except BaseException:
        await events.aclose()
        raise


class EventStream(StreamingResponse):
    """Server-sent events. When the client goes, or the server ends it, the events are closed, and what makes them."""

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them, until there are no more or nobody listens."""
        try:
            await unless_gone(Request(scope, receive), self.stream_response(send))
        except ClientGone:
            pass
        finally:
            await self._events.aclose()


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: ``json.dumps`` with other than its default settings makes one at each call."""
_HOLE = "\0"
"""No JSON text has it: it is escaped there."""


def sse(document: Any) -> str:
    """One event."""
    return f"data: {_JSON.encode(document)}\n\n"


class Form:
    """An event that is the same each time but for one text. Putting the text in costs a tenth of writing all of it.

    Args:
        make: the event's document, with the text that it is given as one of its values.
    """

    def __init__(self, make: Callable[[str], Any]) -> None:
        before, hole, after = sse(make(_HOLE)).partition(_JSON.encode(_HOLE))
        if not hole or _JSON.encode(_HOLE) in after:
            raise ValueError("the text must be in the document once")
        self._before, self._after = before, after

    def filled(self, text: str) -> str:
        """The event with this text."""
        return f"{self._before}{_JSON.encode(text)}{self._after}"


DONE = "data: [DONE]\n\n"


def token_document(one: TokenLogprob, vocabulary: Sequence[bytes]) -> dict[str, Any]:
    """A token's log-probability as chats have it."""
    return {
        **_token(one.token, one.logprob, vocabulary),
        "top_logprobs": [_token(token, logprob, vocabulary) for token, logprob in one.top],
    }


def _token(token: int, logprob: float, vocabulary: Sequence[bytes]) -> dict[str, Any]:
    raw = vocabulary[token]
    return {"token": token_text(token, vocabulary), "logprob": finite(logprob), "bytes": list(raw)}


def token_text(token: int, vocabulary: Sequence[bytes]) -> str:
    """A token's text; parts of a character are shown as such."""
    return vocabulary[token].decode("utf-8", "replace")


def finite(logprob: float) -> float:
    """A number that JSON can hold."""
    return logprob if math.isfinite(logprob) else _IMPOSSIBLE


def usage_document(answers: Sequence[ChatAnswer], count: int) -> dict[str, Any]:
    """What it took. A prompt with ``count`` answers counts once."""
    stats = [answer.completion.stats for answer in answers]
    prompt = sum(one.prompt_tokens for one in stats[::count])
    generated = sum(one.generated_tokens for one in stats)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(one.reused_tokens for one in stats[::count])},
    }
