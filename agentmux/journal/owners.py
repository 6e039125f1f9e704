"""Who is alive: each process that runs something holds a lock on a file of its own beside the journal.

The kernel lets go of a lock (``flock``) when its process ends, however it ends, so a dead owner is seen as dead after
SIGKILL, after a reboot, and although its process id was given to another. The files' names are random; a file without
a lock is a dead owner's, and anyone may remove it.
"""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from contextlib import suppress
from pathlib import Path


class Owner:
    """A lock on a new file in ``folder``, until ``release`` or the process's end. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._fd: int | None = None
        while self._fd is None:
            self.id = uuid.uuid4().hex
            self._path = folder / self.id
            self._fd = _locked(self._path)
        # A forked child shares the lock and would keep a run "running" after its parent was killed.
        os.register_at_fork(after_in_child=_Dropping(self))

    def release(self) -> None:
        """Give the lock up and remove the file; no effect the second time."""
        if self._fd is not None:
            with suppress(OSError):  # it is dead without the lock, whether its file is there or not
                self._path.unlink()
            self.drop()

    def drop(self) -> None:
        """Close this process's own handle. The lock lasts as long as another process has one."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self) -> None:
        self.drop()


class _Dropping:
    """``owner.drop()``, without keeping the owner alive: what is registered at fork stays registered for ever."""

    def __init__(self, owner: Owner) -> None:
        self._owner = weakref.ref(owner)

    def __call__(self) -> None:
        if (owner := self._owner()) is not None:
            owner.drop()


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock on a new file; None if a sweep removed it before it was locked."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def is_alive(folder: Path, owner: str) -> bool:
    """Whether the process that made this owner still holds its lock. Raises OSError."""
    try:
        fd = os.open(folder / owner, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that those who look do not take each other for the owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def sweep(folder: Path) -> None:
    """Remove the files of dead owners. Raises OSError."""
    for path in list(folder.iterdir()):
        if len(path.name) != 32:
            continue
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                pass
            finally:
                os.close(fd)
