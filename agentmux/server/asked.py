"""From bodies of requests to what a runtime is asked."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agentmux.chatting import ANY_TEXT, ChatRequest, Declared
from agentmux.messages import Message, Role, ToolCall
from agentmux.sampling import SamplingParams
from agentmux.schema import OutputSchema
from agentmux.server.problems import Problem
from agentmux.server.settings import ServerSettings
from agentmux.server.wire import ChatBody, ChatMessage, CompletionBody, NamedChoice, Part, Sampled
from agentmux.tools import Tool

Body = TypeVar("Body")

_SEEDS = 2**32 - 1
_DEFAULTS = SamplingParams(temperature=1.0, top_p=1.0)
"""OpenAI's where it has some, else agentmux's."""
_WHOLE_S = 3600.0
"""Between pieces of an answer's text that nobody waits for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was understood."""

    model: str
    turns: tuple[ChatRequest, ...]
    """[choice]"""
    count: int
    """Choices to each prompt."""
    stream: bool
    include_usage: bool
    """A last chunk of the stream has it."""


async def understood(
    understand: Callable[[Body, ServerSettings, Declared], Asked],
    body: Body,
    settings: ServerSettings,
    declared: Declared,
    has_schemas: bool,
) -> Asked:
    """What a body asks for, by ``chat_of`` or another. In a thread where it has schemas: their grammars take a while,
    and others must not wait for them. Raises what ``understand`` raises."""
    if has_schemas:
        return await asyncio.to_thread(understand, body, settings, declared)
    return understand(body, settings, declared)


