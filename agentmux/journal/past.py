"""What a run has done in earlier attempts, and which of it has not been handed out yet. Pure: it touches no file.

Steps with equal keys are interchangeable, because a key is a digest of everything that determines the step. So the nth
question for a key gets the nth recorded step with it, whatever the order in which concurrent agents come by.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TypeVar

from agentmux.errors import ToolInDoubt
from agentmux.journal.records import RecordedTool, RecordedTurn

T = TypeVar("T")

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A tool's call that was started, and whose end nobody recorded."""

    n: int
    name: str
    arguments: str


@dataclass(slots=True)
class Past:
    """Recorded steps by key, oldest first; each is taken out once."""

    turns: defaultdict[str, deque[RecordedTurn]] = field(default_factory=lambda: defaultdict(deque))
    tools: defaultdict[str, deque[RecordedTool]] = field(default_factory=lambda: defaultdict(deque))
    in_doubt: defaultdict[str, deque[InDoubt]] = field(default_factory=lambda: defaultdict(deque))
    _again: defaultdict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))

    def turn(self, key: str) -> RecordedTurn | None:
        """The next turn with this key."""
        return _taken(self.turns, key)

    def tool(self, run: str, key: str, may_rerun: bool) -> RecordedTool | None:
        """The next tool outcome with this key; None to run it. Raises ToolInDoubt."""
        if (outcome := _taken(self.tools, key)) is not None:
            return outcome
        doubtful = self.in_doubt.get(key)
        if not doubtful:
            return None
        if not may_rerun:
            raise _doubt(run, doubtful[0])
        self._again[key].append(doubtful.popleft().n)
        if not doubtful:
            del self.in_doubt[key]
        return None

    def replaces(self, key: str) -> int | None:
        """The number of the call in doubt that a tool which is started now stands for, if any."""
        return _taken(self._again, key)


def _taken(queues: defaultdict[str, deque[T]], key: str) -> T | None:
    queue = queues.get(key)
    if not queue:
        return None
    step = queue.popleft()
    if not queue:
        del queues[key]
    return step


def _doubt(run: str, call: InDoubt) -> ToolInDoubt:
    shown = call.arguments
    if len(shown) > _SHOWN_CHARACTERS:
        shown = f"{shown[:_SHOWN_CHARACTERS]}... ({len(call.arguments)} characters)"
    return ToolInDoubt(
        f"tool {call.name} with arguments {shown} was under way when its process ended, and nobody knows whether it "
        f"took effect. Look, then `agentmux runs resume {run} --rerun-in-doubt` runs it again; a tool that may always "
        "be run again can be declared idempotent"
    )
