"""The scripted engine is an engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentmux.engine.base import Engine, LoadSpec, TurnRequest
from agentmux.testing import Answer, ScriptedEngine, Step
from agentmux.testing.conformance import CHECKS


def follow(request: TurnRequest) -> Step:
    return Answer("a b c", chunks=("a ", "b ", "c"), hold=request.ignore_eos)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_scripted_engine(check: Callable[[Callable[[], Engine], LoadSpec], None]) -> None:
    check(lambda: ScriptedEngine({"tiny": follow}), LoadSpec("tiny", "tiny.gguf", context_tokens=256))
