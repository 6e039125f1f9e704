"""A look at model files before the engine has them, and files brought into memory ahead of time."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from agentmux import ModelCorrupt, ModelNotFound, ModelSpec, ModelUnsupported
from agentmux.config import RuntimeConfig
from agentmux.models import bundled_models, check_file, read_ahead, resolve_all
from agentmux.models import files as module
from agentmux.models.gguf import split_count
from tests.engine import gguf_files

WHOLE = Path(bundled_models()["planner"].path)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """A bundled model in parts."""
    split = gguf_files.split(WHOLE, tmp_path, 8)
    assert len(split) > 2
    return split


@pytest.mark.parametrize("spec", bundled_models().values(), ids=bundled_models())
def test_sound_files(spec: ModelSpec) -> None:
    check_file(spec)


def test_a_split_model_by_its_name_and_by_a_link_of_another(parts: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(parts[0])
    for path in (parts[0], link):
        check_file(ModelSpec(path))
    parts[1].unlink()
    for path in (parts[0], link):
        with pytest.raises(ModelNotFound, match=f"{parts[1].name}: no such file"):
            check_file(ModelSpec(path))


def test_a_whole_file_that_kept_the_name_of_a_part(parts: list[Path], tmp_path: Path) -> None:
    """As when parts are put together in place: the engine, which reads what the file says of itself, loads it."""
    folder = tmp_path / "merged"
    folder.mkdir()
    merged = Path(shutil.copy(WHOLE, folder / parts[0].name))
    (folder / "link.gguf").symlink_to(merged)
    check_file(ModelSpec(merged))
    check_file(ModelSpec(folder / "link.gguf"))
    assert split_count(merged) == 1
    assert [split_count(part) for part in parts] == [len(parts)] * len(parts)


def test_a_part_whose_vocabulary_is_cut(parts: list[Path]) -> None:
    """What the name promises is missing, and the header does not get as far as to say whether it should be there."""
    parts[1].unlink()
    os.truncate(parts[0], parts[0].read_bytes().index(b"tokenizer.ggml.tokens") + 60)
    with pytest.raises(ModelCorrupt, match="cut off"):
        check_file(ModelSpec(parts[0]))


def test_a_later_part(parts: list[Path]) -> None:
    with pytest.raises(ModelUnsupported, match=f"later part of a split model; load the first part, {parts[0]}"):
        check_file(ModelSpec(parts[1]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_part_that_may_not_be_read(parts: list[Path]) -> None:
    parts[1].chmod(0)
    with pytest.raises(ModelNotFound, match=f"{parts[1].name}: cannot be read"):
        check_file(ModelSpec(parts[0]))


@pytest.mark.parametrize("damage", ["gone", "folder", "pipe"])
def test_what_is_no_file(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)  # opening it would wait for ever
    with pytest.raises(ModelNotFound, match=r"x\.gguf"):
        check_file(ModelSpec(path))


def test_a_file_that_ends_in_its_front(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(WHOLE.read_bytes()[:80])
    with pytest.raises(ModelCorrupt, match="cut off"):
        check_file(ModelSpec(path))


def test_the_vocabulary_may_come_before_what_the_model_is(tmp_path: Path) -> None:
    """No order is laid down; other writers than llama.cpp's have another."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("b") + text("cc")
    name = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + tokens + name)
    check_file(ModelSpec(path))


def test_reading_ahead_reads_all_parts_that_are_not_in_memory(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = dict.fromkeys((part.stat().st_ino for part in parts), 0)
    real = os.preadv

    def preadv(file: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError("it would have to wait for the disk")
        count = real(file, buffers, offset)
        read[os.fstat(file).st_ino] += count
        return count

    monkeypatch.setattr(module.os, "preadv", preadv)
    read_ahead(ModelSpec(parts[0]), lambda: False)
    assert read == {part.stat().st_ino: part.stat().st_size for part in parts}


def test_reading_ahead_passes_over_what_is_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = Path(shutil.copy(WHOLE, tmp_path))
    path.read_bytes()
    asked: list[int] = []
    real = os.preadv

    def preadv(file: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        asked.append(flags)
        return 1 if flags else real(file, buffers, offset)

    monkeypatch.setattr(module.os, "preadv", preadv)
    read_ahead(ModelSpec(path), lambda: False)
    assert asked
    assert all(asked), "nothing was read that would not have been there at once"


@pytest.mark.parametrize("room", [-1, 0])
def test_reading_ahead_reads_no_model_of_more_than_half_of_the_memory(
    room: int, parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    monkeypatch.setattr(module.os, "preadv", lambda file, buffers, offset, flags=0: reads.append(offset) or 0)
    monkeypatch.setattr(module, "available_bytes", lambda: 2 * sum(part.stat().st_size for part in parts) + room)
    read_ahead(ModelSpec(parts[0]), lambda: False)
    assert bool(reads) == (room == 0)


def test_reading_ahead_ends_once_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    monkeypatch.setattr(module.os, "preadv", lambda file, buffers, offset, flags=0: reads.append(offset))
    read_ahead(ModelSpec(WHOLE), lambda: True)
    assert reads == []


def test_reading_ahead_leaves_it_to_the_engine_to_say_what_cannot_be_read(tmp_path: Path) -> None:
    read_ahead(ModelSpec(tmp_path / "x.gguf"), lambda: False)


def test_models_on_the_hub_are_left_to_later_if_nothing_is_to_be_downloaded() -> None:
    models = {"here": str(WHOLE), "far": "hf:owner/repo:*Q4_K_M.gguf", "word": "planner"}
    config = RuntimeConfig.make({}, config=False, models=models)
    assert set(resolve_all(config, {}, download=False)) == {"here", "word"}
