"""Limits of runs whose turns go on at the same time, on a scripted engine and property-tested."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux import (
    Agent,
    LimitExceeded,
    Limits,
    ModelSpec,
    Run,
    Runtime,
    TextStreamed,
    TurnCancelled,
    Usage,
    parallel,
    pipeline,
)
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
    assert engine.calls[1].max_tokens == 10  # the first one took 2, so there is room for all that it asks for


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


async def test_an_answer_is_not_cut_short_for_the_sake_of_what_another_one_might_take() -> None:
    """It waits: the other one gives back what it does not take."""
    nine = Answer("a b c d e f g h i", prompt_tokens=1)
    engine, mux = runtime([Answer("x", hold=True), nine], limits=Limits(tokens=14))
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Talker), "?"))
        await settle()
        engine.release()
        result = await run
    assert result.output == ["x", nine.text]
    assert result.usage.tokens == 12


def observed(answers: list[Any], limit: int, slots: int) -> tuple[ScriptedEngine, Runtime, list[Any]]:
    events: list[Any] = []
    engine = ScriptedEngine({"m": answers}, strict=False)
    models = {"m": ModelSpec("m.gguf", slots=slots)}
    return engine, Runtime(models=models, engine=engine, limits=Limits(tokens=limit), observers=[events.append]), events


async def test_a_turn_whose_prompt_does_not_fit_beside_others_waits_and_is_submitted_again() -> None:
    first = Answer("one", prompt_tokens=5, hold=True)
    second = Answer("two", chunks=("t", "wo"), prompt_tokens=60, hold=True)
    engine, mux, events = observed([first, second, second], limit=80, slots=2)
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Talker), "?"))
        await settle()
        assert engine.held == (1,)
        assert engine.cancels == [2]
        engine.release()
        await settle()
        engine.release()
        result = await run
    assert result.output == ["one", "two"]
    assert result.usage == Usage(turns=2, prompt_tokens=65, generated_tokens=2)
    assert [call.max_tokens for call in engine.calls] == [10, 10, 10]
    texts = [(event.turn, event.text) for event in events if isinstance(event, TextStreamed)]
    assert texts == [(1, "one"), (3, "t"), (3, "wo")], "what was withdrawn has said nothing"
    assert [event.turn for event in events if isinstance(event, TurnCancelled)] == [2]


async def test_an_answer_that_ends_before_it_is_withdrawn_counts_if_there_is_room_for_it() -> None:
    answer = Answer("two", chunks=("t", "wo"), prompt_tokens=60)
    engine, mux, events = observed([Answer("one", prompt_tokens=5, hold=True), answer], limit=80, slots=2)
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Talker), "?"))
        await settle()
        engine.release()
        assert (await run).output == ["one", "two"]
    told = [type(event).__name__ for event in events if getattr(event, "turn", 0) == 2]
    assert told == ["TurnQueued", "TurnAdmitted", "PrefillProgressed", "TextStreamed", "TextStreamed", "TurnCompleted"]


async def test_an_answer_that_there_is_no_room_for_does_not_count_and_is_asked_again() -> None:
    long = Answer("a b c d e f g h", prompt_tokens=60)
    engine, mux, _events = observed([Answer("one", prompt_tokens=5, hold=True), long, long], limit=80, slots=2)
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Talker), "?"))
        await settle()
        assert mux.stats().failed == 1, "5 + 10 are set aside, and 60 + 8 do not fit beside them"
        engine.release()
        result = await run
    assert result.output == ["one", long.text]
    assert result.usage.tokens == 5 + 1 + 60 + 8


async def test_a_stream_of_a_turn_that_is_submitted_again_says_nothing_twice() -> None:
    class Streaming(Talker):
        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            return [piece async for piece in ctx.stream(args[0])]

    second = Answer("two three", chunks=("two", " three"), prompt_tokens=60, hold=True)
    engine, mux, _events = observed([Answer("one", prompt_tokens=5, hold=True), second, second], limit=80, slots=2)
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Streaming), "?"))
        await settle()
        engine.release()
        await settle()
        engine.release()
        assert (await run).output == ["one", ["two", " three"]]


async def test_a_run_that_is_cancelled_while_a_turn_is_withdrawn_ends() -> None:
    second = Answer("two", prompt_tokens=60, hold=True)
    _engine, mux, _events = observed([Answer("one", prompt_tokens=5, hold=True), second], limit=80, slots=2)
    async with mux:
        run = asyncio.create_task(mux.run(parallel(Talker, Talker), "?"))
        await settle()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        stats = mux.stats()
        assert (stats.active, stats.queued, stats.cancelled) == (0, 0, 2)


Asked = tuple[int, int]
"""Tokens of a prompt and of its answer."""


@settings(max_examples=60)
@given(
    turns=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 10)), min_size=1, max_size=8),
    limit=st.integers(1, 120),
    slots=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_tokens_never_pass_the_limit_and_nobody_is_refused_for_what_others_only_might_have_taken(
    turns: list[Asked], limit: int, slots: int, seed: int
) -> None:
    chance = Random(seed)

    async def play() -> None:
        def step(request: Any) -> Answer:
            prompt, answer = turns[int(str(request.prompt))]
            length = min(answer, request.max_tokens)
            cut = "length" if length < answer else "stop"
            return Answer("a " * length, reason=cut, prompt_tokens=prompt, hold=chance.random() < 0.7)

        @pipeline
        async def all_at_once(ctx: Run) -> list[Any]:
            return await asyncio.gather(*(ctx.run(Talker, f"{n}") for n in range(len(turns))), return_exceptions=True)

        engine = ScriptedEngine({"m": step}, strict=False)
        models = {"m": ModelSpec("m.gguf", slots=slots)}
        async with Runtime(models=models, engine=engine, limits=Limits(tokens=limit)) as mux:
            run = asyncio.create_task(mux.run(all_at_once))
            await settle()
            for _ in range(4 * len(turns)):
                if engine.held:
                    engine.release(chance.choice(engine.held))
                await settle()
            assert run.done(), "each release lets a turn end"
            result = await run
        assert result.usage.tokens <= limit
        for (prompt, answer), outcome in zip(turns, result.output, strict=True):
            assert isinstance(outcome, str | LimitExceeded)
            if isinstance(outcome, LimitExceeded):
                assert result.usage.tokens + prompt + answer > limit, "what is used in the end is all that was"
        assert result.usage.turns <= len(turns)

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
    assert "56 of which are used" in str(result.output[1])
    assert result.usage.tokens <= 100
