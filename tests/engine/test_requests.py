"""What no turn can be asked with is refused in one line, before the engine's own types see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentmux.engine.base import EngineConfig, TurnRequest
from agentmux.engine.native import NativeEngine
from agentmux.errors import ModelNotFound, RequestInvalid


@pytest.fixture(scope="module")
def engine() -> Iterator[NativeEngine]:
    made = NativeEngine(EngineConfig(device="cpu", threads=1))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "half of a pair: \ud800"),
        ("prompt", (1, "two")),
        ("prompt", (2**40,)),
        ("max_tokens", "five"),
        ("max_tokens", 2**70),
        ("stop", ("\udfff",)),
        ("stop", (7,)),
        ("grammar", "root ::= \ud800"),
        ("session", "\ud800"),
        ("model", "\ud800"),
    ],
    ids=ascii,
)
def test_a_value_that_no_turn_has(engine: NativeEngine, name: str, value: Any) -> None:
    asked: dict[str, Any] = {"turn": 1, "model": "none", "prompt": "x"}
    with pytest.raises(RequestInvalid) as caught:
        engine.submit(TurnRequest(**{**asked, name: value}))
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 200
    said.encode()  # fit to be printed


def test_a_usual_request_is_looked_at_further(engine: NativeEngine) -> None:
    with pytest.raises(ModelNotFound):
        engine.submit(TurnRequest(1, "none", "x"))
