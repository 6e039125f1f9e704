"""The front of a GGUF file: it says what gguf's own reader finds, and no bytes lead to anything but an error."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux.errors import ModelCorrupt, ModelError, ModelNotFound, ModelUnsupported
from agentmux.models import bundled_models
from agentmux.models.gguf import Header, part_paths, parts_of, read_header

FRONT = Path(bundled_models()["coder"].path).read_bytes()[:4096]


@pytest.mark.parametrize("name", bundled_models())
def test_it_says_what_the_file_says(name: str) -> None:
    path = bundled_models()[name].path
    found, reader = read_header(path), gguf.GGUFReader(path)

    def field(key: str) -> Any:
        return reader.fields[key].contents()

    assert found == Header(
        version=3,
        architecture=field("general.architecture"),
        name=field("general.name"),
        training_context_tokens=field(f"{found.architecture}.context_length"),
        tensors=len(reader.tensors),
    )


def write(path: Path, architecture: str = "llama", **more: Any) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("x.texts", ["a", "bb"])
    writer.add_array("x.numbers", [1, 2, 3])
    writer.add_bool("x.flag", True)
    writer.add_float64("x.float", 1.5)
    writer.add_uint64("x.big", 1 << 40)
    for key, value in more.items():
        writer.add_string(key, value)
    writer.add_context_length(77)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_values_of_all_kinds_are_passed_over(tmp_path: Path) -> None:
    assert read_header(write(tmp_path / "x.gguf", long="y" * 9000)) == Header(3, "llama", None, 77, 0)


def test_a_projector_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="projector"):
        read_header(write(tmp_path / "x.gguf", "clip"))


@pytest.mark.parametrize(
    ("data", "kind", "told"),
    [
        (b"", ModelCorrupt, "magic"),
        (b"GGU", ModelCorrupt, "magic"),
        (b"<html>", ModelCorrupt, "magic"),
        (b"GGUF\x01\0\0\0", ModelUnsupported, "version 1"),
        (b"GGUF\x00\0\0\x03", ModelUnsupported, "version"),
        (b"GGUF\x03\0\0\0", ModelCorrupt, "cut off"),
        (b"GGUF\x03\0\0\0" + b"\0" * 16, ModelCorrupt, "no architecture"),
        (b"GGUF\x03\0\0\0" + struct.pack("<QQQ", 0, 1, 1 << 60), ModelCorrupt, "cut off"),
        (FRONT[:100], ModelCorrupt, "cut off"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, data: bytes, kind: type[ModelError], told: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(kind, match=told) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        read_header(tmp_path / "x.gguf")
    with pytest.raises(ModelNotFound, match="directory"):
        read_header(tmp_path)


@given(
    st.lists(st.tuples(st.integers(4, len(FRONT) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 4096),
)
def test_no_damage_leads_to_anything_but_an_error(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(FRONT)
    for place, byte in damage:
        data[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(data[:length])
    with suppress(ModelError):
        assert isinstance(read_header(path), Header)


@pytest.mark.parametrize(
    "name", ["x.gguf", "x-00003-of-00002.gguf", "x-00000-of-00002.gguf", "x-1-of-2.gguf", "x-00001-of-00002"]
)
def test_not_split(name: str) -> None:
    assert parts_of(name) == (name,)


@given(st.integers(1, 99), st.data())
def test_each_part_knows_all(count: int, data: Any) -> None:
    parts = tuple(f"d/m-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1))
    assert parts_of(data.draw(st.sampled_from(parts))) == parts
    assert part_paths(parts[0]) == tuple(Path(part) for part in parts)
