"""What is committed at once, and what waits for company.

A step (a turn, a tool's start or end) is committed when it comes. Where ``later`` is set, a run's beginning is written
with its first step and its end with the next thing that is written, and both a moment later at the latest: a commit
costs more than the rows in it, and most runs are short. A process that is killed in that moment loses the word that a
run began, before it had done anything, or that it ended; resuming it then gives the same output at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agentmux.errors import JournalError
from agentmux.journal.database import Database
from agentmux.journal.record import BegunRun, EndedRun

Statement = tuple[str, tuple[Any, ...]]


class Writer:
    """Writes to one journal. What cannot be written raises JournalError, and nothing of it is then written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.later: Callable[[Callable[[], None]], object] | None = None
        """Calls what it is given a moment later, on the same thread."""
        self._begun: list[BegunRun] = []
        self._ended: list[EndedRun] = []
        self._is_due = False

    def begin(self, begun: BegunRun) -> None:
        """A run begins; its key gets its number once that is written."""
        self._begun.append(begun)
        if self.later is not None:
            self._soon()
            return
        try:
            self.settle()
        except BaseException:
            with suppress(ValueError):  # a run that is there already is not waiting any more
                self._begun.remove(begun)
            raise

    def end(self, ended: EndedRun) -> None:
        """A run has ended. What cannot be written stays owed: it must not read as running for ever."""
        self._ended.append(ended)
        if self.later is not None:
            self._soon()
            return
        self.settle()

    def step(self, statement: Callable[[], Statement]) -> None:
        """Commit a step, and what waits. ``statement`` is asked once its run has its number."""
        if self._begun or self._ended:
            self._commit(statement)
        else:
            self._database.append(*statement())

    def settle(self) -> None:
        """Commit what waits."""
        if self._begun or self._ended:
            self._commit(None)

    def settle_quietly(self) -> None:
        """Commit what waits; what cannot be committed goes on waiting."""
        with suppress(JournalError):
            self.settle()

    def _soon(self) -> None:
        if not self._is_due and self.later is not None:
            self._is_due = True
            self.later(self._when_due)

    def _when_due(self) -> None:
        self._is_due = False
        self.settle_quietly()

    def _commit(self, statement: Callable[[], Statement] | None) -> None:
        begun, ended = list(self._begun), list(self._ended)
        try:
            with self._database.transaction() as execute:
                for run in begun:
                    inserted = execute(*run.statement())
                    if not inserted.rowcount:
                        self._begun.remove(run)
                        raise JournalError(f"journal {self._database.path} has a run {run.key.id} already")
                    run.key.number = inserted.lastrowid or 0
                    for further in run.session_statements():
                        execute(*further)
                for one in ended:
                    execute(*one.statement())
                if statement is not None:
                    execute(*statement())
        except BaseException:
            for run in begun:
                run.key.number = 0
            raise
        del self._begun[: len(begun)]
        del self._ended[: len(ended)]
