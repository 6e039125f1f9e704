"""GGUF files taken apart and put together again, also wrongly: what the ``gguf`` package reads, written as told."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType as Type

_PACKED = {
    Type.UINT8: "B",
    Type.INT8: "b",
    Type.UINT16: "H",
    Type.INT16: "h",
    Type.UINT32: "I",
    Type.INT32: "i",
    Type.FLOAT32: "f",
    Type.BOOL: "?",
    Type.UINT64: "Q",
    Type.INT64: "q",
    Type.FLOAT64: "d",
}
FLOATS = (Type.FLOAT32, Type.FLOAT64)
INTEGERS = tuple(t for t in _PACKED if t not in (*FLOATS, Type.BOOL))


@dataclass
class Value:
    """One metadata value; ``of`` is the type of an array's values."""

    type: Type
    data: Any
    of: Type | None = None

    def pack(self) -> bytes:
        """As it stands in the file, its type first."""
        if self.type is not Type.ARRAY:
            return struct.pack("<I", self.type) + _packed(self.type, self.data)
        assert self.of is not None
        return struct.pack("<IIQ", self.type, self.of, len(self.data)) + b"".join(
            _packed(self.of, v) for v in self.data
        )


def _packed(kind: Type, data: Any) -> bytes:
    if kind is Type.STRING:
        return packed_text(data)
    return struct.pack("<" + _PACKED[kind], data)


def packed_text(text: str | bytes) -> bytes:
    """With its length before it."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


@dataclass
class Tensor:
    """``shape`` has the fastest dimension first; ``offset`` None: where it belongs."""

    name: str
    shape: tuple[int, ...]
    type: int
    data: bytes
    offset: int | None = None


@dataclass
class File:
    """A GGUF file's contents."""

    metadata: dict[str, Value] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    version: int = 3
    alignment: int = 32

    def write(self, path: Path) -> Path:
        """Writes it, however wrong it is."""

        def padding(n: int) -> bytes:
            return b"\0" * (-n % self.alignment)

        header = struct.pack("<4sIQQ", b"GGUF", self.version, len(self.tensors), len(self.metadata))
        header += b"".join(packed_text(key) + value.pack() for key, value in self.metadata.items())
        at = 0
        for t in self.tensors:
            header += packed_text(t.name) + struct.pack(f"<I{len(t.shape)}Q", len(t.shape), *t.shape)
            header += struct.pack("<IQ", t.type, at if t.offset is None else t.offset)
            at += len(t.data) + len(padding(len(t.data)))
        data = b"".join(t.data + padding(len(t.data)) for t in self.tensors)
        path.write_bytes(header + padding(len(header)) + data)
        return path

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name."""
        return next(t for t in self.tensors if t.name == name)

    def key(self, ending: str) -> str:
        """The one key that ends so."""
        return next(key for key in self.metadata if key.endswith(ending))


def read(path: Path) -> File:
    """A sound file's contents; without empty arrays, of which the package does not tell the type."""
    reader = gguf.GGUFReader(str(path))
    file = File()
    for name, entry in reader.fields.items():
        if name.startswith("GGUF.") or (entry.types[0] is Type.ARRAY and not entry.data):
            continue
        of = entry.types[-1] if entry.types[0] is Type.ARRAY else None
        file.metadata[name] = Value(entry.types[0], _contents(entry, of), of)
    for t in reader.tensors:
        file.tensors.append(Tensor(t.name, tuple(int(n) for n in t.shape), int(t.tensor_type), t.data.tobytes()))
    return file


def _contents(entry: gguf.ReaderField, of: Type | None) -> Any:
    if of is Type.STRING:
        return [bytes(entry.parts[i]) for i in entry.data]
    if of is not None:
        return [entry.parts[i].tolist()[0] for i in entry.data]
    if entry.types[0] is Type.STRING:
        return bytes(entry.parts[entry.data[0]])
    return entry.contents()


def with_vocabulary(model: File, vocabulary: File) -> File:
    """A model without a vocabulary, with that of another of the same size."""
    tokenizer = {key: value for key, value in vocabulary.metadata.items() if key.startswith("tokenizer.")}
    model.metadata = {k: v for k, v in model.metadata.items() if not k.startswith("tokenizer.")} | tokenizer
    return model


def split(path: Path, folder: Path, tensors_per_part: int) -> list[Path]:
    """The model in parts, as the ``gguf`` package writes them; returns their paths."""
    whole = read(path)
    writer = gguf.GGUFWriter(
        folder / f"{path.stem}.gguf",
        whole.metadata["general.architecture"].data.decode(),
        split_max_tensors=tensors_per_part,
    )
    for key, value in whole.metadata.items():
        if key != "general.architecture":
            writer.add_key_value(key, value.data, value.type, value.of)
    for t in whole.tensors:
        raw = np.frombuffer(t.data, dtype=np.uint8).reshape(*t.shape[:0:-1], -1)
        writer.add_tensor(t.name, raw, raw_dtype=gguf.GGMLQuantizationType(t.type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{path.stem}-*-of-*.gguf"))