def chat_of(body: ChatBody, settings: ServerSettings, declared: Declared) -> Asked:
    """What a chat's body asks for. Raises Problem, and RequestInvalid for values that no turn can have."""
    if body.functions is not None or body.function_call is not None:
        raise Problem(400, "functions and function_call are not supported; use tools", code="unsupported")
    if len(body.messages) > settings.max_messages:
        raise Problem(
            400,
            f"{len(body.messages)} messages are more than {settings.max_messages}",
            code="too_many_messages",
            param="messages",
            numbers={"messages": len(body.messages), "limit": settings.max_messages},
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise Problem(400, "top_logprobs needs logprobs: true", code="invalid_value", param="top_logprobs")
    turn = ChatRequest(
        model=body.model,
        messages=messages_of(body.messages),
        tools=_tools(body, declared),
        tool_choice=_choice(body),
        parallel_calls=body.parallel_tool_calls is not False,
        output=_output(body, declared),
        sampling=_sampling(body),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=_stop(body),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        session=body.session,
        thinking=body.chat_template_kwargs.enable_thinking if body.chat_template_kwargs else None,
    )
    return _asked(body, (turn,), settings)


def completion_of(body: CompletionBody, settings: ServerSettings) -> Asked:
    """What a completion's body asks for. Raises as ``chat_of`` does."""
    for name in ("echo", "suffix"):
        if getattr(body, name):
            raise Problem(400, f"{name} is not supported", code="unsupported", param=name)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise Problem(400, "best_of other than n is not supported", code="unsupported", param="best_of")
    prompts = _prompts(body.prompt)
    if not prompts or not all(prompts):
        raise Problem(400, "prompt is empty", code="invalid_value", param="prompt")
    sampling = _sampling(body)
    turns = tuple(
        ChatRequest(
            model=body.model,
            prompt=prompt,
            sampling=sampling,
            max_tokens=body.max_tokens or 16,  # OpenAI's default
            stop=_stop(body),
            logprobs=body.logprobs,
            session=body.session,
        )
        for prompt in prompts
    )
    return _asked(body, turns, settings)


def _prompts(prompt: str | list[int] | list[str] | list[list[int]]) -> list[str | tuple[int, ...]]:
    if isinstance(prompt, str):
        return [prompt]
    if prompt and all(isinstance(one, int) for one in prompt):
        return [_ids(prompt)]
    return [one if isinstance(one, str) else _ids(one) for one in prompt]


def _ids(prompt: Any) -> tuple[int, ...]:
    if not all(0 <= token < 2**31 for token in prompt):
        raise Problem(400, "a token id is outside 0 to 2147483647", code="invalid_value", param="prompt")
    return tuple(prompt)


def _asked(body: Sampled, turns: Sequence[ChatRequest], settings: ServerSettings) -> Asked:
    count = body.n or 1
    if count * len(turns) > settings.max_choices:
        raise Problem(
            400,
            f"{count * len(turns)} answers to one request are more than {settings.max_choices}",
            code="invalid_value",
            param="n",
        )
    if count * len(turns) > 1 and body.session is not None:
        raise Problem(400, "a session goes on with one answer, not several", code="invalid_value", param="session")
    if body.stream_options is not None and not body.stream:
        raise Problem(400, "stream_options needs stream: true", code="invalid_value", param="stream_options")
    # Nobody sees the pieces of an answer that is sent whole, so they need not be told one by one.
    every_s = settings.chunk_s if body.stream else _WHOLE_S
    all_turns = tuple(_seeded(replace(turn, every_s=every_s), number) for turn in turns for number in range(count))
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return Asked(body.model, all_turns, count, bool(body.stream), usage)


def _seeded(turn: ChatRequest, number: int) -> ChatRequest:
    """Each choice has a seed of its own, all made of the one that was given."""
    if not number:
        return turn
    return replace(turn, sampling=replace(turn.sampling, seed=(turn.sampling.seed + number) % _SEEDS))


def _sampling(body: Sampled) -> SamplingParams:
    names = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repeat_penalty")
    given: Mapping[str, Any] = {
        name: getattr(body, name)
        for name in (*names, "frequency_penalty", "presence_penalty")
        if getattr(body, name) is not None
    }
    seed = random.randrange(_SEEDS) if body.seed is None else body.seed % _SEEDS
    return replace(_DEFAULTS, seed=seed, logit_bias=_biases(body.logit_bias or {}), **given)


def _biases(given: Mapping[str, float]) -> dict[int, float]:
    for token in given:
        if not (token.isascii() and token.isdigit() and len(token) < 11 and int(token) < 2**31):
            raise Problem(400, f"logit_bias: {token!r} is no token id", code="invalid_value", param="logit_bias")
    return {int(token): bias for token, bias in given.items()}


def _stop(body: Sampled) -> tuple[str, ...]:
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


def _tools(body: ChatBody, declared: Declared) -> tuple[Tool, ...]:
    tools = tuple(
        declared.tool(part.function.name, part.function.description or "", part.function.parameters or {})
        for part in body.tools or ()
    )
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise Problem(400, "two tools have the same name", code="invalid_value", param="tools")
    return tools


def _choice(body: ChatBody) -> str:
    choice = body.tool_choice or "auto"
    if not isinstance(choice, NamedChoice):
        return choice
    name = choice.function.name
    if name not in [part.function.name for part in body.tools or ()]:
        raise Problem(400, f"tool_choice names {name!r}, which is no tool", code="invalid_value", param="tool_choice")
    return name


def _output(body: ChatBody, declared: Declared) -> OutputSchema:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return ANY_TEXT
    if wanted.type == "json_object":
        return declared.output({"type": "object"})
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise Problem(400, "json_schema.schema is missing", code="invalid_value", param="response_format")
    return declared.output(wanted.json_schema.schema_)


def messages_of(given: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The conversation. Raises Problem for content that is no text, and results of calls that are not there."""
    calls: dict[str, ToolCall] = {}
    messages: list[Message] = []
    for at, message in enumerate(given):
        place = f"messages.{at}"
        role: Role = "system" if message.role == "developer" else message.role
        asked = _calls(message, place)
        calls |= {call.id: call for call in asked}
        if message.content is None and not asked:
            raise Problem(400, f"{place} has no content", code="invalid_value", param=place)
        messages.append(Message(role, _text(message.content, place), "", asked, _answered(message, calls, place)))
    return tuple(messages)


def _text(content: str | list[Part] | None, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.type != "text" or part.text is None:
            raise Problem(
                400, f"content of type {part.type!r} is not supported, only text", code="unsupported", param=place
            )
    return "".join(part.text or "" for part in content)


def _calls(message: ChatMessage, place: str) -> tuple[ToolCall, ...]:
    if message.tool_calls and message.role != "assistant":
        raise Problem(400, "only an assistant's message has tool_calls", code="invalid_value", param=place)
    calls = tuple(ToolCall(one.id, one.function.name, one.function.arguments) for one in message.tool_calls or ())
    for call in calls:
        try:
            arguments = json.loads(call.arguments)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise Problem(
                400, f"the arguments of call {call.id!r} are no JSON object", code="invalid_value", param=place
            )
    return calls


def _answered(message: ChatMessage, calls: Mapping[str, ToolCall], place: str) -> ToolCall | None:
    if message.role != "tool":
        return None
    answered = calls.get(message.tool_call_id or "")
    if answered is None:
        raise Problem(
            400,
            f"tool_call_id {message.tool_call_id!r} answers no call of the messages before",
            code="invalid_value",
            param=place,
        )
    return answered
