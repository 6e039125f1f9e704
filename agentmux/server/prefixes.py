"""Conversations that find their KV cache again without a name: by what they begin with.

A client sends the whole conversation each time. Up to the last answer in it, that is what an earlier turn left behind,
so each turn gets an engine session of its own, and is remembered by the conversation that it left: what was sent, and
what was answered. A request that begins so goes on with that session.

What is found decides only what need not be computed again: the engine itself compares tokens, and takes over no more of
a session than the prompt begins with. A session that is in use is not found; a second request with the same beginning
gets a fresh one, and neither waits for the other.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from agentmux.chatting import ChatAnswer, ChatEvent, ChatRequest
from agentmux.errors import AgentmuxError
from agentmux.messages import Message
from agentmux.runtime import Runtime

_KEYS = 2
"""By which a session is found: after its last answer, and once more after the one before, if that is asked again."""


@dataclass(slots=True, eq=False)
class _Kept:
    session: str
    keys: list[bytes] = field(default_factory=list)
    is_busy: bool = True


class Prefixes:
    """The sessions of conversations without a name.

    Args:
        most: sessions that are kept; those used longest ago are forgotten. Those in use are not forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._by_key: dict[bytes, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def chat(self, mux: Runtime, turn: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """As ``Runtime.chat``; a turn without a session gets the one that its conversation left, or a fresh one."""
        if turn.session is not None or not turn.messages:
            async with aclosing(mux.chat(turn)) as events:
                async for event in events:
                    yield event
            return
        kept = self._take(turn)
        try:
            async with aclosing(mux.chat(replace(turn, session=kept.session))) as events:
                async for event in events:
                    if isinstance(event, ChatAnswer):
                        self._learn(mux, kept, _key(turn.model, [*turn.messages, _message(event)]))
                    yield event
        finally:
            self._give_back(mux, kept)

    def _take(self, turn: ChatRequest) -> _Kept:
        answers = [at for at, message in enumerate(turn.messages) if message.role == "assistant"]
        if answers:
            found = self._by_key.get(_key(turn.model, turn.messages[: answers[-1] + 1]))
            if found is not None and not found.is_busy:
                found.is_busy = True
                return found
        # Nobody can guess the name: clients name sessions of their own.
        kept = _Kept(f"prefix-{uuid.uuid4().hex}")
        self._kept[kept.session] = kept
        return kept

    def _learn(self, mux: Runtime, kept: _Kept, key: bytes) -> None:
        before = self._by_key.get(key)
        if before is kept:
            return
        if before is not None:
            before.keys.remove(key)
            if not before.keys and not before.is_busy:
                self._forget(mux, before)
        self._by_key[key] = kept
        kept.keys.append(key)
        while len(kept.keys) > _KEYS:
            del self._by_key[kept.keys.pop(0)]

    def _give_back(self, mux: Runtime, kept: _Kept) -> None:
        kept.is_busy = False
        if not kept.keys:
            self._forget(mux, kept)
            return
        self._kept.move_to_end(kept.session)
        idle = [one for one in self._kept.values() if not one.is_busy]
        for one in idle[: max(0, len(self._kept) - self._most)]:
            self._forget(mux, one)

    def _forget(self, mux: Runtime, kept: _Kept) -> None:
        del self._kept[kept.session]
        for key in kept.keys:
            del self._by_key[key]
        with suppress(AgentmuxError):  # of a runtime that was closed meanwhile, and has given everything back
            mux.end_session(kept.session)


def _message(answer: ChatAnswer) -> Message:
    """An answer as the client is going to send it back."""
    return Message("assistant", answer.text, "", answer.tool_calls)


def _key(model: str, messages: Sequence[Message]) -> bytes:
    """Of a conversation. Spaces around what was said do not count: some clients drop them."""
    said = [
        (
            message.role,
            message.content.strip(),
            [(call.id, call.name, call.arguments) for call in message.tool_calls],
            message.tool_call.id if message.tool_call else None,
        )
        for message in messages
    ]
    return hashlib.sha256(json.dumps([model, said]).encode()).digest()
