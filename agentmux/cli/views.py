"""How a demo run is watched: as a live picture, as lines, or not at all."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from agentmux.agents import Report
from agentmux.cli.live import Board
from agentmux.cli.live_screen import Screen, cells_for, restore_terminal
from agentmux.cli.output import LineBuffer, Output
from agentmux.cli.summary import Outcome
from agentmux.messages import AgentFinished, Event, TextStreamed, TurnCompleted
from agentmux.runtime import Runtime


class View(Protocol):
    """Whoever watches."""

    def open(self, mux: Runtime) -> AbstractAsyncContextManager[None]:
        """Watch while this is open."""
        ...

    def event(self, task: int, event: Event) -> None:
        """An event of a task's run."""
        ...

    def outcome(self, task: int, outcome: Outcome) -> None:
        """A task has ended."""
        ...

    def restore(self) -> None:
        """Leave the terminal as it was: the process ends on the spot."""
        ...


class Unseen:
    """Nobody watches."""

    @asynccontextmanager
    async def open(self, mux: Runtime) -> AsyncIterator[None]:
        """See ``View``."""
        yield

    def event(self, task: int, event: Event) -> None:
        """See ``View``."""

    def outcome(self, task: int, outcome: Outcome) -> None:
        """See ``View``."""

    def restore(self) -> None:
        """See ``View``."""


class Lines(Unseen):
    """Whole lines, each with task and speaker."""

    def __init__(self, output: Output) -> None:
        self._lines = LineBuffer(output)

    def event(self, task: int, event: Event) -> None:
        """What an agent says, and what came of the examples."""
        match event:
            case TextStreamed(agent=agent, span=span, text=text):
                self._lines.feed(f"task {task} {agent.lower()}", text, span)
            case TurnCompleted(agent=agent, span=span):
                self._lines.end(f"task {task} {agent.lower()}", span)
            case AgentFinished(output=Report() as report, span=span):
                self._lines.feed(f"task {task} examples", report.text + "\n", span)
            case _:
                pass

    def outcome(self, task: int, outcome: Outcome) -> None:
        """In words."""
        self._lines.feed(f"task {task}", outcome.sentence + "\n")


class Watched(Unseen):
    """The live picture."""

    def __init__(self, title: str) -> None:
        encoding = sys.stdout.encoding if sys.stdout is not None else None
        self._board = Board(title, time.monotonic(), cells_for(encoding))

    @asynccontextmanager
    async def open(self, mux: Runtime) -> AsyncIterator[None]:
        """See ``View``."""
        async with Screen(self._board, lambda: mux.stats().engine).open():
            yield

    def event(self, task: int, event: Event) -> None:
        """See ``View``."""
        now_s = time.monotonic()
        self._board.event(task, event, now_s)
        if isinstance(event, AgentFinished) and isinstance(event.output, Report):
            self._board.say(task, "examples", event.output.text, now_s)

    def outcome(self, task: int, outcome: Outcome) -> None:
        """See ``View``."""
        self._board.end(task, outcome.sentence, time.monotonic())

    def restore(self) -> None:
        """See ``View``."""
        restore_terminal()
