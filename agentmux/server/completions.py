"""``POST /v1/completions``: text that a model goes on with, without a chat template."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentmux.chatting import ChatAnswer, ChatDelta
from agentmux.messages import TokenLogprob
from agentmux.server.answers import (
    DONE,
    EventStream,
    Form,
    Told,
    begun,
    finite,
    sse,
    token_text,
    told,
    usage_document,
    whole,
)
from agentmux.server.asked import Asked, completion_of
from agentmux.server.problems import Problem, problem_of
from agentmux.server.reading import document_of, unless_gone
from agentmux.server.state import Served
from agentmux.server.wire import CompletionBody

Head = dict[str, Any]


async def completions(served: Served, request: Request) -> Response:
    """What comes after a text, whole or as it comes."""
    body = await document_of(request, CompletionBody, served.settings)
    served.expect(body.model)
    if body.model in served.published:
        raise Problem(400, f"{body.model} is no model; use /v1/chat/completions", code="unsupported", param="model")
    asked = completion_of(body, served.settings)
    served.use_session(body.session)
    vocabulary = () if body.logprobs is None else await served.mux.vocabulary(body.model)
    head: Head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion"}
    head |= {"created": int(time.time()), "model": body.model}
    if not asked.stream:
        answers = await unless_gone(request, whole(told(served.mux, asked.turns)))
        choices = [
            _choice(number, one.text, one.completion.logprobs, vocabulary, one.finish_reason)
            for number, one in enumerate(answers)
        ]
        return JSONResponse({**head, "choices": choices, "usage": usage_document(answers, asked.count)})
    events = told(served.mux, asked.turns)
    first = await begun(request, events)
    return EventStream(_chunks(served, head, first, events, asked, vocabulary))


def _choice(
    number: int, text: str, given: Sequence[TokenLogprob], vocabulary: Sequence[bytes], ended: str | None = None
) -> dict[str, Any]:
    logprobs = _logprobs(given, vocabulary) if vocabulary else None
    return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": ended}


def _logprobs(given: Sequence[TokenLogprob], vocabulary: Sequence[bytes]) -> dict[str, Any]:
    return {
        "tokens": [token_text(one.token, vocabulary) for one in given],
        "token_logprobs": [finite(one.logprob) for one in given],
        "top_logprobs": [{token_text(token, vocabulary): finite(value) for token, value in one.top} for one in given],
    }


async def _chunks(
    served: Served,
    head: Head,
    first: Told,
    events: AsyncGenerator[Told, None],
    asked: Asked,
    vocabulary: Sequence[bytes],
) -> AsyncGenerator[str, None]:
    answers: dict[int, ChatAnswer] = {}
    forms = [_form(head, number) for number in range(len(asked.turns))]

    def chunk(one: Told) -> str:
        number, event = one
        if isinstance(event, ChatDelta):
            if not vocabulary:
                return forms[number].filled(event.text)
            return sse({**head, "choices": [_choice(number, event.text, event.logprobs, vocabulary)]})
        if not isinstance(event, ChatAnswer):
            return ""
        answers[number] = event
        return sse({**head, "choices": [_choice(number, "", (), (), event.finish_reason)]})

    last = ""
    async with aclosing(events):
        try:
            if begun_with := chunk(first):
                yield begun_with
            async for one in events:
                last = chunk(one)
                if last and len(answers) < len(asked.turns):
                    yield last
        except Exception as error:
            problem = problem_of(error)
            served.traffic.refused(problem.code)
            yield sse(problem.document)
            return
    if asked.include_usage:
        whole_answers = [answers[number] for number in range(len(asked.turns))]
        last += sse({**head, "choices": [], "usage": usage_document(whole_answers, asked.count)})
    yield last + DONE


def _form(head: Head, number: int) -> Form:
    """Of the chunks with a choice's text, which are nearly all."""
    return Form(lambda text: {**head, "choices": [_choice(number, text, (), ())]})
