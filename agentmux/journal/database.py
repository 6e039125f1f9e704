"""The journal's SQLite file: made, opened, checked, written in transactions. The only module that loads sqlite3.

**Commits are synchronous, on the caller's thread.** In WAL mode with ``synchronous=NORMAL`` a commit is a ``write`` to
the page cache and no ``fsync``. A thousand runs at once, 10,000 turns with texts of 800 characters and 128 tokens, on
two overloaded cores: 62 us of CPU time a turn (the median; 77 us on average, checkpoints included). What can stall the
event loop is the checkpoint that moves the WAL into the file and waits for the disk. So that is done by a thread (see
``Checkpoints``); the loop only meets what SQLite syncs as it begins the WAL anew. Where ``fsync`` takes 0.1 s, 4,000
turns met 5 stalls, 0.7 s together; with SQLite's own checkpoints 37, 5.6 s. On a fast disk there is no difference.

A writer thread with group commit was left out: it would save some of those microseconds, and in turn a killed process
would lose what was still queued, a full disk would be learned of too late to fail the right step, and the steps that
have to be durable (a tool's start, a run's end) would wait for a thread.

A killed process loses nothing that was committed. A power cut, or a kernel that crashes, may lose the commits since the
last checkpoint, a tool's start among them, but never earlier ones nor the file's consistency. With
``synchronous="full"`` each commit waits for the disk.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from agentmux.errors import JournalError

APPLICATION_ID = 0x61676D78
"""``agmx``, in the header of each journal."""
SCHEMA_VERSION = 1
_SETUP = "setup"
"""Locked while the journal is made; lies beside the owners' files."""
_CHECKPOINT_BYTES = 8 << 20
"""A WAL larger than this is moved into the file by a thread."""
_WAL_PAGES = 32768
"""At so many pages (32 MiB) the writer does it itself: the thread does not keep up, and its size has a bound."""
_PAGE_BYTES = 1024
"""A commit writes whole pages, and most rows are small: a run of one turn takes a tenth less time than with 4096."""
_LOOK_EACH = 64
"""Commits between two looks at the WAL's size."""

# Rows are only ever added, and go as whole runs. `n` counts up within a run over attempts, turns and tools: the order
# in which things were recorded. The tables are clustered by run, so a run is read in one go. A turn, with all that it
# adds to its conversations, is one row of a table by row id (`run << 32 | n`), because rows of the other kind leave a
# page at a quarter of its size: one statement and a page or two a turn. Its counts are sums up to and with it.
_SCHEMA = """
CREATE TABLE run(
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, target TEXT NOT NULL,
    arguments TEXT NOT NULL, settings TEXT NOT NULL, limits TEXT NOT NULL, owner TEXT NOT NULL, at_s REAL NOT NULL);
CREATE TABLE attempt(
    run INTEGER NOT NULL REFERENCES run(number) ON DELETE CASCADE, n INTEGER NOT NULL,
    owner TEXT NOT NULL, at_s REAL NOT NULL, PRIMARY KEY(run, n)) WITHOUT ROWID;
CREATE TRIGGER first_attempt AFTER INSERT ON run BEGIN
    INSERT INTO attempt VALUES(new.number, 1, new.owner, new.at_s); END;
CREATE TABLE ending(
    run INTEGER NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL, output TEXT, error TEXT, at_s REAL NOT NULL,
    PRIMARY KEY(run, attempt),
    FOREIGN KEY(run, attempt) REFERENCES attempt(run, n) ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE turn(
    id INTEGER PRIMARY KEY, turns INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL,
    at_s REAL NOT NULL, key TEXT NOT NULL, agent TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt INTEGER NOT NULL, answer INTEGER NOT NULL, tokens BLOB NOT NULL, numbers TEXT NOT NULL,
    messages TEXT NOT NULL);
CREATE TABLE tool(
    run INTEGER NOT NULL REFERENCES run(number) ON DELETE CASCADE, n INTEGER NOT NULL,
    key TEXT NOT NULL, agent TEXT NOT NULL, call TEXT NOT NULL, name TEXT NOT NULL, arguments TEXT NOT NULL,
    reruns INTEGER, at_s REAL NOT NULL, PRIMARY KEY(run, n)) WITHOUT ROWID;
CREATE TABLE outcome(
    run INTEGER NOT NULL, tool INTEGER NOT NULL, ok INTEGER NOT NULL, text TEXT NOT NULL, at_s REAL NOT NULL,
    PRIMARY KEY(run, tool), FOREIGN KEY(run, tool) REFERENCES tool(run, n) ON DELETE CASCADE) WITHOUT ROWID;
"""
# Made where it is missing: journals of before have none, and those who do not know it need not.
_SESSION = """
CREATE TABLE IF NOT EXISTS session(
    run INTEGER PRIMARY KEY REFERENCES run(number) ON DELETE CASCADE, name TEXT NOT NULL, messages TEXT NOT NULL);
"""

Execute = Callable[..., sqlite3.Cursor]


