"""The body of ``POST /v1/responses``, and the chat that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from agentmux.chatting import Declared
from agentmux.server.asked import Asked, chat_of
from agentmux.server.problems import Problem
from agentmux.server.responses_items import Item, messages_of_items
from agentmux.server.settings import ServerSettings
from agentmux.server.wire import ChatBody, Sampled, TemplateOptions, Text, Wire


class FunctionTool(Wire):
    """A tool that the client can run. Of other types only the type is read, to be refused."""

    type: str
    name: Text | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Wire):
    """The tool that must be called."""

    type: str
    name: Text | None = None


class Format(Wire):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(Wire):
    """How the answer's text is to be."""

    format: Format | None = None


class Reasoning(Wire):
    """How much a model is to reason; ``none`` is all that is told to it."""

    effort: str | None = None


Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Item], Field(min_length=1), Tag("items")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "items"),
]


class ResponseBody(Sampled):
    """``POST /v1/responses``."""

    input: Input
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    background: bool | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None


_SAMPLING = frozenset(
    {"top_k", "min_p", "typical_p", "repeat_penalty", "frequency_penalty", "presence_penalty", "logit_bias", "seed"}
)
_AS_IN_CHATS = _SAMPLING | {
    "model",
    "stream",
    "temperature",
    "top_p",
    "stop",
    "session",
    "parallel_tool_calls",
    "stream_options",
}
_NAMES: Mapping[str, str] = MappingProxyType(
    {"messages": "input", "response_format": "text.format", "max_completion_tokens": "max_output_tokens"}
)
"""[member of a chat] what it is called here."""


def response_of(body: ResponseBody, settings: ServerSettings, declared: Declared) -> Asked:
    """What a body asks for. Raises Problem, and RequestInvalid for values that no turn can have."""
    _refuse_what_is_not_there(body)
    messages = messages_of_items(body.input)
    if body.instructions:
        messages.insert(0, {"role": "system", "content": body.instructions})
    chat = ChatBody.model_validate(
        {
            **body.model_dump(include=set(_AS_IN_CHATS), exclude_none=True),
            "messages": messages,
            "max_completion_tokens": body.max_output_tokens,
            "tools": [_tool(one, at) for at, one in enumerate(body.tools or ())],
            "tool_choice": _choice(body.tool_choice),
            "response_format": _format(body),
            "chat_template_kwargs": {"enable_thinking": _thinking(body)},
        }
    )
    try:
        return chat_of(chat, settings, declared)
    except Problem as problem:
        place = (problem.param or "").partition(".")[0]
        problem.param = _NAMES.get(place, problem.param)
        raise


def _refuse_what_is_not_there(body: ResponseBody) -> None:
    stored = "nothing is stored between requests; send the whole conversation as input"
    for name, why in (
        ("previous_response_id", stored),
        ("conversation", stored),
        ("prompt", "no prompts are stored; use instructions and input"),
        ("background", "a response is made while its request is open"),
    ):
        if getattr(body, name):
            raise Problem(400, f"{name} is not supported: {why}", code="unsupported", param=name)
    if body.max_tokens is not None:
        raise Problem(400, "max_tokens is called max_output_tokens here", code="unsupported", param="max_tokens")
    if (body.n or 1) > 1:
        raise Problem(400, "a response has one answer; n must be 1", code="unsupported", param="n")
    if body.top_logprobs or "message.output_text.logprobs" in (body.include or ()):
        raise Problem(
            400,
            "log-probabilities are not supported here; /v1/chat/completions has them",
            code="unsupported",
            param="top_logprobs" if body.top_logprobs else "include",
        )


def _tool(tool: FunctionTool, at: int) -> dict[str, Any]:
    if tool.type != "function":
        raise Problem(
            400,
            f"tools of type {tool.type!r} are not supported: this server runs no tools, only functions of the client",
            code="unsupported",
            param=f"tools.{at}",
        )
    if tool.name is None:
        raise Problem(400, f"tools.{at} has no name", code="invalid_value", param=f"tools.{at}.name")
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": described}


def _choice(choice: str | ToolChoice | None) -> Any:
    if not isinstance(choice, ToolChoice):
        return choice
    if choice.type != "function" or choice.name is None:
        raise Problem(
            400,
            f"a tool_choice of type {choice.type!r} is not supported, only one that names a function",
            code="unsupported",
            param="tool_choice",
        )
    return {"type": "function", "function": {"name": choice.name}}


def _format(body: ResponseBody) -> dict[str, Any] | None:
    wanted = body.text.format if body.text else None
    if wanted is None:
        return None
    if wanted.type == "json_schema":
        if wanted.schema_ is None:
            raise Problem(400, "text.format.schema is missing", code="invalid_value", param="text.format.schema")
        return {"type": wanted.type, "json_schema": {"name": wanted.name, "schema": wanted.schema_}}
    return {"type": wanted.type}


def _thinking(body: ResponseBody) -> bool | None:
    if body.chat_template_kwargs is not None:
        return body.chat_template_kwargs.enable_thinking
    return False if body.reasoning is not None and body.reasoning.effort == "none" else None
