"""``Runtime.chat``: one turn of a conversation that the caller keeps, on an engine that follows a script."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux import Runtime
from agentmux.chatting import ChatAnswer, ChatDelta, ChatEvent, ChatRequest, ChatStarted, Declared
from agentmux.config import Limits
from agentmux.errors import EngineError, QueueTimeout, RequestInvalid
from agentmux.messages import Event, Message, ToolCall, TurnCancelled, TurnCompleted
from agentmux.testing import Answer, Failure, ScriptedEngine, settle
from agentmux.tools import Tool

HELLO = (Message("user", "hello"),)
ADD = Declared().tool("add", "", {"properties": {"a": {"type": "integer"}}})
CALL = '{"tool": "add", "arguments": {"a": 1}}'


def request(**options: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": HELLO, **options})


async def chatted(answer: Any, asked: ChatRequest) -> list[ChatEvent]:
    """All events of one chat."""
    engine = ScriptedEngine({"m": [answer]})
    async with (
        Runtime(models=engine.models, engine=engine, config=False) as mux,
        aclosing(mux.chat(asked)) as events,
    ):
        return [event async for event in events]


@given(st.lists(st.sampled_from(["He", "llo", " ", '{"', "tool", '": "', "add", CALL, "\n", "}", "x"]), max_size=8))
def test_deltas_are_the_answers_text_and_only_grow(chunks: list[str]) -> None:
    text = "".join(chunks)

    async def check(tools: tuple[Any, ...]) -> ChatAnswer:
        step = Answer(text, chunks=tuple(chunks) or None)
        started, *deltas, last = await chatted(step, request(tools=tools))
        assert isinstance(started, ChatStarted)
        assert isinstance(last, ChatAnswer)
        assert all(isinstance(delta, ChatDelta) for delta in deltas)
        assert "".join(delta.text for delta in deltas if isinstance(delta, ChatDelta)) == last.text
        assert (last.finish_reason == "tool_calls") == bool(last.tool_calls)
        return last

    assert asyncio.run(check(())).text == text
    called = asyncio.run(check((ADD,)))
    assert all(call.name == "add" and isinstance(json.loads(call.arguments), dict) for call in called.tool_calls)


async def test_calls_have_ids_of_their_own_and_are_read() -> None:
    *_, last = await chatted(f"{CALL}\n{CALL}", request(tools=(ADD,)))
    assert isinstance(last, ChatAnswer)
    assert [(call.name, call.arguments) for call in last.tool_calls] == [("add", '{"a": 1}')] * 2
    assert len({call.id for call in last.tool_calls}) == 2


async def test_a_call_that_was_cut_is_none() -> None:
    *_, last = await chatted(Answer(CALL[:20], reason="length"), request(tools=(ADD,)))
    assert isinstance(last, ChatAnswer)
    assert (last.tool_calls, last.finish_reason) == ((), "length")


async def test_log_probabilities_come_with_the_deltas_and_in_the_end() -> None:
    events = await chatted("abc", request(logprobs=2))
    last = events[-1]
    assert isinstance(last, ChatAnswer)
    told = [one for event in events if isinstance(event, ChatDelta) for one in event.logprobs]
    assert tuple(told) == last.completion.logprobs
    assert len(told) == len(last.completion.tokens) > 0


async def test_what_the_engine_is_asked() -> None:
    engine = ScriptedEngine({"m": ["a", "b", "c"]})
    call = ToolCall("1", "add", '{"a": 2}')
    kept = (*HELLO, Message("assistant", "", tool_calls=(call,)), Message("tool", "2", tool_call=call))
    async with Runtime(models=engine.models, engine=engine, config=False) as mux:
        for asked in (
            request(messages=kept, tools=(ADD,), stop=("x",), priority=3),
            request(output=Declared().output({"enum": ["a", "b"]})),
            ChatRequest("m", prompt=(1, 2), max_tokens=5),
        ):
            async with aclosing(mux.chat(asked)) as events:
                [event async for event in events]
    with_tools, typed, raw = engine.calls
    assert '"arguments": {"a": 2}' in str(with_tools.prompt)
    assert with_tools.grammar
    assert (with_tools.stop, with_tools.max_tokens) == (("x",), 4096)
    assert '\\"a\\"' in (typed.grammar or "")
    assert (raw.prompt, raw.grammar, raw.max_tokens) == ((1, 2), None, 5)


async def test_who_stops_listening_ends_the_turn() -> None:
    seen: list[Event] = []
    engine = ScriptedEngine({"m": [Answer("a", hold=True)]})
    async with Runtime(models=engine.models, engine=engine, config=False, observers=[seen.append]) as mux:
        async with aclosing(mux.chat(request())) as events:
            async for event in events:
                if isinstance(event, ChatDelta):
                    break
        assert [type(event) for event in seen][-1] is TurnCancelled
        assert (mux.stats().active, mux.stats().cancelled) == (0, 1)


async def test_observers_see_the_turn_and_do_no_harm() -> None:
    seen: list[Event] = []

    def observe(event: Event) -> None:
        seen.append(event)
        raise RuntimeError("mine")

    engine = ScriptedEngine({"m": ["a"]})
    async with (
        Runtime(models=engine.models, engine=engine, config=False, observers=[observe]) as mux,
        aclosing(mux.chat(request())) as events,
    ):
        [event async for event in events]
    assert isinstance(seen[-1], TurnCompleted)
    assert len({event.run for event in seen}) == 1


async def test_a_session_goes_on_one_at_a_time_and_is_forgotten_by_name() -> None:
    engine = ScriptedEngine({"m": [Answer("a", hold=True), "b"]})
    async with Runtime(models=engine.models, engine=engine, config=False) as mux:

        async def ask() -> str:
            async with aclosing(mux.chat(request(session="s"))) as events:
                *_, last = [event async for event in events]
            assert isinstance(last, ChatAnswer)
            return last.text

        first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
        await settle()
        assert len(engine.calls) == 1
        engine.release(engine.calls[0].turn)
        assert await asyncio.gather(first, second) == ["a", "b"]
        assert engine.calls[0].session == engine.calls[1].session
        mux.end_session("s")
        assert engine.forgotten == [("m", engine.calls[0].session)]


async def test_errors_come_through() -> None:
    with pytest.raises(EngineError, match="scripted failure"):
        await chatted(Failure(), request())
    engine = ScriptedEngine({"m": lambda _: Answer("a", hold=True)}, strict=False)
    limits = Limits(queue_wait_s=0.0)
    async with (
        Runtime(models=engine.models, engine=engine, config=False, limits=limits) as mux,
        aclosing(mux.chat(request())) as events,
    ):
        await anext(events)
        with pytest.raises(QueueTimeout):
            async with aclosing(mux.chat(request())) as more:
                await anext(more)


@pytest.mark.parametrize(
    "options",
    [
        {"messages": ()},
        {"prompt": "both"},
        {"max_tokens": 0},
        {"tool_choice": "required"},
        {"tools": (ADD,), "tool_choice": "sub"},
    ],
    ids=str,
)
async def test_requests_that_cannot_be_meant(options: dict[str, Any]) -> None:
    engine = ScriptedEngine({"m": []})
    async with Runtime(models=engine.models, engine=engine, config=False) as mux:
        with pytest.raises(RequestInvalid):
            async with aclosing(mux.chat(request(**options))) as events:
                await anext(events)


@pytest.mark.parametrize(
    "schema", [{"type": "elephant"}, {"properties": 3}, {"$ref": "http://x"}, {"const": float("nan")}], ids=str
)
def test_schemas_that_are_none(schema: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid):
        Declared().output(schema)


def test_equal_schemas_are_made_once() -> None:
    declared = Declared()
    assert declared.output({"type": "object"}) is declared.output({"type": "object"})
    assert declared.tool("f", "", {}) is declared.tool("f", "", {"type": "object"})
    assert declared.tool("f", "", {}) is not declared.tool("g", "", {})


def test_grammars_that_would_hold_up_the_engine_are_refused() -> None:
    with pytest.raises(RequestInvalid, match="fewer values to choose from"):
        Declared().output({"enum": [f"value {number}" for number in range(30_000)]})
    Declared().output({"properties": {f"p{number}": {"type": "integer"} for number in range(300)}})


async def test_grammars_count_together() -> None:
    def tool(number: int) -> Tool:
        values = [f"{number} {value}" for value in range(9000)]
        return Declared().tool(f"f{number}", "", {"properties": {"x": {"enum": values}}})

    tools = tuple(tool(number) for number in range(3))
    engine = ScriptedEngine({"m": []})
    async with Runtime(models=engine.models, engine=engine, config=False) as mux:
        with pytest.raises(RequestInvalid, match="together"):
            await anext(mux.chat(request(tools=tools)))