class Database:
    """An open journal file. All methods raise JournalError naming the path; the caller uses one thread at a time.

    Args:
        path: absolute.
        folder: the owners' folder beside it; exists.
        busy_timeout_s: for how long a write waits for another process's.
        synchronous: ``normal`` or ``full``.
    """

    def __init__(self, path: Path, folder: Path, busy_timeout_s: float, synchronous: str) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None
        try:
            if path.exists() and not path.is_file():
                raise JournalError(f"journal {path} is a {'folder' if path.is_dir() else 'device'}; it must be a file")
            if not path.exists() or path.stat().st_size == 0:
                _make(path, folder)
            self._file = path.stat().st_ino
            connection = self._connection = _connect(path, busy_timeout_s)
            _check(path, connection)
            connection.execute(_SESSION)
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={_CHECKPOINT_BYTES}")
        except BaseException as error:
            if self._connection is not None:
                self._connection.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise self._explained(error) from error
            raise
        self._checkpoints = Checkpoints(path, busy_timeout_s)

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """Write all or nothing: yields ``execute(sql, parameters)``, commits at the end, rolls back on any error."""
        connection = self._opened()
        try:
            self._check_in_place()
            connection.execute("BEGIN IMMEDIATE")
            yield connection.execute
            connection.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error | OSError):
                raise self._explained(error) from error
            raise
        self._checkpoints.committed()

    def append(self, sql: str, row: tuple[Any, ...]) -> sqlite3.Cursor:
        """Write one row: a transaction of its own."""
        try:
            self._check_in_place()
            cursor = self._opened().execute(sql, row)
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error
        self._checkpoints.committed()
        return cursor

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query."""
        try:
            return self._opened().execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def shrink(self) -> None:
        """Give the pages of deleted rows back to the file system, a few at a time so that others can write between."""
        while self.rows("PRAGMA freelist_count")[0][0] > 0:
            self.rows("PRAGMA incremental_vacuum(256)")

    def check_open(self) -> None:
        """Raises JournalError if it was closed."""
        self._opened()

    def close(self) -> None:
        """Close the file; no effect the second time."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._checkpoints.close()
        try:
            connection.close()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def damaged(self, why: object) -> JournalError:
        """The error for rows that cannot be."""
        return JournalError(f"journal {self.path} is damaged: {why}; move it away, or restore it from a backup")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError(f"journal {self.path} is closed")
        return self._connection

    def _check_in_place(self) -> None:
        """SQLite would go on writing to a file that was removed or replaced, and all of it would be lost."""
        try:
            same = os.stat(self.path).st_ino == self._file
        except FileNotFoundError:
            same = False
        if not same:
            raise JournalError(f"journal {self.path} was removed or replaced while it was in use")

    def _explained(self, error: sqlite3.Error | OSError) -> JournalError:
        if isinstance(error, OSError):
            return JournalError(f"journal {self.path} cannot be used: {error.strerror or error}")
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self.damaged(error)
        if name.startswith("SQLITE_BUSY"):
            return JournalError(f"journal {self.path}: another process kept it for over {self._busy_timeout_s:g} s")
        if name.startswith("SQLITE_FULL"):
            return JournalError(f"journal {self.path} cannot be written: the disk is full")
        return JournalError(f"journal {self.path} cannot be used: {error}")


class Checkpoints:
    """Moves the WAL into the file, in a thread that lives as long as that takes.

    Errors are let go: nothing is lost by them, the WAL is only longer, and the writer's own checkpoint or next commit
    meets what caused them.
    """

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._wal = f"{path}-wal"
        self._busy_timeout_s = busy_timeout_s
        self._commits = 0
        self._thread: threading.Thread | None = None

    def committed(self) -> None:
        """Count a commit, and start the thread if it is time."""
        self._commits += 1
        if self._commits % _LOOK_EACH or (self._thread is not None and self._thread.is_alive()):
            return
        with suppress(OSError, RuntimeError):
            if os.stat(self._wal).st_size > _CHECKPOINT_BYTES:
                self._thread = threading.Thread(target=self._run, name="agentmux journal checkpoint", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait for the thread, if there is one."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with suppress(sqlite3.Error), closing(_connect(self._path, self._busy_timeout_s)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=busy_timeout_s, check_same_thread=False
    )


def _make(path: Path, folder: Path) -> None:
    """Make the file whole under another name and rename it, so that no other process sees half of it."""
    setup = os.open(folder / _SETUP, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(setup, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_size > 0:
            return  # another process was first
        for left in folder.glob("new-*"):
            left.unlink()  # of a process that was killed here
        new = folder / f"new-{uuid.uuid4().hex}"
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(_connect(new, 0.0)) as connection:
                connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(f"BEGIN; {_SCHEMA} {_SESSION} COMMIT;")
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            new.rename(path)
        finally:
            for left in (new, Path(f"{new}-wal"), Path(f"{new}-shm")):
                left.unlink(missing_ok=True)
    finally:
        os.close(setup)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    """Raises JournalError unless this is a journal that this version can write."""
    ((application,),) = connection.execute("PRAGMA application_id").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is a SQLite file, but no journal of agentmux; choose another path")
    if version != SCHEMA_VERSION:
        raise JournalError(
            f"journal {path} has version {version}, this agentmux knows version {SCHEMA_VERSION}: "
            "use the agentmux that wrote it, or another path"
        )
    ((mode,),) = connection.execute("PRAGMA journal_mode").fetchall()
    if mode != "wal":
        raise JournalError(
            f"journal {path} is not in WAL mode; its file system may not allow that, choose another path"
        )
