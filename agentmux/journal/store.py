"""The journal: the runs in it, which of them can be resumed, and how long they are kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from agentmux.errors import ConfigError, JournalError
from agentmux.journal import owners
from agentmux.journal.reading import RUN_TURNS, Attempt, Reader
from agentmux.journal.record import BegunRun, RunKey, RunRecord
from agentmux.journal.records import RecordedSession, RunDetails, RunSummary, Status
from agentmux.journal.rows import stored

if TYPE_CHECKING:
    from agentmux.journal.database import Database

_OWNERS = "-owners"


class Journal:
    """One SQLite file in which runs are recorded, step by step, so that they can be resumed.

    Several processes may use the same file at the same time, each with a Journal of its own. One Journal is used by one
    thread at a time, normally the event loop's: what a commit costs there, and what a killed process or a power cut can
    lose, is said in ``agentmux.journal.database``.

    Beside the file lies a folder, the file's name with ``-owners``: a run counts as ``running`` for as long as the
    process that has it under way holds a lock there. Both can only be read by their user.

    Every method raises JournalError, which names the file, when it cannot be read or written. Nothing is then half
    written, and the Journal can go on being used: after a full disk has room again, for instance.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._reader = Reader(database, self._is_alive)
        self._owner: owners.Owner | None = None
        # Here and not above: it needs sqlite3, like the database.
        from agentmux.journal.writing import Writer

        self._writer = Writer(database)

    def write_later(self, later: Callable[[Callable[[], None]], object]) -> None:
        """Let beginnings and ends of runs wait for company; see ``agentmux.journal.writing``. ``later`` calls what it
        is given a moment later, on the thread that uses the journal."""
        self._writer.later = later

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        max_age_s: float | None = None,
        max_runs: int | None = None,
        busy_timeout_s: float = 5.0,
        synchronous: Literal["normal", "full"] = "normal",
    ) -> Journal:
        """Open the file, or make it, with the folders that lead to it.

        Args:
            path: the file; ``~`` is resolved.
            max_age_s, max_runs: what ``prune`` is called with first; None: keep.
            busy_timeout_s: how long a write waits while another process writes (which takes well below a millisecond).
            synchronous: ``full`` waits for the disk at each commit, so that a power cut loses nothing either.

        Raises JournalError for a folder or file that cannot be used, is damaged, is no journal, or was written by
        a newer agentmux; ConfigError for values that cannot be meant.
        """
        _check_retention(max_age_s, max_runs)
        if synchronous not in ("normal", "full"):
            raise ConfigError(f'synchronous={synchronous!r} is neither "normal" nor "full"')
        # Here and not above: sqlite3 is needed by those who have a journal, and takes longer to load than agentmux may.
        from agentmux.journal.database import Database

        try:
            file = Path(path).expanduser().resolve()
            folder = file.with_name(file.name + _OWNERS)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise JournalError(f"journal {os.fspath(path)} cannot be used: {_reason(error)}") from error
        journal = cls(Database(file, folder, busy_timeout_s, synchronous), folder)
        try:
            journal.prune(max_age_s=max_age_s, max_runs=max_runs)
        except BaseException:
            journal._database.close()
            raise
        return journal

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._database.path

    def begin(
        self,
        run: str,
        target: str,
        arguments: str,
        settings: str,
        limits: str = "",
        session: RecordedSession | None = None,
    ) -> RunRecord:
        """Record that a run begins.

        Args:
            run: its id, new to this journal.
            target: ``module:name`` or ``/path/file.py:name``.
            arguments, settings, limits: JSON, given back by ``resume`` as they are.
            session: the session that it runs in, and what that holds now.

        Raises JournalError.
        """
        owner, at_s = self._owned(), time.time()
        given = (target, arguments, settings, limits)
        key = RunKey(run, 0, 1)
        self._writer.begin(BegunRun(key, given, owner, at_s, session))
        return RunRecord(self._writer.step, key, given, self._writer.end)

    def resume(self, run: str, *, rerun_in_doubt: bool = False) -> RunRecord:
        """A new attempt at a run that was interrupted, failed or cancelled; it hands out what was done before.

        ``rerun_in_doubt``: run tools again that were under way when their process ended, whatever that means.

        Raises JournalError if there is no such run, if it is running (in whatever process), or if it is finished: its
        output is then in ``show``.
        """
        self._writer.settle()
        owner = self._owned()
        begun = False
        while not begun:
            attempt = self._resumable(run)
            # Nobody adds to a run in this state but by resuming it. So it can be read, which may take a while, before
            # others are kept from writing.
            given, earlier, n = self._reader.given(attempt), self._reader.earlier(attempt), self._reader.next_n(attempt)
            with self._database.transaction() as execute:
                begun = self._resumable(run).n == attempt.n
                if begun:
                    execute("INSERT INTO attempt VALUES(?,?,?,?)", (attempt.number, n, owner, time.time()))
        key = RunKey(run, attempt.number, n)
        return RunRecord(self._writer.step, key, given, self._writer.end, earlier, rerun_in_doubt)

    def check_resumable(self, run: str) -> None:
        """Raises JournalError if ``resume`` would."""
        self._resumable(run)

    def runs(self, *, status: Status | None = None, limit: int | None = None) -> list[RunSummary]:
        """The runs, newest first: all, or those with this status, at most ``limit``."""
        self._writer.settle_quietly()
        found: list[RunSummary] = []
        for attempt in self._reader.attempts():
            if limit is not None and len(found) >= limit:
                break
            state = self._reader.state(attempt)
            if status in (None, state.status):
                found.append(self._reader.summary(attempt, state))
        return found

    def find(self, prefix: str) -> str:
        """The id of the one run whose id is, or begins with, ``prefix``. JournalError if it is none or several."""
        self._writer.settle_quietly()
        sql = "SELECT id FROM run WHERE substr(id, 1, length(?1)) = ?1 ORDER BY number DESC LIMIT 5"
        ids = [id for (id,) in self._database.rows(sql, (stored(prefix),))] if prefix else []
        if len(ids) == 1 or self._reader.attempt(prefix) is not None:
            return prefix if len(ids) != 1 else str(ids[0])
        if not ids:
            raise JournalError(f"no run {prefix!r} in the journal {self.path}; `agentmux runs list` shows them")
        raise JournalError(f"{prefix!r} is the beginning of several runs: {', '.join(ids)}; write more of it")

    def show(self, run: str) -> RunDetails:
        """Everything about a run, by its whole id. Raises JournalError if there is none."""
        self._writer.settle_quietly()
        return self._reader.details(self._known(run))

    def prune(self, *, max_age_s: float | None = None, max_runs: int | None = None) -> int:
        """Remove runs that last wrote something more than ``max_age_s`` seconds ago, and all but the newest
        ``max_runs``; never one that is running. How many were removed.

        Their space is given back to the file system. Raises JournalError, and ConfigError for a value that cannot be
        meant.
        """
        _check_retention(max_age_s, max_runs)
        if max_age_s is None and max_runs is None:
            return 0
        removed, before_s = 0, None if max_age_s is None else time.time() - max_age_s
        for place, attempt in enumerate(self._reader.attempts()):
            too_many = max_runs is not None and place >= max_runs
            too_old = before_s is not None and attempt.at_s < before_s
            if (too_many or too_old) and self._remove(attempt, None if too_many else before_s):
                removed += 1
        self._database.shrink()
        with suppress(OSError):  # of no consequence: they only take up a name
            owners.sweep(self._folder)
        return removed

    def _remove(self, seen: Attempt, before_s: float | None) -> bool:
        """Remove a run unless it is running, or has written since ``before_s``. One transaction each: others wait
        little, and a run cannot be resumed while it goes."""
        state = self._reader.state(seen)
        if state.status == "running" or (before_s is not None and self._reader.last_s(seen, state) >= before_s):
            return False
        with self._database.transaction() as execute:
            now = self._reader.attempt(seen.id)
            if now is None or self._reader.state(now).status == "running":
                return False
            execute(f"DELETE FROM turn {RUN_TURNS}", (seen.number,))
            execute("DELETE FROM run WHERE number = ?", (seen.number,))
        return True

    def close(self) -> None:
        """Close the file. Runs under way become ``interrupted``. No effect the second time."""
        try:
            self._writer.settle()
        finally:
            owner, self._owner = self._owner, None
            if owner is not None:
                owner.release()
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _known(self, run: str) -> Attempt:
        attempt = self._reader.attempt(run)
        if attempt is None:
            raise JournalError(f"no run {run!r} in the journal {self.path}; `agentmux runs list` shows them")
        return attempt

    def _resumable(self, run: str) -> Attempt:
        attempt = self._known(run)
        status = self._reader.state(attempt).status
        if status == "running":
            raise JournalError(f"run {run} is running; it can be resumed when that has ended")
        if status == "finished":
            raise JournalError(f"run {run} is finished; `agentmux runs show {run}` has its output")
        return attempt

    def _owned(self) -> str:
        """This journal's own id as an owner, its lock taken the first time."""
        self._database.check_open()
        if self._owner is None:
            try:
                owners.sweep(self._folder)
                self._owner = owners.Owner(self._folder)
            except OSError as error:
                raise JournalError(f"journal {self.path}: no lock in {self._folder}: {_reason(error)}") from error
        return self._owner.id

    def _is_alive(self, owner: str) -> bool:
        try:
            return owners.is_alive(self._folder, owner)
        except (OSError, ValueError) as error:
            raise JournalError(f"journal {self.path}: cannot look into {self._folder}: {_reason(error)}") from error


def _check_retention(max_age_s: float | None, max_runs: int | None) -> None:
    if max_age_s is not None and not max_age_s >= 0:
        raise ConfigError(f"max_age_s={max_age_s} is not a number of seconds")
    if max_runs is not None and max_runs < 0:
        raise ConfigError(f"max_runs={max_runs} is not a number of runs")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
