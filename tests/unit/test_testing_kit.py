"""What users' tests are written with: typed steps, scripts by prompt, cassettes, no real engine by accident."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agentmux import (
    Agent,
    ConfigError,
    ContextOverflow,
    EngineError,
    ModelNotFound,
    Run,
    Runtime,
    SamplingParams,
    pipeline,
)
from agentmux.engine.base import Footprint, LoadSpec, TurnRequest
from agentmux.engine.guard import REAL_ENGINES_VARIABLE, require_real_engines
from agentmux.testing import (
    Answer,
    ByPrompt,
    Cassette,
    Failure,
    ScriptedEngine,
    ScriptError,
    When,
    forbid_real_engines,
    settle,
)
from agentmux.testing.agentmux_pytest import VARIABLE
from agentmux.testing.cassette import request_key


class Plan(BaseModel):
    steps: list[str]


class Planner(Agent):
    model = "planner"
    output = Plan


class Coder(Agent):
    model = "coder"


@pipeline
async def write_code(ctx: Run, task: str) -> list[str]:
    plan = await ctx.run(Planner, task)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.run(Coder, step)) for step in plan.steps]
    return [task.result() for task in tasks]


def runtime(engine: Any, *models: str) -> Runtime:
    return Runtime(models={model: f"{model}.gguf" for model in models}, engine=engine)


def request(**more: Any) -> TurnRequest:
    return TurnRequest(**{"turn": 1, "model": "m", "prompt": "sort it", **more})


async def test_answers_are_made_of_values() -> None:
    engine = ScriptedEngine({"planner": [Answer.json(Plan(steps=["ü"]), chunks=('{"st', 'eps":["ü"]}'))]})
    async with runtime(engine, "planner") as mux:
        assert (await mux.run(Planner, "task")).output == Plan(steps=["ü"])


def test_answers_that_call_tools() -> None:
    answer = Answer.calls(("search", {"for": "ü"}), ("stop", {}), prompt_tokens=3)
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"tool": "search", "arguments": {"for": "ü"}},
        {"tool": "stop", "arguments": {}},
    ]
    assert answer.prompt_tokens == 3


async def test_scripts_by_prompt_do_not_depend_on_the_order() -> None:
    coder = ByPrompt(
        When("two", "2"),
        When(re.compile("on[e]"), Answer("1", hold=False)),
        When(lambda asked: asked.max_tokens < 5, "never", times=None),
    )
    engine = ScriptedEngine({"planner": [Answer.json(Plan(steps=["one", "two"]))], "coder": coder})
    async with runtime(engine, "planner", "coder") as mux:
        assert (await mux.run(write_code, "count")).output == ["1", "2"]


def test_a_choice_answers_as_often_as_it_says() -> None:
    script = ByPrompt(When("sort", "first", times=2), When("sort", "then", times=None))
    assert script.left() == ["'sort' 2 times"]
    assert [script(request()) for _ in range(4)] == ["first", "first", "then", "then"]
    assert script.left() == []


def test_what_no_choice_matches_says_what_there_is() -> None:
    script = ByPrompt(When("sort", "x"), When(re.compile("a|b"), "x"))
    script(request())
    message = r"no choice of model m matches the prompt 'sort it'; there are: 'sort' \(used up\); /a\|b/"
    with pytest.raises(ScriptError, match=message):
        script(request())
    with pytest.raises(ScriptError, match="there are: none"):
        ByPrompt()(request(prompt=(1, 2)))


async def test_choices_left_over_are_an_error() -> None:
    engine = ScriptedEngine({"coder": ByPrompt(When("sort", "x"), When("sum", "x"))})
    with pytest.raises(ScriptError, match=r"steps that no turn asked for: \{'coder': \[\"'sum'\"\]\}"):
        async with runtime(engine, "coder") as mux:
            await mux.run(Coder, "sort")


class FakeReal(ScriptedEngine):
    """Stands for a real engine: its models have a chat template."""

    def load(self, spec: LoadSpec) -> Footprint:
        template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
        footprint = replace(super().load(spec), chat_template=template, eos_text="</s>")
        self._models[spec.model].footprint = footprint
        return footprint


async def record(path: Path) -> list[str]:
    plan = Answer.json(Plan(steps=["one", "two", "two"]), prompt_tokens=7)
    real = FakeReal({"planner": [plan], "coder": ["1", "2", Answer("2 again", reason="length")]})
    async with runtime(Cassette(path).engine(lambda: real, record=True), "planner", "coder") as mux:
        return (await mux.run(write_code, "count")).output


async def test_what_was_recorded_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "cassettes" / "count.json"
    recorded = await record(path)
    assert recorded == ["1", "2", "2 again"]
    engine = Cassette(path).engine(record=False)
    async with runtime(engine, "planner", "coder") as mux:
        result = await mux.run(write_code, "count")
        assert mux.footprint("coder").eos_text == "</s>"
    assert result.output == recorded
    assert [turn.prompt_tokens for turn in result.turns] == [7, 1, 1, 1]
    assert [turn.finish_reason for turn in result.turns] == ["stop", "stop", "stop", "length"]
    assert isinstance(engine, ScriptedEngine)
    assert engine.calls[1].prompt == "<user>one"
    assert list(path.parent.iterdir()) == [path]


async def test_a_miss_shows_the_difference_to_the_nearest(tmp_path: Path) -> None:
    await record(tmp_path / "c.json")
    engine = Cassette(tmp_path / "c.json", strict=False).engine(record=False)
    async with runtime(engine, "planner", "coder") as mux:
        with pytest.raises(ScriptError) as caught:
            await mux.run(Coder, "two!")
        with pytest.raises(ScriptError, match=r"\+sampling\.seed: 3"):
            await mux.generate("coder", "<user>one", sampling=SamplingParams(seed=3))
        with pytest.raises(ModelNotFound):
            await mux.generate("critic", "x")
    message = str(caught.value)
    assert "has no such turn of model coder; record it again with AGENTMUX_RECORD=1" in message
    assert "-prompt: <user>two\n+prompt: <user>two!" in message


async def test_a_turn_asked_for_too_often_is_a_miss(tmp_path: Path) -> None:
    await record(tmp_path / "c.json")
    async with runtime(Cassette(tmp_path / "c.json", strict=False).engine(record=False), "planner", "coder") as mux:
        await mux.run(Coder, "one")
        with pytest.raises(ScriptError, match="more often than recorded"):
            await mux.run(Coder, "one")


async def test_recorded_turns_left_over_are_an_error(tmp_path: Path) -> None:
    await record(tmp_path / "c.json")
    with pytest.raises(ScriptError, match=r"steps that no turn asked for: \{'planner': .*<user>count"):
        async with runtime(Cassette(tmp_path / "c.json").engine(record=False), "planner", "coder"):
            pass


async def test_failures_are_recorded_and_cancelled_turns_are_not(tmp_path: Path) -> None:
    real = FakeReal({"coder": [Failure("context_overflow", "too long", {"prompt_tokens": 9}), Answer("x", hold=True)]})
    path = tmp_path / "c.json"
    async with runtime(Cassette(path).engine(lambda: real, record=True), "coder") as mux:
        with pytest.raises(ContextOverflow):
            await mux.run(Coder, "one")
        task = asyncio.create_task(mux.run(Coder, "two"))
        await settle()
        assert real.held
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with runtime(Cassette(path).engine(record=False), "coder") as mux:
        with pytest.raises(ContextOverflow, match="too long") as caught:
            await mux.run(Coder, "one")
    assert caught.value.prompt_tokens == 9


def test_the_environment_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMUX_RECORD", "1")
    with pytest.raises(ConfigError, match="needs an engine to record from"):
        Cassette(tmp_path / "c.json").engine()
    Cassette(tmp_path / "c.json").engine(lambda: FakeReal({})).close()
    monkeypatch.delenv("AGENTMUX_RECORD")
    Cassette(tmp_path / "c.json").engine().close()


@pytest.mark.parametrize("content", [None, b"{", b"\xff", b'{"version": 1, "models": {}, "turns": [], "more": 1}'])
def test_a_missing_or_damaged_cassette_is_a_clear_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.json"):
        Cassette(path).engine(record=False)


REQUESTS = st.builds(
    TurnRequest,
    turn=st.integers(1, 3),
    model=st.sampled_from("ab"),
    prompt=st.text(max_size=3) | st.tuples(st.integers(0, 3)),
    max_tokens=st.integers(1, 2),
    sampling=st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 0.5]),
        logit_bias=st.dictionaries(st.integers(0, 2), st.sampled_from([1.0, float("-inf")]), max_size=2),
    ),
    grammar=st.none() | st.just('root ::= "x"'),
    stop=st.sampled_from([(), ("x",)]),
    session=st.none() | st.just("s"),
)


@given(REQUESTS, REQUESTS)
def test_keys_tell_requests_apart_by_all_that_determines_the_answer(one: TurnRequest, other: TurnRequest) -> None:
    same = replace(one, turn=0, session=None) == replace(other, turn=0, session=None)
    assert (request_key(one) == request_key(other)) == same


async def test_real_engines_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REAL_ENGINES_VARIABLE, raising=False)
    with forbid_real_engines():
        with pytest.raises(EngineError, match=r"test_real_engines_can_be_forbidden asked for a real engine, but"):
            async with Runtime(models={"m": "missing.gguf"}):
                pass
        async with runtime(ScriptedEngine({"m": []}), "m"):
            pass
    assert REAL_ENGINES_VARIABLE not in os.environ
    monkeypatch.setenv(REAL_ENGINES_VARIABLE, "1")
    with forbid_real_engines():
        assert os.environ[REAL_ENGINES_VARIABLE] == "0"
    assert os.environ[REAL_ENGINES_VARIABLE] == "1"
    assert VARIABLE == REAL_ENGINES_VARIABLE


@pytest.mark.parametrize("setting", ["0", "false", "No", " off "])
def test_the_switch(setting: str) -> None:
    with pytest.raises(EngineError, match=r"^a real engine was asked for, but"):
        require_real_engines({REAL_ENGINES_VARIABLE: setting})
    for other in ({}, {REAL_ENGINES_VARIABLE: ""}, {REAL_ENGINES_VARIABLE: "1"}):
        require_real_engines(other)


def test_models_may_come_while_others_are_looked_at() -> None:
    names = [f"m{number}" for number in range(2000)]
    engine = ScriptedEngine(dict.fromkeys(names, ()), strict=False)
    loading = threading.Thread(target=lambda: [engine.load(LoadSpec(name, f"{name}.gguf")) for name in names])
    loading.start()
    while loading.is_alive():
        engine.stats()
        engine.cancel(1)
    assert len(engine.stats().models) == len(names)
    engine.close()
