"""``POST /v1/responses``, without a store: each request has the whole conversation."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentmux.chatting import ChatAnswer, ChatDelta, ChatReasoned
from agentmux.server.answers import EventStream, Told, begun, usage_document
from agentmux.server.asked import understood
from agentmux.server.problems import Problem, problem_of
from agentmux.server.reading import document_of
from agentmux.server.responses_body import ResponseBody, ToolChoice, response_of
from agentmux.server.responses_output import Output
from agentmux.server.state import Served
from agentmux.server.telling import answers_to, events_of


async def responses(served: Served, request: Request) -> Response:
    """An answer to a conversation, whole or as it comes."""
    body = await document_of(request, ResponseBody, served.settings)
    served.expect(body.model)
    has_schemas = bool(body.tools or (body.text and body.text.format))
    asked = await understood(response_of, body, served.settings, served.declared, has_schemas)
    paper = _Paper(f"resp_{uuid.uuid4().hex}", int(time.time()), body)
    if not asked.stream:
        (answer,) = await answers_to(request, served, asked)
        output = Output()
        output.end(answer)
        return JSONResponse(paper.ended(output, answer))
    events = events_of(served, asked)
    first = await begun(request, events)
    return EventStream(_events(served, paper, first, events))


@dataclass(frozen=True, slots=True)
class _Paper:
    """What all documents of one response have in common."""

    id: str
    created: int
    body: ResponseBody

    def document(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The response as it is now."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.body.model,
            "output": output,
            "usage": None,
            **_settings(self.body),
            **more,
        }

    def ended(self, output: Output, answer: ChatAnswer) -> dict[str, Any]:
        """The response with its whole output."""
        cut = answer.finish_reason == "length"
        return self.document(
            "incomplete" if cut else "completed",
            output.items,
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            usage=_usage(answer),
        )

    def failed(self, output: Output, problem: Problem) -> dict[str, Any]:
        """The response with what there was of its output."""
        code = {400: "invalid_prompt", 429: "rate_limit_exceeded"}.get(problem.status, "server_error")
        said = {"code": code, "message": f"{problem.code}: {problem.message}"}
        items = [{**one, "status": "incomplete"} if one["status"] == "in_progress" else one for one in output.items]
        return self.document("failed", items, error=said)


def _settings(body: ResponseBody) -> dict[str, Any]:
    """What was asked for, with the defaults where nothing was."""
    text = body.text.format.model_dump(by_alias=True, exclude_none=True) if body.text and body.text.format else None
    choice = body.tool_choice or "auto"
    return {
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": text or {"type": "text"}},
        "tool_choice": choice.model_dump() if isinstance(choice, ToolChoice) else choice,
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
    }


def _usage(answer: ChatAnswer) -> dict[str, Any]:
    """As chats have it, by other names. How many tokens were reasoning is not counted."""
    used = usage_document((answer,), 1)
    return {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {**used["prompt_tokens_details"], "cache_write_tokens": 0},
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used["total_tokens"],
    }


async def _events(
    served: Served, paper: _Paper, first: Told, events: AsyncGenerator[Told, None]
) -> AsyncGenerator[str, None]:
    output = Output()
    for kind in ("response.created", "response.in_progress"):
        yield output.event(kind, response=paper.document("in_progress", []))
    async with aclosing(events):
        try:
            yield _told(paper, output, first)
            async for one in events:
                yield _told(paper, output, one)
        except Exception as error:
            problem = problem_of(error)
            served.traffic.refused(problem.code)
            yield output.event("response.failed", response=paper.failed(output, problem))


def _told(paper: _Paper, output: Output, one: Told) -> str:
    _, event = one
    if isinstance(event, ChatDelta):
        return output.say(event.text)
    if isinstance(event, ChatReasoned):
        return output.reason(event.text)
    if not isinstance(event, ChatAnswer):
        return ""
    rest = output.end(event)
    document = paper.ended(output, event)
    return rest + output.event(f"response.{document['status']}", response=document)
