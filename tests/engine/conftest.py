"""Real engines on real files; the CPU stands in for a device with its own memory."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmux.engine.base import EngineConfig, EngineEvent, LoadSpec, TurnFailed, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine

CONTEXT_TOKENS = 512
SLOTS = 2
BATCH_TOKENS = 64
THREADS = 2


def spec(path: Path, model: str = "m") -> LoadSpec:
    return LoadSpec(model, str(path), CONTEXT_TOKENS, SLOTS, BATCH_TOKENS)


def endings(engine: NativeEngine, turns: set[int]) -> dict[int, TurnFinished | TurnFailed]:
    """Waits until each turn has ended, and checks that none ends twice."""
    ended: dict[int, TurnFinished | TurnFailed] = {}
    while set(ended) < turns:
        for event in events(engine):
            if isinstance(event, TurnFinished | TurnFailed):
                assert event.turn not in ended, "a turn ended twice"
                ended[event.turn] = event
    return ended


def events(engine: NativeEngine) -> list[EngineEvent]:
    """The next events; fails where none comes."""
    readable, _, _ = select.select([engine.fileno()], [], [], 60)
    assert readable, "the engine says nothing"
    return engine.poll()


def run(engine: NativeEngine, *requests: TurnRequest) -> list[TurnFinished]:
    """Submits all, waits for all; each must finish."""
    for request in requests:
        engine.submit(request)
    ended = endings(engine, {request.turn for request in requests})
    finished = [ended[request.turn] for request in requests]
    for end in finished:
        assert isinstance(end, TurnFinished), end
    return [end for end in finished if isinstance(end, TurnFinished)]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def make_engine() -> Iterator[Callable[..., NativeEngine]]:
    """Engines on the CPU with poison on; closed at the end."""
    made: list[NativeEngine] = []

    def make(device_bytes: int | None = None, **settings: object) -> NativeEngine:
        defaults = {"device": "cpu", "threads": THREADS, "debug_poison": True, "debug_hash_logits": True}
        engine = NativeEngine(EngineConfig(device_bytes=device_bytes, **(defaults | settings)))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()
