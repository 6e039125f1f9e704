"""Model files before the engine has them: whether they can be models at all, and in memory ahead of time."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from agentmux.config import ModelSpec
from agentmux.errors import ModelNotFound
from agentmux.host_memory import available_bytes
from agentmux.models.gguf import part_paths, read_header, split_count
from agentmux.models.names import expanded

_BLOCK_BYTES: Final = 2 * 1024 * 1024
_SHARE: Final = 0.5
"""Of the available memory that a model may take which is read ahead."""
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", None)
"""Of a read that fails where it would wait for the disk; Linux has it."""


def check_file(spec: ModelSpec) -> None:
    """Look at the front of a model's file, and for its other parts where it is split; takes a millisecond or so.

    A whole file may have kept the name of a first part: whether those that its name speaks of are missing, its header
    says.

    What this finds is certain, but only loading shows whether a file is sound throughout. Raises ModelNotFound (not
    there, or not to be read), ModelCorrupt, ModelUnsupported.
    """
    path = expanded(spec)
    read_header(path)
    missing = next((part for part in _parts(path)[1:] if not os.access(part, os.R_OK)), None)
    if missing is not None and split_count(path) > 1:
        reason = "cannot be read" if missing.exists() else "no such file"
        raise ModelNotFound(f"{missing}: {reason}; it is a part of the model {path}")


def read_ahead(spec: ModelSpec, is_given_up: Callable[[], bool]) -> None:
    """Read what of a model's file is not in memory yet, so that whoever maps it later does not wait for the disk.

    Nothing is read of a model larger than half of the available memory: it would take the place of files in use. Ends
    early once it is given up. What cannot be read is passed over: whoever needs it is going to say so.
    """
    parts = _parts(expanded(spec))
    if _size(parts) > _SHARE * available_bytes():
        return
    for part in parts:
        try:
            with open(part, "rb", buffering=0) as file:
                _read(file.fileno(), is_given_up)
        except OSError:
            return


def _size(parts: tuple[Path, ...]) -> int:
    """In bytes, of those that are there."""
    size = 0
    for part in parts:
        with suppress(OSError):
            size += part.stat().st_size
    return size


def _read(file: int, is_given_up: Callable[[], bool]) -> None:
    block = memoryview(bytearray(_BLOCK_BYTES))
    for offset in range(0, os.fstat(file).st_size, _BLOCK_BYTES):
        if is_given_up():
            return
        if not _in_memory(file, offset, block[:1]):
            os.preadv(file, [block], offset)


def _in_memory(file: int, offset: int, byte: memoryview) -> bool:
    """Whether a block begins with what is in memory; False where the system cannot tell."""
    if _NOWAIT is None:
        return False
    try:
        return os.preadv(file, [byte], offset, _NOWAIT) > 0
    except OSError:
        return False


def _parts(path: str) -> tuple[Path, ...]:
    """All files of the model, also where the path is a link of another name to the first of them."""
    named = part_paths(path)
    return named if len(named) > 1 else part_paths(os.path.realpath(path))
