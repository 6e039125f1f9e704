"""What a script is made of: the answers and failures of its turns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from pydantic_core import to_json

from agentmux.engine.base import FinishReason, TurnRequest


class ScriptError(AssertionError):
    """The script and what was asked of the engine do not agree."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A turn that gives ``text``. Text stands for itself in a script: ``"abc"`` is ``Answer("abc")``."""

    text: str
    chunks: tuple[str, ...] | None = None
    """How the text arrives; None: all at once."""
    reason: FinishReason = "stop"
    prompt_tokens: int = 1
    hold: bool = False
    """Stay in the slot, with the text given, until ``ScriptedEngine.release`` or a cancellation."""
    expect: str | None = None
    """Text that must be in the prompt, or the turn is a ScriptError."""

    @classmethod
    def json(cls, value: Any, **more: Any) -> Self:
        """A typed answer: a pydantic model, a dataclass, or whatever else pydantic makes JSON of.

        ``more`` are fields of Answer. Raises pydantic's PydanticSerializationError for values that it does not know.
        """
        return cls(to_json(value).decode(), **more)

    @classmethod
    def calls(cls, *calls: tuple[str, Mapping[str, Any]], **more: Any) -> Self:
        """An answer that calls tools, each given as name and arguments, as a model without a format of its own does.

        ``more`` are fields of Answer.
        """
        return cls(calls_text(calls), **more)


@dataclass(frozen=True, slots=True)
class Failure:
    """A turn that starts and then fails with this error code (see ``agentmux.errors.from_code``)."""

    code: str = "engine"
    message: str = "scripted failure"
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A turn whose submission raises ``error``."""

    error: Exception


Step = str | Answer | Failure | Refusal
StepMaker = Callable[[TurnRequest], Step]
Script = Sequence[Step] | StepMaker


@runtime_checkable
class Leftovers(Protocol):
    """A maker of steps that knows which of them have to be asked for."""

    def left(self) -> list[str]:
        """Those that no turn has asked for yet, in words."""
        ...


def calls_text(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Calls of tools in agentmux's own format, which the scripted engine's models have: each call a line of JSON."""
    return "\n".join(
        json.dumps({"tool": name, "arguments": dict(arguments)}, ensure_ascii=False) for name, arguments in calls
    )
