"""Messages as chat templates take them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from agentmux.calls.format import ID_LENGTH, CallFormat
from agentmux.messages import Message, ToolCall
from agentmux.tools import Tool, described

Plain = dict[str, Any]

_EXPLAINED = """\
You can use tools. To use one, write a line of JSON like this, with the tool's own name and arguments, and end there:
{example}
{several}The results come in the next message. Where no tool is needed, give your answer and no such line.

Tools:
{tools}"""
_SEVERAL = "To use several at once, write a line for each. "


def described_tools(tools: Iterable[Tool], parallel: bool = True) -> str:
    """What the system message says of tools where the chat template has no words for them."""
    listed = "\n".join(
        f"- {tool.name}: {' '.join(tool.description.split()) or 'no description'}\n"
        f"  arguments: {json.dumps(tool.parameters, ensure_ascii=False)}"
        for tool in tools
    )
    example = json.dumps({"tool": "NAME", "arguments": {"ARGUMENT": "VALUE"}})
    return _EXPLAINED.format(example=example, several=_SEVERAL if parallel else "", tools=listed)


def plain_messages(messages: Sequence[Message], tools: Sequence[Tool], form: CallFormat) -> tuple[list[Plain], Any]:
    """(messages, tools) for a chat template of this format; ``tools`` is None where the messages explain them.

    What the template has no place for goes where it keeps its sense: a system message before the first user message,
    several messages of one role into one, tools and their results into plain text.
    """
    numbers: dict[str, int] = {}
    plain = [_plain(message, form, numbers) for message in messages]
    if tools and not form.native:
        _explain(plain, described_tools(tools))
    if not form.system_role:
        plain = _without_system(plain)
    if form.alternating or not form.native:
        plain = _joined(plain, form.alternating)
    return plain, described(tools) if tools and form.native else None


def _plain(message: Message, form: CallFormat, numbers: dict[str, int]) -> Plain:
    if message.tool_calls:
        return _calling(message, form, numbers)
    if message.role == "tool":
        return _result(message, form, numbers)
    return {"role": message.role, "content": message.content}


def _calling(message: Message, form: CallFormat, numbers: dict[str, int]) -> Plain:
    if not form.native:
        lines = [message.content] if message.content else []
        lines += [f"{form.before}{call.name}{form.between}{call.arguments}{form.after}" for call in message.tool_calls]
        return {"role": "assistant", "content": "\n".join(lines)}
    calls = [
        {
            "type": "function",
            "id": _short_id(call, numbers),
            "function": {
                "name": call.name,
                "arguments": call.arguments if form.text_arguments else json.loads(call.arguments),
            },
        }
        for call in message.tool_calls
    ]
    content = message.content if message.content and form.shows_text else form.empty_content
    return {"role": "assistant", "content": content, "tool_calls": calls}


def _result(message: Message, form: CallFormat, numbers: dict[str, int]) -> Plain:
    call = message.tool_call
    name = call.name if call else "tool"
    if not form.native:
        return {"role": "user", "content": f"Result of {name}:\n{message.content}", "is_result": True}
    shown = {"role": "tool", "name": name, "content": message.content}
    return {**shown, "tool_call_id": _short_id(call, numbers)} if call else shown


def _short_id(call: ToolCall, numbers: dict[str, int]) -> str:
    """The same for a call and its result; of the one form that every template takes."""
    number = numbers.setdefault(call.id, len(numbers))
    return f"call{number:0{ID_LENGTH - 4}d}"


def _explain(plain: list[Plain], text: str) -> None:
    if plain and plain[0]["role"] == "system":
        plain[0]["content"] = f"{plain[0]['content']}\n\n{text}"
    else:
        plain.insert(0, {"role": "system", "content": text})


def _without_system(plain: list[Plain]) -> list[Plain]:
    """What system messages say, put before the user message that comes next; into one of its own if none does."""
    kept: list[Plain] = []
    waiting: list[str] = []
    for message in plain:
        if message["role"] == "system":
            waiting.append(message["content"])
        elif message["role"] == "user" and waiting:
            kept.append({**message, "content": "\n\n".join([*waiting, message["content"]])})
            waiting = []
        else:
            kept.append(message)
    return [*kept, {"role": "user", "content": "\n\n".join(waiting)}] if waiting else kept


def _joined(plain: list[Plain], everything: bool) -> list[Plain]:
    """Messages of one role in a row as one: all of them, or results of tools only."""
    joined: list[Plain] = []
    for message in plain:
        last = joined[-1] if joined else None
        results = last is not None and "is_result" in last and "is_result" in message
        same = last is not None and last["role"] == message["role"] != "tool"
        if last is not None and same and (results or everything) and "tool_calls" not in (last.keys() | message.keys()):
            last["content"] = f"{last['content']}\n\n{message['content']}"
        else:
            joined.append(dict(message))
    return [{key: value for key, value in message.items() if key != "is_result"} for message in joined]
