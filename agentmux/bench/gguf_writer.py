"""The little of GGUF (version 3, little endian) that random models need: writing a header, and taking over another
file's tokenizer. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import BinaryIO

from agentmux.errors import ModelCorrupt, ModelNotFound

F32, Q4_0 = 0, 2
_STRING, _ARRAY, _UINT32, _FLOAT32, _INT32 = 8, 9, 4, 6, 5
_MAGIC = b"GGUF"
_WIDTHS = MappingProxyType({0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8})
"""Type of a value -> bytes."""
_TOKENIZER = b"tokenizer."
_TOKENS = b"tokenizer.ggml.tokens"


class Header:
    """Metadata and the list of tensors, in order."""

    def __init__(self) -> None:
        self._values: list[bytes] = []
        self._n_values = 0
        self._tensors: list[tuple[bytes, int]] = []

    def add(self, key: str, value: str | int | float) -> None:
        """A text, a whole number of 32 bits or a float."""
        if isinstance(value, str):
            packed = struct.pack("<I", _STRING) + _text(value)
        elif isinstance(value, float):
            packed = struct.pack("<If", _FLOAT32, value)
        else:
            packed = struct.pack("<II", _UINT32, value)
        self.add_raw([_text(key) + packed])

    def add_raw(self, values: list[bytes]) -> None:
        """Keys with their values as another file has them."""
        self._values += values
        self._n_values += len(values)

    def add_tensor(self, name: str, dims: tuple[int, ...], kind: int, n_bytes: int) -> None:
        """The next tensor; its data follow those of the one before."""
        packed = _text(name) + struct.pack(f"<I{len(dims)}QI", len(dims), *dims, kind)
        self._tensors.append((packed, n_bytes))

    def packed(self, alignment: int) -> bytes:
        """Everything before the first tensor's data."""
        out = [_MAGIC, struct.pack("<IQQ", 3, len(self._tensors), self._n_values), *self._values]
        offset = 0
        for packed, n_bytes in self._tensors:
            out.append(packed + struct.pack("<Q", offset))
            offset += n_bytes + -n_bytes % alignment
        header = b"".join(out)
        return header + bytes(-len(header) % alignment)


def made_up_tokenizer(n_tokens: int) -> list[bytes]:
    """``tokenizer.*`` keys with their values, packed: at least 259 tokens, named after their ids.

    Bytes are there because llama.cpp looks for them, but as ordinary text: a server would keep back what is a part of a
    character until it has the rest.
    """
    normal, unknown, control = 1, 2, 3
    names = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    names += [f"t{i} " for i in range(len(names), n_tokens)]
    kinds = [unknown, control, control, *[normal] * (n_tokens - 3)]
    return [
        _text("tokenizer.ggml.model") + struct.pack("<I", _STRING) + _text("llama"),
        _array("tokenizer.ggml.tokens", _STRING, n_tokens, b"".join(map(_text, names))),
        _array("tokenizer.ggml.scores", _FLOAT32, n_tokens, bytes(4 * n_tokens)),
        _array("tokenizer.ggml.token_type", _INT32, n_tokens, struct.pack(f"<{n_tokens}i", *kinds)),
    ]


def _array(key: str, of: int, count: int, packed: bytes) -> bytes:
    return _text(key) + struct.pack("<IIQ", _ARRAY, of, count) + packed


def tokenizer_of(path: str) -> tuple[list[bytes], int]:
    """A GGUF file's ``tokenizer.*`` keys with their values, packed, and how many tokens it has.

    Raises ModelNotFound, ModelCorrupt for what is no GGUF file or has no tokens.
    """
    try:
        with open(path, "rb") as file:
            return _tokenizer(file, path)
    except FileNotFoundError:
        raise ModelNotFound(f"{path}: no such file") from None
    except (struct.error, KeyError, MemoryError, OverflowError) as error:
        raise ModelCorrupt(f"{path}: its metadata cannot be read: {error}") from error


def _tokenizer(file: BinaryIO, path: str) -> tuple[list[bytes], int]:
    if file.read(4) != _MAGIC:
        raise ModelCorrupt(f"{path}: is no GGUF file")
    _, _, n_values = struct.unpack("<IQQ", file.read(20))
    found: list[bytes] = []
    n_tokens = 0
    for _ in range(n_values):
        start = file.tell()
        key = _read_text(file)
        count = _skip_value(file, *struct.unpack("<I", file.read(4)))
        if not key.startswith(_TOKENIZER):
            continue
        end = file.tell()
        file.seek(start)
        found.append(file.read(end - start))
        n_tokens = count if key == _TOKENS else n_tokens
    if n_tokens == 0:
        raise ModelCorrupt(f"{path}: has no tokenizer")
    return found, n_tokens


def _skip_value(file: BinaryIO, kind: int) -> int:
    """Past a value; how many elements it has."""
    if kind == _STRING:
        _read_text(file)
    elif kind == _ARRAY:
        of, count = struct.unpack("<IQ", file.read(12))
        if of == _STRING:
            for _ in range(count):
                _read_text(file)
        else:
            file.seek(_WIDTHS[of] * count, 1)
        return int(count)
    else:
        file.seek(_WIDTHS[kind], 1)
    return 1


def _read_text(file: BinaryIO) -> bytes:
    (n,) = struct.unpack("<Q", file.read(8))
    text = file.read(n)
    if len(text) != n:
        raise struct.error("it is cut short")
    return text


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw
