"""``POST /v1/chat/completions``."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentmux.chatting import ChatAnswer, ChatDelta
from agentmux.messages import TokenLogprob
from agentmux.server.answers import DONE, EventStream, Form, Told, begun, sse, token_document, usage_document
from agentmux.server.asked import Asked, chat_of, understood
from agentmux.server.problems import problem_of
from agentmux.server.reading import document_of
from agentmux.server.state import Served
from agentmux.server.telling import answers_to, events_of
from agentmux.server.wire import ChatBody


async def chat_completions(served: Served, request: Request) -> Response:
    """An answer to a conversation, whole or as it comes."""
    body = await document_of(request, ChatBody, served.settings)
    served.expect(body.model)
    has_schemas = bool(body.tools or body.response_format)
    asked = await understood(chat_of, body, served.settings, served.declared, has_schemas)
    paper = _Paper(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), body.model)
    if not asked.stream:
        answers = await answers_to(request, served, asked)
        vocabulary = await served.mux.vocabulary(body.model) if body.logprobs else ()
        choices = [_choice(number, answer, vocabulary) for number, answer in enumerate(answers)]
        usage = usage_document(answers, asked.count)
        return JSONResponse(paper.document("chat.completion", choices, usage=usage))
    events = events_of(served, asked)
    vocabulary = await served.mux.vocabulary(body.model) if body.logprobs else ()
    first = await begun(request, events)
    return EventStream(_chunks(served, paper, first, events, asked, vocabulary))


@dataclass(frozen=True, slots=True)
class _Paper:
    """What all documents of one answer begin with."""

    id: str
    created: int
    model: str

    def document(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more}

    def chunk(self, number: int, delta: dict[str, Any], ended: str | None = None, logprobs: Any = None) -> str:
        return sse(self._chunk(number, delta, ended, logprobs))

    def form(self, number: int) -> Form:
        """Of the chunks with a choice's text, which are nearly all."""
        return Form(lambda text: self._chunk(number, {"content": text}))

    def _chunk(
        self, number: int, delta: dict[str, Any], ended: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": ended}
        return self.document("chat.completion.chunk", [choice])


def _choice(number: int, answer: ChatAnswer, vocabulary: Sequence[bytes]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message |= {"content": answer.text.strip() or None, "tool_calls": _calls(answer)}
    logprobs = _logprobs(answer.completion.logprobs, vocabulary)
    return {"index": number, "message": message, "logprobs": logprobs, "finish_reason": answer.finish_reason}


def _calls(answer: ChatAnswer) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.tool_calls
    ]


def _logprobs(given: Sequence[TokenLogprob], vocabulary: Sequence[bytes]) -> dict[str, Any] | None:
    """Of every token that was generated; those of reasoning and calls are among them."""
    if not vocabulary:
        return None
    return {"content": [token_document(one, vocabulary) for one in given], "refusal": None}


async def _chunks(
    served: Served,
    paper: _Paper,
    first: Told,
    events: AsyncGenerator[Told, None],
    asked: Asked,
    vocabulary: Sequence[bytes],
) -> AsyncGenerator[str, None]:
    teller = _Teller(paper, len(asked.turns), vocabulary)
    last = ""
    async with aclosing(events):
        try:
            yield teller.begin() + teller.chunks(first)
            async for one in events:
                last = teller.chunks(one)
                if last and not teller.is_done:
                    yield last
        except Exception as error:
            problem = problem_of(error)
            served.traffic.refused(problem.code)
            yield sse(problem.document)
            return
    if asked.include_usage:
        usage = usage_document(teller.answers, asked.count)
        last += sse(paper.document("chat.completion.chunk", [], usage=usage))
    yield last + DONE


class _Teller:
    """What is told of a chat becomes the stream's events."""

    def __init__(self, paper: _Paper, choices: int, vocabulary: Sequence[bytes]) -> None:
        self._paper = paper
        self._choices = choices
        self._vocabulary = vocabulary
        self._forms = [paper.form(number) for number in range(choices)]
        self._answers: dict[int, ChatAnswer] = {}

    @property
    def is_done(self) -> bool:
        """Whether all choices have their answer."""
        return len(self._answers) == self._choices

    @property
    def answers(self) -> list[ChatAnswer]:
        """[choice], once it is done."""
        return [self._answers[number] for number in range(self._choices)]

    def begin(self) -> str:
        """Before everything else."""
        return "".join(
            self._paper.chunk(number, {"role": "assistant", "content": ""}) for number in range(self._choices)
        )

    def chunks(self, one: Told) -> str:
        """None, one or more events."""
        number, event = one
        if isinstance(event, ChatDelta):
            if not self._vocabulary:
                return self._forms[number].filled(event.text)
            logprobs = _logprobs(event.logprobs, self._vocabulary)
            return self._paper.chunk(number, {"content": event.text}, logprobs=logprobs)
        if not isinstance(event, ChatAnswer):
            return ""
        self._answers[number] = event
        chunks = ""
        if event.reasoning:
            chunks += self._paper.chunk(number, {"reasoning_content": event.reasoning})
        if event.tool_calls:
            calls = [{"index": at, **call} for at, call in enumerate(_calls(event))]
            chunks += self._paper.chunk(number, {"tool_calls": calls})
        return chunks + self._paper.chunk(number, {}, event.finish_reason)
