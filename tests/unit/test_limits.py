"""Limits of runs whose turns go on at the same time, on a scripted engine and property-tested."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux import Agent, LimitExceeded, Limits, ModelSpec, Run, Runtime, parallel, pipeline
from agentmux.testing import Answer, ScriptedEngine, settle


class Talker(Agent):
    model = "m"
    max_tokens = 10


def runtime(script: Any, **settings_: Any) -> tuple[ScriptedEngine, Runtime]:
    engine = ScriptedEngine({"m": script}, strict=False)
    return engine, Runtime(models=engine.models, engine=engine, **settings_)


async def test_turns_at_the_same_time_cannot_pass_the_limit_together() -> None:
    engine, mux = runtime([Answer("x", hold=True), Answer("y", hold=True), "z"], limits=Limits(tokens=15))
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Talker), "?"))
        await settle()
        assert [request.max_tokens for request in engine.calls] == [10]
        engine.release()
        await settle()
        engine.release()
        await run
    assert engine.calls[1].max_tokens == 5  # what the first one might have left


async def test_a_turn_waits_for_room_and_goes_on_when_another_took_less() -> None:
    engine, mux = runtime([Answer("x", hold=True), "y"], limits=Limits(tokens=12))
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Talker), "?"))
        await settle()
        assert len(engine.calls) == 1
        engine.release()
        assert (await run).output == ["x", "y"]


async def test_a_prompt_that_takes_the_limit_is_ended_as_soon_as_it_is_known() -> None:
    engine, mux = runtime([Answer("x", prompt_tokens=100, hold=True)], limits=Limits(tokens=50))
    async with mux:
        with pytest.raises(LimitExceeded, match="a prompt of 100 tokens leaves nothing of the run's limit of 50"):
            await mux.run(Talker, "?")
    assert len(engine.cancels) == 1


@settings(max_examples=40)
@given(
    answers=st.lists(st.integers(0, 10), min_size=1, max_size=8),
    limit=st.integers(1, 60),
)
def test_generated_tokens_never_pass_the_limit(answers: list[int], limit: int) -> None:
    async def play() -> None:
        script = iter(answers)

        def step(request: Any) -> Answer:
            length = min(next(script), request.max_tokens)
            return Answer("a" * length, reason="length" if length == request.max_tokens else "stop", prompt_tokens=0)

        @pipeline
        async def all_at_once(ctx: Run) -> None:
            await asyncio.gather(*(ctx.run(Talker, "?") for _ in answers), return_exceptions=True)

        _engine, mux = runtime(step, limits=Limits(tokens=limit))
        async with mux:
            result = await mux.run(all_at_once)
            assert result.usage.generated_tokens <= limit
            assert mux.stats().active == 0

    asyncio.run(play())


async def test_prompts_of_turns_at_the_same_time_do_not_pass_the_limit_together() -> None:
    engine = ScriptedEngine({"m": lambda _: Answer("word", hold=True, prompt_tokens=55)})

    class Brief(Agent):
        model = "m"
        max_tokens = 10

    @pipeline
    async def both(ctx: Run) -> list[Any]:
        return await asyncio.gather(ctx.run(Brief, "x"), ctx.run(Brief, "y"), return_exceptions=True)

    async with Runtime(models={"m": ModelSpec("m.gguf", slots=2)}, engine=engine) as mux:
        task = asyncio.create_task(mux.run(both, limits=Limits(tokens=100)))
        await settle()
        engine.release()
        result = await task
    assert [type(one) for one in result.output] == [str, LimitExceeded]
    assert "55 of which are used" in str(result.output[1])
    assert result.usage.tokens <= 100
