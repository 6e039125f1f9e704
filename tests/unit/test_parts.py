"""Small parts: turns, agents, pipelines, models, clocks, sampling, errors, logs."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agentmux import (
    Agent,
    AgentmuxError,
    ConfigError,
    EngineError,
    ModelNotFound,
    NeverFits,
    RequestInvalid,
    Run,
    Runtime,
    SamplingParams,
    errors,
    pipeline,
)
from agentmux.agent import resolve
from agentmux.clock import LoopClock, within
from agentmux.log import get_logger
from agentmux.messages import Completion, Event, TurnCancelled, TurnCompleted, TurnErrored, TurnNumbers
from agentmux.models import BUNDLED_MODELS, bundled_models, known
from agentmux.testing import FakeClock, ScriptedEngine
from agentmux.turn import ENDS, Turn, TurnSpec

DONE = Completion("x", (1,), "stop", TurnNumbers(1, "a", "m"))


@given(st.lists(st.sampled_from(["finish", "cancel", "fail"]), min_size=1, max_size=5), st.sampled_from([0, 1, 2]))
def test_a_turn_ends_once_and_the_first_end_stays(ends: list[str], stage: int) -> None:
    events: list[Event] = []
    turn = Turn(1, "r", "a", TurnSpec("m", "p"), events.append)
    if stage > 0:
        turn.queue(0.0, 1, "")
    if stage > 1:
        turn.admit(1.0)
    calls = {"finish": lambda: turn.finish(DONE), "cancel": turn.cancel, "fail": lambda: turn.fail(EngineError("no"))}
    results = [calls[end]() for end in ends]
    assert results == [True] + [False] * (len(ends) - 1)
    assert turn.state == {"finish": "finished", "cancel": "cancelled", "fail": "failed"}[ends[0]]
    assert turn.state in ENDS
    assert turn.ended.is_set()
    assert sum(isinstance(event, TurnCompleted | TurnCancelled | TurnErrored) for event in events) == 1
    assert (turn.completion is not None, turn.error is not None) == (ends[0] == "finish", ends[0] == "fail")


def test_a_pipeline_function_keeps_its_name_and_stays_a_function() -> None:
    @pipeline
    async def double(ctx: Run, number: int) -> int:
        """Twice the number."""
        return 2 * number

    assert (double.__name__, double.__doc__) == ("double", "Twice the number.")
    assert asyncio.run(double(None, 4)) == 8  # type: ignore[arg-type]
    assert resolve(double)[:2] == ("double", None)


def test_a_pipeline_must_be_async() -> None:
    with pytest.raises(ConfigError, match="needs an async function"):
        pipeline(lambda ctx: None)  # type: ignore[arg-type, return-value]


def test_agents_are_resolved_from_class_and_instance() -> None:
    class Coder(Agent):
        model = "coder"

    one = Coder()
    assert resolve(one)[:2] == ("Coder", one)
    name, agent, _ = resolve(Coder)
    assert name == "Coder"
    assert isinstance(agent, Coder)


async def test_the_default_run_takes_one_prompt() -> None:
    class Coder(Agent):
        model = "coder"

    async with Runtime(models={"coder": "coder.gguf"}, engine=ScriptedEngine({"coder": []})) as mux:
        with pytest.raises(TypeError, match="takes one prompt"):
            await mux.run(Coder, "a", "b")


def test_the_bundled_models_are_found_beside_the_bundled_agents() -> None:
    specs = bundled_models()
    assert set(specs) == set(BUNDLED_MODELS)
    assert {str(spec.path).rsplit("agents/", 1)[-1] for spec in specs.values()} == {
        f"models/{name}.gguf" for name in BUNDLED_MODELS
    }


async def test_a_runtime_without_models_takes_the_bundled_ones() -> None:
    engine = ScriptedEngine(dict.fromkeys(BUNDLED_MODELS, ()))
    async with Runtime(engine=engine) as mux:
        assert set(mux.config.models) == set(BUNDLED_MODELS)
        assert mux.footprint("coder").architecture == "scripted"
        with pytest.raises(ModelNotFound):
            mux.footprint("nobody")


def test_unknown_models_are_named_with_the_choices() -> None:
    assert known("a", {"a": 1}) == "a"
    with pytest.raises(ModelNotFound, match="no model named 'c'; the runtime has: a, b"):
        known("c", {"b": 1, "a": 1})
    with pytest.raises(ModelNotFound, match="the runtime has: none"):
        known("c", {})


def test_a_fake_clock_runs_calls_at_their_second_and_in_order() -> None:
    clock = FakeClock()
    seen: list[tuple[str, float]] = []
    clock.call_at(2, lambda: seen.append(("b", clock.now())))
    clock.call_at(1, lambda: seen.append(("a", clock.now())))
    clock.call_at(2, lambda: seen.append(("c", clock.now())))
    clock.call_at(1.5, lambda: seen.append(("never", clock.now()))).cancel()
    assert clock.next_call_s == 1
    clock.advance(1.9)
    assert seen == [("a", 1)]
    clock.advance(1)
    assert seen == [("a", 1), ("b", 2), ("c", 2)]
    assert clock.now() == 2.9
    assert clock.next_call_s is None


async def test_the_loop_s_clock() -> None:
    clock, rang = LoopClock(), asyncio.Event()
    clock.call_at(clock.now(), rang.set)
    await rang.wait()


async def test_within_says_whether_it_came() -> None:
    clock, event = FakeClock(), asyncio.Event()
    waiting = asyncio.create_task(within(clock, 1, event))
    await asyncio.sleep(0)
    clock.advance(1)
    assert await waiting is False
    event.set()
    assert await within(clock, 1, event) is True


@pytest.mark.parametrize("bad", [{"temperature": math.nan}, {"temperature": -1.0}, {"top_k": -1}, {"seed": 2**32}])
def test_sampling_that_cannot_be_meant(bad: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid, match=next(iter(bad))):
        SamplingParams(**bad)


def test_error_codes_map_to_the_tree() -> None:
    for code in errors.known_codes():
        assert isinstance(errors.from_code(code, "why"), AgentmuxError)
    error = errors.from_code("never_fits", "too big", {"needed_bytes": 7, "available_bytes": 3})
    assert isinstance(error, NeverFits)
    assert (error.needed_bytes, error.available_bytes, error.budget_bytes) == (7, 3, 0)
    assert type(errors.from_code("something new", "why")) is EngineError


def test_logs_are_quiet_until_asked_for(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    log = get_logger("agentmux.test").bind(run="r")
    log.debug("unheard")
    assert capsys.readouterr() == ("", "")
    with caplog.at_level(logging.DEBUG, logger="agentmux"):
        log.debug("heard", turn=3)
    assert caplog.messages == ["event='heard' run='r' turn=3"]


def test_an_application_that_configures_structlog_gets_the_events() -> None:
    with structlog.testing.capture_logs() as entries:
        get_logger("agentmux.test").bind(run="r").info("heard", turn=1)
    structlog.reset_defaults()
    get_logger("agentmux.test").info("unheard")
    assert entries == [{"event": "heard", "log_level": "info", "logger": "agentmux.test", "run": "r", "turn": 1}]
