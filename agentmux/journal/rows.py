"""Between values and the columns that hold them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from pydantic_core import to_json

from agentmux.journal.conversation import ROOT, Placed
from agentmux.journal.records import RecordedSession
from agentmux.messages import Message, ToolCall, TurnNumbers

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
RAISED = 2
"""In the column ``ok`` of a tool's outcome, beside 0 and 1; see ``RecordedTool.raised``."""
_NUMBERS = tuple(field.name for field in fields(TurnNumbers))
_AS_EVER = {field.name: field.default for field in fields(TurnNumbers) if field.default is not MISSING}


def stored(text: str) -> str | bytes:
    """``text``, or its bytes if it holds half of a surrogate pair, which SQLite's texts cannot."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "surrogatepass")
    return text


def restored(value: str | bytes) -> str:
    """The text that ``stored`` made this of."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def stored_tokens(tokens: tuple[int, ...]) -> bytes:
    """Four bytes each, little-endian."""
    return struct.pack(f"<{len(tokens)}i", *tokens)


def restored_tokens(value: bytes) -> tuple[int, ...]:
    """The tokens that ``stored_tokens`` made this of. Raises struct.error."""
    return struct.unpack(f"<{len(value) // 4}i", value)


def stored_numbers(numbers: TurnNumbers) -> str:
    """A JSON object of those that are not as ever."""
    said = {name: value for name in _NUMBERS if (value := getattr(numbers, name)) != _AS_EVER.get(name)}
    return to_json(said, inf_nan_mode="constants").decode()


def restored_numbers(value: str) -> TurnNumbers:
    """The numbers of a JSON object; unknown fields are left out. Raises ValueError, TypeError."""
    given: dict[str, Any] = json.loads(value)
    return TurnNumbers(**{name: given[name] for name in _NUMBERS if name in given})


def stored_messages(new: list[Placed]) -> str | bytes:
    """A JSON array: the first place, then an array of columns for each message, whose places follow each other."""
    columns = [new[0].place if new else ROOT, *map(_columns, new)]
    try:
        return to_json(columns).decode()
    except ValueError:  # half of a surrogate pair, which only Python's own JSON knows how to keep
        return stored(_JSON.encode(columns))


def restored_messages(values: Iterable[str | bytes]) -> list[Placed]:
    """All messages of a run, of its turns' columns in order. Raises KeyError, IndexError, ValueError, TypeError."""
    texts: dict[int, str] = {}
    placed = list[Placed]()
    for value in values:
        first, *rows = json.loads(restored(value))
        for place, (parent, role, agent, content, copy_of, calls, call) in enumerate(rows, start=first):
            texts[place] = content if copy_of is None else texts[copy_of]
            message = Message(role, texts[place], agent, _calls(calls), _calls([call])[0] if call else None)
            placed.append(Placed(place, parent, message, copy_of))
    return placed


def stored_session(session: RecordedSession) -> tuple[str | bytes, str | bytes]:
    """Its name, and a JSON array of agent, model and messages of each conversation."""
    held = [
        (agent, model, [(one.role, one.agent, one.content, one.tool_calls, one.tool_call) for one in messages])
        for (agent, model), messages in session.messages.items()
    ]
    return stored(session.name), stored(_JSON.encode(_plain(held)))


def restored_session(name: str | bytes, messages: str | bytes) -> RecordedSession:
    """The session that ``stored_session`` made this of. Raises IndexError, ValueError, TypeError."""
    return RecordedSession(
        restored(name),
        {
            (agent, model): tuple(
                Message(role, content, by, _calls(calls), _calls([call])[0] if call else None)
                for role, by, content, calls, call in said
            )
            for agent, model, said in json.loads(restored(messages))
        },
    )


def _plain(value: Any) -> Any:
    if isinstance(value, ToolCall):
        return _call(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _columns(placed: Placed) -> tuple[Any, ...]:
    message, copied = placed.message, placed.copy_of is not None
    return (
        placed.parent,
        message.role,
        message.agent,
        None if copied else message.content,
        placed.copy_of,
        [_call(call) for call in message.tool_calls],
        None if message.tool_call is None else _call(message.tool_call),
    )


def _call(call: ToolCall) -> tuple[str, str, str]:
    return call.id, call.name, call.arguments


def _calls(rows: list[Any]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(*row) for row in rows)
