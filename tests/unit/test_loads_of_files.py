"""Opening a runtime on files: what is seen of them first, and models that come while turns are under way."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFValueType

from agentmux import ConfigError, ModelCorrupt, ModelNotFound, ModelSpec, Runtime, opening
from agentmux.config import WaitForModels
from agentmux.models import bundled_models
from agentmux.testing import FakeClock, settle
from tests.engine import gguf_files
from tests.unit.loads import PATIENCE_S, HeldLoads

NAMES = ("first", "second", "third")


def _first_part(bad: Path) -> None:
    whole = gguf_files.read(Path(bundled_models()["critic"].path))
    whole.metadata["split.count"] = gguf_files.Value(GGUFValueType.UINT16, 2)
    whole.write(bad)


@pytest.fixture
def on_files(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runtime]:
    """A runtime whose models' files are looked at, on an engine that only holds their loads."""

    def made(engine: HeldLoads, models: Iterable[str] | None = None, **settings: Any) -> Runtime:
        monkeypatch.setattr(opening, "native_engine", lambda config: engine)
        here = bundled_models()["planner"].path
        files = {name: "hf:owner/repo:*far.gguf" if name == "far" else here for name in models or engine.models}
        return Runtime(files, config=False, **({"wait_for_models": "first"} | settings))

    return made


