"""What the journal takes and gives: frozen values. Seconds ``_s`` of moments are Unix time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agentmux.messages import Completion, Message, TurnNumbers

Ending = Literal["finished", "failed", "cancelled"]
Status = Literal["running", "interrupted", "finished", "failed", "cancelled"]
"""``interrupted``: the process that ran it is gone, and no end was recorded."""


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """A turn that is complete."""

    agent: str
    completion: Completion


@dataclass(frozen=True, slots=True)
class RecordedTool:
    """How a tool's call ended."""

    ok: bool
    text: str
    """JSON of the result, or the error's text."""
    raised: bool = False
    """It raised, which ended the run or may have. It is not handed out when the run is resumed: the tool runs again."""


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A session's name, and what its conversations held as the run began."""

    name: str
    messages: Mapping[tuple[str, str], tuple[Message, ...]]
    """[agent, model] what was said, oldest first; those that were empty are not there."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run, all its attempts together."""

    id: str
    target: str
    status: Status
    began_s: float
    ended_s: float | None
    """None unless its last attempt has a recorded end."""
    attempts: int
    """1, and one more each time it was resumed."""
    turns: int
    """Recorded, so complete ones."""
    prompt_tokens: int
    generated_tokens: int
    tool_calls: int
    """Started ones."""
    error: str | None


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """A recorded turn."""

    order: int
    """Orders the turns and tool calls of a run by the moment they were recorded."""
    at_s: float
    agent: str
    prompt: tuple[Message, ...]
    """Messages that no earlier turn of this run was shown at the same place of a conversation."""
    answer: str
    finish_reason: str
    numbers: TurnNumbers


@dataclass(frozen=True, slots=True)
class ShownTool:
    """A recorded tool call."""

    order: int
    at_s: float
    agent: str
    id: str
    name: str
    arguments: str
    state: Literal["running", "returned", "errored", "in doubt", "run again"]
    """``in doubt``: started, and nobody recorded its end; ``run again``: was in doubt, a later call replaced it."""
    text: str | None
    """JSON of the result, or the error's text; None without a recorded end."""
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class RunDetails:
    """Everything about one run."""

    summary: RunSummary
    arguments: str
    settings: str
    limits: str
    output: str | None
    """JSON, as given to ``RunRecord.end``; None unless finished."""
    turns: tuple[ShownTurn, ...]
    tools: tuple[ShownTool, ...]
    messages: tuple[Message, ...]
    """Each once, in the order in which they were first recorded."""
    session: RecordedSession | None = None
    """The session that it ran in, if it was given one's name."""
