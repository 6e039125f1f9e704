"""Measuring in a process of its own: results, what is told, errors and sudden ends come back."""

from __future__ import annotations

import os

import pytest

from agentmux.bench.apart import Tell, run_apart
from agentmux.errors import EngineError, NeverFits


def _double(number: int, tell: Tell) -> tuple[int, int]:
    tell(f"doubling {number}")
    return 2 * number, os.getpid()


def _refuse(tell: Tell) -> None:
    raise NeverFits("too large", needed_bytes=7)


def _vanish(tell: Tell) -> None:
    os._exit(3)


def test_results_come_from_another_process() -> None:
    told: list[str] = []
    doubled, process = run_apart(_double, 21, tell=told.append)
    assert doubled == 42
    assert process != os.getpid()
    assert told == ["doubling 21"]


def test_errors_come_back_as_they_were() -> None:
    with pytest.raises(NeverFits, match="too large") as caught:
        run_apart(_refuse, tell=print)
    assert caught.value.numbers == {"needed_bytes": 7}


def test_a_process_that_vanishes_is_an_error() -> None:
    with pytest.raises(EngineError, match="exit status 3"):
        run_apart(_vanish, tell=print)