def _held_download(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Looking for a file begins with the first event, and ends after the second."""
    asked, arrived = threading.Event(), threading.Event()

    def download(name: str, **_: object) -> ModelSpec:
        asked.set()
        assert arrived.wait(PATIENCE_S)
        return ModelSpec(bundled_models()["coder"].path)

    monkeypatch.setattr(opening, "resolve", download)
    return asked, arrived


@pytest.mark.parametrize("is_asked_for", [False, True])
async def test_a_download_keeps_no_model_from_those_who_wait_for_it(
    is_asked_for: bool, on_files: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, arrived = _held_download(monkeypatch)
    engine = HeldLoads(("first", "far", "near", "other"), free={"first", "far", "near", "other"})
    async with on_files(engine) as mux:
        waits = [asyncio.create_task(mux.generate("far", "x"))] if is_asked_for else []
        assert await asyncio.to_thread(asked.wait, PATIENCE_S)
        assert (await mux.generate("other", "x")).text == "other says"
        if not is_asked_for:
            assert engine.begun == ["first", "other"], "of those that nobody waits for, each has its turn"
            assert mux.stats().loading == ("far", "near")
        arrived.set()
        await asyncio.gather(*waits, mux.load("far"), mux.load("near"))
        assert sorted(engine.begun) == ["far", "first", "near", "other"]
        assert mux._opened().models.paths["far"] == str(bundled_models()["coder"].path)


async def test_a_hub_that_did_not_answer_is_asked_again(
    on_files: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [ConfigError("the hub cannot be reached"), ModelSpec(bundled_models()["coder"].path)]

    def resolve(name: str, **_: object) -> ModelSpec:
        answer = answers.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        return answer

    monkeypatch.setattr(opening, "resolve", resolve)
    clock, engine = FakeClock(), HeldLoads(("first", "far"), free={"first", "far"})
    async with on_files(engine, clock=clock) as mux:
        for at_s, errors in ((0, {"far": "the hub cannot be reached"}), (60, {})):
            clock.advance(at_s)
            async with asyncio.timeout(PATIENCE_S):
                while mux.stats().loading:
                    await settle(1)
            assert mux.stats().load_errors == errors
        assert engine.begun == ["first", "far"]


async def test_a_download_that_nobody_wants_any_more_is_not_loaded(
    on_files: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, arrived = _held_download(monkeypatch)
    engine = HeldLoads(("first", "later"), free={"first", "later"})
    async with on_files(engine) as mux:
        waits = asyncio.create_task(mux.load("hf:owner/repo:*other.gguf"))
        assert await asyncio.to_thread(asked.wait, PATIENCE_S)
        await mux.load("later")
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert mux.stats().loading == ("hf:owner/repo:*other.gguf",), "a thread cannot be stopped"
        arrived.set()
        async with asyncio.timeout(PATIENCE_S):
            while mux.stats().loading:
                await settle(1)
        assert engine.begun == ["first", "later"]


class Reading:
    """A reading ahead that goes on until it is given up."""

    def __init__(self) -> None:
        self.paths = list[str]()
        self.begun = threading.Semaphore(0)

    def __call__(self, spec: ModelSpec, is_given_up: Callable[[], bool]) -> None:
        self.paths.append(Path(spec.path).stem)
        self.begun.release()
        while not is_given_up():
            threading.Event().wait(0.001)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    """In place of the one that reads."""
    reading = Reading()
    monkeypatch.setattr(opening, "read_ahead", reading)
    return reading


async def test_nothing_is_read_ahead_for_who_waits_for_a_model_on_an_idle_runtime(
    on_files: Callable[..., Runtime], reading: Reading
) -> None:
    engine = HeldLoads(("first", "critic"), free={"first", "critic"})
    async with on_files(engine, models=("first",), wait_for_models="all") as mux, asyncio.timeout(PATIENCE_S):
        assert (await mux.generate("critic", "x")).text == "critic says"
        assert reading.paths == []


async def test_a_model_is_read_ahead_while_turns_are_under_way(
    on_files: Callable[..., Runtime], reading: Reading
) -> None:
    engine = HeldLoads(("first", "critic"), free={"first", "critic"}, hold={"first"})
    async with on_files(engine, models=("first",), wait_for_models="all") as mux, asyncio.timeout(PATIENCE_S):
        computes = asyncio.create_task(mux.generate("first", "x"))
        await settle()
        loads = asyncio.create_task(mux.load("critic"))
        assert await asyncio.to_thread(reading.begun.acquire, True, PATIENCE_S)
        assert (reading.paths, engine.begun) == (["critic"], ["first"])
        engine.release()
        await computes
        await loads  # nobody is spared any more


async def test_a_model_that_nobody_waits_for_is_read_ahead_until_somebody_does(
    on_files: Callable[..., Runtime], reading: Reading
) -> None:
    engine = HeldLoads(("first", "critic"), free={"first", "critic"})
    async with on_files(engine) as mux, asyncio.timeout(PATIENCE_S):
        assert await asyncio.to_thread(reading.begun.acquire, True, PATIENCE_S)
        assert engine.begun == ["first"]
        assert (await mux.generate("critic", "x")).text == "critic says"


async def test_reading_ahead_makes_way_for_a_model_that_somebody_waits_for(
    on_files: Callable[..., Runtime], reading: Reading
) -> None:
    engine = HeldLoads(NAMES, free=NAMES)
    async with on_files(engine) as mux, asyncio.timeout(PATIENCE_S):
        assert await asyncio.to_thread(reading.begun.acquire, True, PATIENCE_S)
        assert engine.begun == ["first"]
        assert (await mux.generate("third", "x")).text == "third says"
        await mux.load("second")
        assert engine.begun == ["first", "third", "second"]


async def test_what_is_read_ahead_for_somebody_who_has_left_makes_way(
    on_files: Callable[..., Runtime], reading: Reading
) -> None:
    engine = HeldLoads(NAMES, free=NAMES, hold={"first"})
    async with on_files(engine) as mux, asyncio.timeout(PATIENCE_S):
        computes = asyncio.create_task(mux.generate("first", "x"))
        leaves = asyncio.create_task(mux.load("second"))
        await settle()
        assert await asyncio.to_thread(reading.begun.acquire, True, PATIENCE_S)
        stays = asyncio.create_task(mux.load("third"))
        await settle()
        assert engine.begun == ["first"], "the second has been waited for longer"
        leaves.cancel()
        assert await asyncio.to_thread(reading.begun.acquire, True, PATIENCE_S)
        assert mux.stats().loading == ("third", "second")
        engine.release()
        await asyncio.gather(computes, stays)
        assert engine.begun[:2] == ["first", "third"]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "is not there": lambda bad: None,
    "is a text": lambda bad: bad.write_text("no model"),
    "is cut": lambda bad: bad.write_bytes(Path(bundled_models()["critic"].path).read_bytes()[:60]),
    "is a pipe": os.mkfifo,
    "is one of two parts": lambda bad: _first_part(bad),
}


async def test_a_merged_file_may_keep_the_name_of_its_first_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = Path(shutil.copy(bundled_models()["critic"].path, tmp_path / "merged-00001-of-00002.gguf"))
    engine = HeldLoads(("merged",), free={"merged"})
    monkeypatch.setattr(opening, "native_engine", lambda config: engine)
    async with Runtime({"merged": merged}, config=False):
        assert engine.loaded == ["merged"]


@pytest.mark.parametrize("wait", ["all", "first"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_bad_file_is_seen_before_any_is_loaded(
    wait: WaitForModels, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad-00001-of-00002.gguf"
    DAMAGES[damage](bad)
    engine = HeldLoads(("good", "bad"))
    monkeypatch.setattr(opening, "native_engine", lambda config: engine)
    mux = Runtime({"good": bundled_models()["planner"].path, "bad": bad}, wait_for_models=wait)
    with pytest.raises((ModelNotFound, ModelCorrupt), match=r"bad-0000[12]-of-00002\.gguf"):
        await mux.__aenter__()
    assert engine.begun == []
    assert engine.is_closed
