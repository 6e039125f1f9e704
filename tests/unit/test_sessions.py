"""Conversations that go on, and answers that come piece by piece, on a scripted engine."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, ClassVar

import pytest

from agentmux import Agent, ConfigError, EngineError, Run, Runtime, pipeline
from agentmux.chatting import ChatRequest
from agentmux.messages import Message
from agentmux.testing import Answer, Failure, ScriptedEngine, settle


class Talker(Agent):
    model = "m"
    instructions = "Talk."

    async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
        return await ctx.session.ask(args[0])


class Plain(Agent):
    model = "m"


def runtime(script: Any, **settings: Any) -> tuple[ScriptedEngine, Runtime]:
    engine = ScriptedEngine({"m": script})
    return engine, Runtime(models=engine.models, engine=engine, **settings)


async def test_a_conversation_goes_on_within_a_run() -> None:
    @pipeline
    async def chat(ctx: Run) -> list[str]:
        return [await ctx.run(Talker, "one"), await ctx.run(Talker(), "two")]

    engine, mux = runtime(["first", Answer("second", expect="Talk.\n\none\n\nfirst\n\ntwo")])
    async with mux:
        assert (await mux.run(chat)).output == ["first", "second"]
        session = engine.calls[0].session
        assert session is not None
        assert engine.calls[1].session == session
        assert engine.forgotten == [("m", session)]  # with the run


async def test_what_was_said_is_in_the_result_once() -> None:
    @pipeline
    async def chat(ctx: Run) -> None:
        await ctx.run(Talker, "one")
        await ctx.run(Talker, "two")

    _engine, mux = runtime(["first", "second"])
    async with mux:
        said = (await mux.run(chat)).messages
    assert [message.content for message in said] == ["Talk.", "one", "first", "two", "second"]


async def test_runs_do_not_share_a_conversation_unless_it_has_a_name() -> None:
    engine, mux = runtime(["a", Answer("b", expect="Talk.\n\ntwo"), "c", Answer("d", expect="three\n\nc\n\nfour"), "e"])
    async with mux:
        await mux.run(Talker, "one")
        await mux.run(Talker, "two")
        await mux.run(Talker, "three", session="kept")
        await mux.run(Talker, "four", session="kept")
        mux.end_session("kept")
        mux.end_session("never was")
        await mux.run(Talker, "five", session="kept")
    assert "three" not in str(engine.calls[4].prompt)


async def test_a_session_that_ends_while_it_is_asked_keeps_no_kv_cache() -> None:
    engine, mux = runtime(
        [Answer("first", hold=True), Answer("chat", hold=True), Answer("second", expect="Talk.\n\ntwo")]
    )
    async with mux:
        run = asyncio.create_task(mux.run(Talker, "one", session="kept"))
        await settle()
        mux.end_session("kept")
        engine.release()
        assert (await run).output == "first"
        assert engine.forgotten[1:] == [("m", engine.calls[0].session)], "once its turn has ended"
        talk = mux.chat(ChatRequest("m", (Message("user", "hello"),), session="kept"))
        chat = asyncio.create_task(anext(talk))
        await settle()
        mux.end_session("kept")
        engine.release()
        await chat
        async for _ in talk:
            pass
        assert engine.forgotten[3:] == [("m", engine.calls[1].session)]
        await mux.run(Talker, "two", session="kept")


async def test_a_question_that_fails_leaves_no_trace() -> None:
    class Patient(Talker):
        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            with pytest.raises(EngineError):
                await ctx.session.ask("bad")
            assert ctx.session.messages == ()
            answer = await ctx.session.ask("good")
            assert [message.content for message in ctx.session.messages] == ["good", "fine"]
            ctx.session.clear()
            assert ctx.session.messages == ()
            return answer

    _engine, mux = runtime([Failure(), Answer("fine", expect="Talk.\n\ngood")])
    async with mux:
        assert (await mux.run(Patient, "")).output == "fine"


async def test_questions_of_one_conversation_are_asked_one_after_the_other() -> None:
    class Eager(Talker):
        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            return await asyncio.gather(ctx.session.ask("one"), ctx.session.ask("two"))

    engine, mux = runtime([Answer("first", hold=True), Answer("second", expect="one\n\nfirst\n\ntwo")])
    async with mux:
        run = asyncio.create_task(mux.run(Eager, ""))
        await settle()
        assert len(engine.calls) == 1
        engine.release()
        assert (await run).output == ["first", "second"]


async def test_a_pipeline_function_has_no_conversation() -> None:
    @pipeline
    async def chat(ctx: Run) -> None:
        assert ctx.session

    _engine, mux = runtime([])
    async with mux:
        with pytest.raises(ConfigError, match="has no model to ask"):
            await mux.run(chat)


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def pieces(ctx: Run, prompt: str) -> list[str]:
    return [piece async for piece in ctx.stream(prompt)]


async def test_an_answer_is_streamed_piece_by_piece() -> None:
    class Streaming(Plain):
        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            return await pieces(ctx, args[0])

    _engine, mux = runtime([Answer("one two", chunks=("one", " two"))])
    async with mux:
        assert (await mux.run(Streaming, "?")).output == ["one", " two"]


async def test_calls_of_tools_are_not_streamed() -> None:
    class Streaming(Plain):
        tools = (add,)

        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            return await pieces(ctx, args[0])

    call = json.dumps({"tool": "add", "arguments": {"a": 1, "b": 2}})
    _engine, mux = runtime([Answer(call, chunks=tuple(call)), Answer("it is 3", chunks=("it", " is 3"))])
    async with mux:
        assert "".join((await mux.run(Streaming, "?")).output) == "it is 3"


async def test_a_stream_that_is_left_cancels_its_turn() -> None:
    class Leaving(Plain):
        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            async with aclosing(ctx.session.stream(args[0])) as stream:
                piece = await anext(stream)
            assert ctx.session.messages == ()
            return piece

    engine, mux = runtime([Answer("one two", chunks=("one", " two"), hold=True)])
    async with mux:
        assert (await mux.run(Leaving, "?")).output == "one"
    assert len(engine.cancels) == 1


async def test_a_stream_raises_what_went_wrong() -> None:
    class Streaming(Plain):
        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            with pytest.raises(EngineError, match="scripted failure"):
                await pieces(ctx, args[0])

    _engine, mux = runtime([Failure()])
    async with mux:
        await mux.run(Streaming, "?")


async def test_typed_answers_are_not_streamed() -> None:
    class Typed(Plain):
        output = list[int]

        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            return await pieces(ctx, args[0])

    _engine, mux = runtime([])
    async with mux:
        with pytest.raises(ConfigError, match="whole or not at all"):
            await mux.run(Typed, "?")


async def test_a_runtime_that_drains_takes_no_new_runs_and_ends_the_old_ones() -> None:
    engine, mux = runtime([Answer("late", hold=True)])
    async with mux:
        run = asyncio.create_task(mux.run(Plain, "?"))
        await settle()
        draining = asyncio.create_task(mux.drain())
        await settle()
        with pytest.raises(EngineError, match="draining"):
            await mux.run(Plain, "?")
        assert not draining.done()
        engine.release()
        assert (await run).output == "late"
        await draining


async def test_a_session_that_is_asked_within_its_own_answer_is_refused_and_does_not_wait_for_ever() -> None:
    class Echo(Agent):
        """Says it again."""

        model = "m"

        async def run(self, ctx: Run, text: str) -> str:
            return str(await ctx.session.ask(text))

    class Deep(Echo):
        """Asks itself."""

        tools: ClassVar[Any] = ()

    Deep.tools = (Deep,)
    call = json.dumps({"tool": "Deep", "arguments": {"text": "again"}})
    engine = ScriptedEngine({"m": lambda _: call})
    async with Runtime(models=engine.models, engine=engine) as mux, asyncio.timeout(10):
        with pytest.raises(ConfigError, match="Deep asks in its session while an answer in it is under way"):
            await mux.run(Deep, "x")
        assert mux.stats().active == 0
