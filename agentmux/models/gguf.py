"""The front of a GGUF file, read without any library: enough to say what the file is before it is loaded.

The layout is ggml's (``docs/gguf.md`` of that project). Everything read is held against the file's size first, since
any file may be given; whether the whole file is sound is for the engine to find out.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from agentmux.errors import ModelCorrupt, ModelNotFound, ModelUnsupported

MAGIC: Final = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_FORMATS: Mapping[int, struct.Struct] = MappingProxyType(
    {number: struct.Struct("<" + code) for number, code in zip((*range(8), 10, 11, 12), "BbHhIif?QqdB", strict=False)}
)
"""Type number -> how a value of it is packed; text and arrays aside."""
_ARCHITECTURE: Final = "general.architecture"
_SPLIT_COUNT: Final = "split.count"
_WANTED = (_ARCHITECTURE, "general.name")
_LONGEST_TEXT_BYTES = 4096
"""Of a value that is kept; longer ones are passed over."""
_PART = re.compile(r"(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Header:
    """What the front of a file says."""

    version: int
    architecture: str
    name: str | None
    """``general.name``."""
    training_context_tokens: int | None
    tensors: int
    """In this file; a split model's other parts have more."""


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the front of the file.

    Raises ModelNotFound if it cannot be read, ModelCorrupt if it is no GGUF or damaged at its front, ModelUnsupported
    for another version of the format, and for what is no model by itself: a projector (mmproj), a later part of a split
    model.
    """
    with _opened(path) as (file, size):
        return _header(file, size, str(path))


def split_count(path: str | os.PathLike[str]) -> int:
    """In how many files the model lies, as the front of this one says, whatever its name; 1 where it says nothing.

    Passes over the vocabulary, since splitting writes this behind it, which takes longer than ``read_header``. Raises
    ModelNotFound and ModelCorrupt as ``read_header`` does, ModelUnsupported for another version of the format.
    """
    with _opened(path) as (file, size):
        _, _, keys = _beginning(file, str(path))
        count = dict(_found(_Front(file, size), keys, lambda key: key == _SPLIT_COUNT)).get(_SPLIT_COUNT)
    return count if isinstance(count, int) else 1


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size. Raises ModelNotFound, and ModelCorrupt for what the block finds to be damaged."""
    try:
        _require_file(path)
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ModelNotFound(f"{path}: {reason}") from None
    except (struct.error, UnicodeDecodeError, KeyError, EOFError):
        raise ModelCorrupt(f"{path}: its header is damaged or cut off") from None


def _require_file(path: str | os.PathLike[str]) -> None:
    """Opening a pipe would wait for whoever writes into it."""
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # a folder says what it is when it is opened
        raise ModelNotFound(f"{path}: no regular file")


def _beginning(file: BinaryIO, path: str) -> tuple[int, int, int]:
    """The format's version; how many tensors and keys there are."""
    if file.read(4) != MAGIC:
        raise ModelCorrupt(f"{path}: no GGUF file, its magic number is missing")
    (version,) = struct.unpack("<I", file.read(4))
    if version not in _VERSIONS:
        raise ModelUnsupported(f"{path}: version {version} of the GGUF format; known are 2 and 3")
    tensors, keys = struct.unpack("<QQ", file.read(16))
    return version, tensors, keys


def _header(file: BinaryIO, size: int, path: str) -> Header:
    version, tensors, keys = _beginning(file, path)
    found = dict(_wanted(_Front(file, size), keys))
    architecture = found.get(_ARCHITECTURE)
    if not isinstance(architecture, str):
        if (first := part_paths(path)[0]) != Path(path):
            raise ModelUnsupported(f"{path}: a later part of a split model; load the first part, {first}")
        raise ModelCorrupt(f"{path}: names no architecture")
    if architecture == "clip":
        raise ModelUnsupported(f"{path}: a projector for images or sound, no language model")
    name, context = found.get("general.name"), found.get(f"{architecture}.context_length")
    return Header(
        version,
        architecture,
        name if isinstance(name, str) else None,
        context if isinstance(context, int) else None,
        tensors,
    )


def _wanted(front: _Front, keys: int) -> Iterator[tuple[str, Any]]:
    """Those that say what the model is. They mostly come before the vocabulary, which is long; there the reading ends
    if it is known by then what the model is."""
    is_known = False

    def is_wanted(key: str) -> bool | None:
        nonlocal is_known
        if key.startswith("tokenizer.") and is_known:
            return None
        is_known = is_known or key == _ARCHITECTURE
        return key in _WANTED or key.endswith(".context_length")

    return _found(front, keys, is_wanted)


def _found(front: _Front, keys: int, is_wanted: Callable[[str], bool | None]) -> Iterator[tuple[str, Any]]:
    """Keys and values that are wanted, until ``is_wanted`` gives None."""
    for _ in range(keys):
        key = front.text()
        if (wanted := is_wanted(key)) is None:
            return
        (kind,) = front.unpack(_FORMATS[4])
        if wanted:
            yield key, front.value(kind)
        else:
            front.skip(kind)


class _Front:
    """Reads forward, never past the end of the file. Raises EOFError there."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._file.read(layout.size))

    def text(self) -> str:
        (length,) = self.unpack(_FORMATS[10])
        if length > _LONGEST_TEXT_BYTES:
            raise EOFError
        data = self._file.read(length)
        if len(data) < length:
            raise EOFError
        return data.decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            self.skip(kind)
            return None
        return self.unpack(_FORMATS[kind])[0]

    def skip(self, kind: int) -> None:
        if kind == _STRING:
            self._forward(self.unpack(_FORMATS[10])[0])
        elif kind == _ARRAY:
            item, count = self.unpack(struct.Struct("<IQ"))
            if item in _FORMATS:
                self._forward(_FORMATS[item].size * count)
                return
            for _ in range(count):
                self.skip(item if item == _STRING else self._no_nesting())
        else:
            self._forward(_FORMATS[kind].size)

    def _forward(self, count: int) -> None:
        if self._file.tell() + count > self._size:
            raise EOFError
        self._file.seek(count, os.SEEK_CUR)

    def _no_nesting(self) -> int:
        raise KeyError("arrays of arrays are in no model's header")


def parts_of(name: str) -> tuple[str, ...]:
    """The file names of a split model, of which ``name`` is one part, in order; ``name`` alone if it is not split."""
    match = _PART.fullmatch(name)
    if match is None or not 1 <= int(match["part"]) <= int(match["parts"]):
        return (name,)
    return tuple(f"{match['stem']}-{part:05}-of-{match['parts']}.gguf" for part in range(1, int(match["parts"]) + 1))


def part_paths(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """``parts_of`` for files in one folder."""
    whole = Path(path)
    return tuple(whole.with_name(name) for name in parts_of(whole.name))
