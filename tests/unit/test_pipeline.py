"""The usual shapes of pipelines, on a scripted engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentmux import (
    Agent,
    ConfigError,
    LimitExceeded,
    ModelSpec,
    QueueFull,
    Run,
    Runtime,
    ToolError,
    branch,
    each,
    loop,
    parallel,
    pipeline,
    sequence,
)
from agentmux.testing import Answer, ScriptedEngine, settle


class Planner(Agent):
    model = "planner"


class Coder(Agent):
    model = "coder"


class Critic(Agent):
    model = "critic"


@pipeline
async def shout(ctx: Run, text: str) -> str:
    return text.upper()


@pipeline
async def broken(ctx: Run, text: str) -> str:
    raise ValueError(text)


def runtime(engine: ScriptedEngine, **settings: Any) -> Runtime:
    return Runtime(models=engine.models, engine=engine, **settings)


async def test_a_sequence_hands_on_what_each_stage_gave() -> None:
    engine = ScriptedEngine({"planner": [Answer("a plan", expect="task")], "coder": [Answer("code", expect="a plan")]})
    async with runtime(engine) as mux:
        result = await mux.run(sequence(Planner, Coder, shout, name="write"), "task")
    assert result.output == "CODE"


async def test_a_sequence_says_which_model_comes_next() -> None:
    engine = ScriptedEngine({"planner": [Answer("plan", hold=True)], "coder": ["code"], "critic": ["fine"]})
    async with runtime(engine) as mux:
        run = asyncio.create_task(mux.run(sequence(Planner, sequence(Coder, Critic)), "task"))
        await settle()
        assert engine.prefetches == ["coder"]
        engine.release()
        await run
    assert engine.prefetches[:2] == ["coder", "critic"]


async def test_before_says_which_model_comes_next() -> None:
    @pipeline
    async def write(ctx: Run, task: str) -> str:
        plan = await ctx.before(Coder).run(Planner, task)
        code: str = await ctx.run(Coder, plan)
        return code

    engine = ScriptedEngine({"planner": [Answer("plan", hold=True)], "coder": ["code"]})
    async with runtime(engine) as mux:
        run = asyncio.create_task(mux.run(write, "task"))
        await settle()
        assert engine.prefetches == ["coder"]
        engine.release()
        assert (await run).output == "code"


async def test_parallel_gives_all_results_in_their_order() -> None:
    engine = ScriptedEngine({"planner": ["p"], "coder": ["c"], "critic": [Answer("j", hold=True)]})
    async with runtime(engine) as mux:
        run = asyncio.create_task(mux.run(parallel(Critic, Planner, Coder), "task"))
        await settle()
        engine.release()
        assert (await run).output == ["j", "p", "c"]


async def test_an_error_in_parallel_cancels_the_others() -> None:
    engine = ScriptedEngine({"planner": [Answer("p", hold=True)]})
    async with runtime(engine) as mux:
        with pytest.raises(ValueError, match="task"):
            await mux.run(parallel(Planner, broken), "task")
        assert mux.stats().active == 0
    assert len(engine.cancels) == 1


async def test_each_runs_the_stage_for_every_item() -> None:
    engine = ScriptedEngine({"coder": lambda request: str(request.prompt).strip()[-1:]})
    async with runtime(engine) as mux:
        assert (await mux.run(each(Coder), ["a", "b", "c"])).output == ["a", "b", "c"]
        assert (await mux.run(each(Coder), [])).output == []


async def test_each_runs_so_many_at_once() -> None:
    engine = ScriptedEngine({"coder": lambda request: Answer(str(request.prompt).strip()[-1:], hold=True)})
    models = {"coder": ModelSpec("coder.gguf", slots=5)}
    async with Runtime(models=models, engine=engine) as mux:
        run = asyncio.create_task(mux.run(each(Coder, at_once=2), iter("abcde")))
        held = []
        for _ in range(5):
            await settle()
            held.append(len(engine.held))
            engine.release(engine.held[-1])
        assert (await run).output == list("abcde")
    assert held == [2, 2, 2, 2, 1]


async def test_each_takes_more_items_than_turns_may_wait() -> None:
    async with runtime(ScriptedEngine({"coder": lambda _: "x"}), queue_limit=3) as mux:
        with pytest.raises(QueueFull):
            await mux.run(each(Coder), "abcdefgh")
        assert (await mux.run(each(Coder, at_once=3), "abcdefgh")).output == ["x"] * 8
        assert (await mux.run(each(Coder, at_once=3), "")).output == []


async def test_an_error_in_each_ends_the_others_and_begins_no_more() -> None:
    begun: list[str] = []

    @pipeline
    async def stage(ctx: Run, text: str) -> str:
        begun.append(text)
        if text == "b":
            raise ValueError(text)
        return str(await ctx.run(Coder, text))

    engine = ScriptedEngine({"coder": [Answer("x", hold=True)]})
    async with runtime(engine) as mux:
        with pytest.raises(ValueError, match="b"):
            await mux.run(each(stage, at_once=2), "abcd")
        assert mux.stats().active == 0
    assert begun == ["a", "b"]


async def test_a_loop_goes_on_until_the_result_will_do() -> None:
    engine = ScriptedEngine({"coder": ["draft", "better", "good"]})
    async with runtime(engine) as mux:
        mend = loop(Coder, until=lambda text: text == "good", max_rounds=5)
        assert (await mux.run(mend, "task")).output == "good"
    assert "better" in str(engine.calls[2].prompt)


async def test_a_loop_may_ask_whether_it_will_do() -> None:
    async def good(text: str) -> bool:
        await asyncio.sleep(0)
        return text == "good"

    engine = ScriptedEngine({"coder": ["draft", "good"]})
    async with runtime(engine) as mux:
        assert (await mux.run(loop(Coder, until=good, max_rounds=2), "task")).output == "good"


async def test_a_loop_that_does_not_get_there_is_an_error_with_what_it_did() -> None:
    engine = ScriptedEngine({"coder": ["draft", "draft"]})
    async with runtime(engine) as mux:
        with pytest.raises(LimitExceeded, match="mend: 2 rounds were not enough") as caught:
            await mux.run(loop(Coder, until=lambda _: False, max_rounds=2, name="mend"), "task")
    assert caught.value.partial.usage.turns == 2
    assert [message.content for message in caught.value.partial.messages if message.role == "assistant"] == [
        "draft",
        "draft",
    ]


@pytest.mark.parametrize(("text", "expected"), [("code", "c"), ("talk", "p"), ("odd", "ODD")])
async def test_a_branch_is_chosen_by_a_function(text: str, expected: str) -> None:
    engine = ScriptedEngine({"coder": ["c"], "planner": ["p"]}, strict=False)
    async with runtime(engine) as mux:
        chosen = branch(lambda text: text, {"code": Coder, "talk": Planner}, default=shout)
        assert (await mux.run(chosen, text)).output == expected


async def test_a_branch_is_chosen_by_an_agent() -> None:
    engine = ScriptedEngine({"planner": ["code"], "coder": ["c"]})
    async with runtime(engine) as mux:
        assert (await mux.run(branch(Planner, {"code": Coder}), "x")).output == "c"


async def test_a_branch_is_chosen_by_an_async_function() -> None:
    async def choose(text: str) -> str:
        await asyncio.sleep(0)
        return text

    async with runtime(ScriptedEngine({"coder": ["c"]})) as mux:
        assert (await mux.run(branch(choose, {"code": Coder}), "code")).output == "c"


async def test_a_choice_that_is_no_key_is_any_other() -> None:
    async with runtime(ScriptedEngine({"coder": []})) as mux:
        with pytest.raises(ConfigError, match=r"no stage for \['a'\]; there are: 'code'"):
            await mux.run(branch(lambda _: ["a"], {"code": Coder}), "x")
        assert (await mux.run(branch(lambda _: ["a"], {"code": Coder}, default=shout), "x")).output == "X"


async def test_a_choice_without_a_stage_is_an_error_that_names_the_stages() -> None:
    async with runtime(ScriptedEngine({"coder": []})) as mux:
        with pytest.raises(ConfigError, match=r"branch: no stage for 7; there are: 'code'"):
            await mux.run(branch(lambda _: 7, {"code": Coder}), "x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequence(),
        lambda: sequence(Planner, len),
        lambda: parallel(),
        lambda: each("planner"),
        lambda: each(Coder, at_once=0),
        lambda: loop(Coder, until=bool, max_rounds=0),
        lambda: branch(7, {"a": Coder}),
        lambda: branch(len, {}),
    ],
)
def test_shapes_that_cannot_be_meant(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


async def test_any_error_of_a_run_carries_its_partial_result() -> None:
    engine = ScriptedEngine({"planner": ["plan"]})
    async with runtime(engine) as mux:
        with pytest.raises(ValueError, match="plan") as caught:
            await mux.run(sequence(Planner, broken), "task")
    assert caught.value.partial.usage.turns == 1  # type: ignore[attr-defined]
    assert not isinstance(caught.value, ToolError)
