"""The output of a response: items, and the events that tell how they come to be.

Plain responses and streams are made by the same code; only one of them sends the events.
"""

from __future__ import annotations

import uuid
from typing import Any

from agentmux.chatting import ChatAnswer
from agentmux.messages import ToolCall
from agentmux.server.answers import sse


class Output:
    """Items in the order in which they were begun. All methods return the events of what they did."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        """As they are so far."""
        self._sequence = 0
        self._message: dict[str, Any] | None = None
        self._held = ""
        self._given = ""

    def event(self, kind: str, **members: Any) -> str:
        """One event, with the next number."""
        number, self._sequence = self._sequence, self._sequence + 1
        return f"event: {kind}\n" + sse({"type": kind, "sequence_number": number, **members})

    def reason(self, text: str) -> str:
        """What was reasoned, all of it; once is enough."""
        if not text or any(item["type"] == "reasoning" for item in self.items):
            return ""
        item = _item("rs", "reasoning", status="in_progress", summary=[], content=[])
        told = self._begin(item) + self._begin_part(item, {"type": "reasoning_text", "text": ""})
        told += self._grow(item, "reasoning_text", text)
        return told + self._end_part(item, "reasoning_text") + self._end(item, "completed")

    def say(self, text: str) -> str:
        """New text of the answer. White space at its beginning is held back: before a call it is nothing."""
        self._given += text
        self._held += text
        return self._let_go() if self._held.strip() else ""

    def end(self, answer: ChatAnswer) -> str:
        """The whole answer, of which reasoning and text may have been told."""
        told = "" if self._message else self.reason(answer.reasoning)
        told += self.say(answer.text[len(self._given) :])
        if (self._held and self._message) or not answer.tool_calls:
            told += self._let_go()
        if self._message is not None:
            told += self._end_part(self._message, "output_text")
            told += self._end(self._message, "incomplete" if answer.finish_reason == "length" else "completed")
        return told + self.reason(answer.reasoning) + "".join(self._call(call) for call in answer.tool_calls)

    def _let_go(self) -> str:
        told = ""
        if self._message is None:
            self._message = _item("msg", "message", status="in_progress", role="assistant", content=[])
            told = self._begin(self._message)
            told += self._begin_part(
                self._message, {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            )
        held, self._held = self._held, ""
        return told + self._grow(self._message, "output_text", held, logprobs=[]) if held else told

    def _call(self, call: ToolCall) -> str:
        members = {"call_id": call.id, "name": call.name, "arguments": ""}
        item = _item("fc", "function_call", status="in_progress", **members)
        told = self._begin(item)
        item["arguments"] = call.arguments
        told += self.event("response.function_call_arguments.delta", **self._place(item), delta=call.arguments)
        told += self.event(
            "response.function_call_arguments.done", **self._place(item), name=call.name, arguments=call.arguments
        )
        return told + self._end(item, "completed")

    def _begin(self, item: dict[str, Any]) -> str:
        self.items.append(item)
        return self.event("response.output_item.added", output_index=self.items.index(item), item=item)

    def _end(self, item: dict[str, Any], status: str) -> str:
        item["status"] = status
        return self.event("response.output_item.done", output_index=self.items.index(item), item=item)

    def _begin_part(self, item: dict[str, Any], part: dict[str, Any]) -> str:
        told = self.event("response.content_part.added", **self._place(item, 0), part=part)
        item["content"].append(part)
        return told

    def _grow(self, item: dict[str, Any], kind: str, text: str, **more: Any) -> str:
        item["content"][0]["text"] += text
        return self.event(f"response.{kind}.delta", **self._place(item, 0), delta=text, **more)

    def _end_part(self, item: dict[str, Any], kind: str) -> str:
        (part,) = item["content"]
        more = {"logprobs": part["logprobs"]} if "logprobs" in part else {}
        told = self.event(f"response.{kind}.done", **self._place(item, 0), text=part["text"], **more)
        return told + self.event("response.content_part.done", **self._place(item, 0), part=part)

    def _place(self, item: dict[str, Any], part: int | None = None) -> dict[str, Any]:
        place = {"item_id": item["id"], "output_index": self.items.index(item)}
        return place if part is None else {**place, "content_index": part}


def _item(prefix: str, kind: str, **members: Any) -> dict[str, Any]:
    return {"id": f"{prefix}_{uuid.uuid4().hex}", "type": kind, **members}
