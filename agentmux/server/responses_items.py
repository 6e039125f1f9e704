"""The items of a response's input, and the messages of a conversation that they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from agentmux.server.problems import Problem
from agentmux.server.wire import Part, Text, Wire

_TEXTS = ("input_text", "output_text", "text")


class Item(Wire):
    """A message, a call of a function, its result, or what a model reasoned; without a type it is a message."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[Part] | None = None
    call_id: Text | None = None
    name: Text | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


def messages_of_items(given: str | Sequence[Item]) -> list[dict[str, Any]]:
    """Messages as a chat's body has them. The words and calls of one turn, which are items of their own here, are one
    message; what was reasoned is left out, as chat templates leave it out of earlier turns.

    Raises Problem for items of other kinds and for what they lack.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    asked: set[str] = set()
    for at, item in enumerate(given):
        place = f"input.{at}"
        if item.type == "message":
            messages.append({"role": _needed(item, "role", place), "content": _text(item.content, place)})
        elif item.type == "function_call":
            call = _call(item, place)
            asked.add(call["id"])
            _turn_of(messages).setdefault("tool_calls", []).append(call)
        elif item.type == "function_call_output":
            messages.append(_result(item, asked, place))
        elif item.type != "reasoning":
            raise Problem(
                400,
                f"input items of type {item.type!r} are not supported; there are message, function_call, "
                "function_call_output and reasoning, and nothing is stored that could be referred to",
                code="unsupported",
                param=place,
            )
    if not messages:
        raise Problem(400, "input has no message", code="invalid_value", param="input")
    return messages


def _turn_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message that a call is part of."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    return messages[-1]


def _call(item: Item, place: str) -> dict[str, Any]:
    arguments = _needed(item, "arguments", place)
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise Problem(
            400, f"{place}: the arguments are no JSON object", code="invalid_value", param=f"{place}.arguments"
        )
    function = {"name": _needed(item, "name", place), "arguments": arguments}
    return {"id": _needed(item, "call_id", place), "type": "function", "function": function}


def _result(item: Item, asked: set[str], place: str) -> dict[str, Any]:
    call = _needed(item, "call_id", place)
    if call not in asked:
        raise Problem(
            400,
            f"{place}: call_id {call!r} answers no function_call of the items before",
            code="invalid_value",
            param=f"{place}.call_id",
        )
    return {"role": "tool", "tool_call_id": call, "content": _text(item.output, place)}


def _needed(item: Item, name: str, place: str) -> Any:
    value = getattr(item, name)
    if value is None:
        raise Problem(400, f"{place} has no {name}", code="invalid_value", param=f"{place}.{name}")
    return value


def _text(content: str | list[Part] | None, place: str) -> str:
    if content is None:
        raise Problem(400, f"{place} has no content", code="invalid_value", param=place)
    if isinstance(content, str):
        return content
    for part in content:
        if part.type not in _TEXTS or part.text is None:
            raise Problem(
                400, f"content of type {part.type!r} is not supported, only text", code="unsupported", param=place
            )
    return "".join(part.text or "" for part in content)
