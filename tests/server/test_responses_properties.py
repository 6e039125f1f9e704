"""Responses, whatever is asked and however it comes: nothing is lost, doubled, out of order, or an unexpected error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

from agentmux.chatting import ChatAnswer, Declared
from agentmux.errors import RequestInvalid
from agentmux.messages import ToolCall
from agentmux.server import ServerSettings
from agentmux.server.asked import Asked
from agentmux.server.problems import Problem
from agentmux.server.responses_body import ResponseBody, response_of
from agentmux.server.responses_output import Output

PIECES = st.lists(st.sampled_from(["a", " ", "\n", "bc", "é"]), max_size=6)
CALLS = st.lists(st.just(ToolCall("call_1", "f", '{"x":1}')) | st.just(ToolCall("call_2", "g", "{}")), max_size=2)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def bare(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "id"}


def rebuilt(events: list[Any]) -> dict[int, dict[str, str]]:
    """[output index] an item's kind and text, put together from deltas alone."""
    items: dict[int, dict[str, str]] = {}
    for event in events:
        if event.type == "response.output_item.added":
            assert event.output_index == len(items)
            items[event.output_index] = {"type": event.item.type, "text": ""}
        elif event.type.endswith(".delta"):
            items[event.output_index]["text"] += event.delta
    return items


def text_of(item: dict[str, Any]) -> str:
    return str(item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])


@given(
    PIECES, st.integers(0, 6), st.sampled_from(["", "Hm."]), st.booleans(), CALLS, st.sampled_from(["stop", "length"])
)
def test_a_stream_is_the_plain_response_in_pieces(
    pieces: list[str], told: int, reasoning: str, is_early: bool, calls: list[ToolCall], ended: str
) -> None:
    answer = ChatAnswer("".join(pieces), reasoning, tuple(calls), ended, completion=None)  # type: ignore[arg-type]
    plain, streamed = Output(), Output()
    plain.end(answer)
    sent = streamed.reason(reasoning) if is_early else ""
    sent += "".join(streamed.say(piece) for piece in pieces[:told]) + streamed.end(answer)
    data = [line.removeprefix("data: ") for line in sent.split("\n") if line.startswith("data: ")]
    events = [EVENT.validate_json(one) for one in data]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [{"type": item["type"], "text": text_of(item)} for item in streamed.items] == list(rebuilt(events).values())
    by_kind = sorted(map(bare, streamed.items), key=json.dumps)
    assert by_kind == sorted(map(bare, plain.items), key=json.dumps)
    if is_early:
        assert list(map(bare, streamed.items)) == list(map(bare, plain.items))
    done = [event.item.id for event in events if event.type == "response.output_item.done"]
    assert done == [item["id"] for item in streamed.items]
    assert all(item["status"] != "in_progress" for item in streamed.items)
    said = [text_of(item) for item in plain.items if item["type"] == "message"]
    assert said == ([answer.text] if answer.text.strip() or not calls else [])


SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "x", "function", "message", "user", "{}"])
)
NAMES = st.sampled_from(
    [*ResponseBody.model_fields, "type", "role", "content", "name", "call_id", "arguments", "output"]
)
KINDS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "role": st.sampled_from(["user", "assistant", "developer", "tool"]),
        "content": st.sampled_from(
            ["x", "", None, [], [{"type": "input_text", "text": "x"}], [{"type": "input_text"}]]
        ),
        "call_id": st.sampled_from(["1", "2", ""]),
        "name": st.sampled_from(["f", ""]),
        "arguments": st.sampled_from(["{}", "[]", "", "{" * 5000]),
        "output": st.sampled_from(["3", None, [{"type": "input_text", "text": "3"}]]),
    },
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)


@given(st.text(max_size=3) | st.lists(ITEMS, max_size=5), st.dictionaries(NAMES, ANYTHING, max_size=3))
def test_a_body_is_understood_or_refused_by_one_clear_error(given_input: Any, more: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", **more, "input": given_input})
    try:
        asked = response_of(ResponseBody.model_validate_json(body), ServerSettings(), Declared())
    except (Problem, RequestInvalid):
        return
    except ValidationError as error:
        refused = error.title
    else:
        assert isinstance(asked, Asked)
        assert len(asked.turns) == 1
        return
    assert refused == ResponseBody.__name__  # not the chat that was made of it


def test_words_and_calls_of_one_turn_are_one_message() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": name, "name": name, "arguments": "{}"}

    def result(name: str) -> dict[str, Any]:
        return {"type": "function_call_output", "call_id": name, "output": name.upper()}

    said = {"type": "message", "role": "assistant", "content": "let me see"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    items = [{"role": "user", "content": "x"}, thought, said, call("a"), call("b"), result("b"), result("a"), call("c")]
    body = ResponseBody.model_validate_json(json.dumps({"model": "m", "input": [*items, result("c")]}))
    (turn,) = response_of(body, ServerSettings(), Declared()).turns
    assert [(message.role, message.content) for message in turn.messages] == [
        ("user", "x"),
        ("assistant", "let me see"),
        ("tool", "B"),
        ("tool", "A"),
        ("assistant", ""),
        ("tool", "C"),
    ]
    assert [[one.id for one in message.tool_calls] for message in turn.messages if message.role == "assistant"] == [
        ["a", "b"],
        ["c"],
    ]


@pytest.mark.parametrize(
    ("more", "thinking"),
    [
        ({}, None),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"effort": "high"}}, None),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning": {"effort": "none"}}, True),
    ],
    ids=["unsaid", "none", "high", "by name"],
)
def test_reasoning_is_turned_off_by_an_effort_of_none(more: dict[str, Any], thinking: bool | None) -> None:
    body = ResponseBody.model_validate_json(json.dumps({"model": "m", "input": "x", **more}))
    (turn,) = response_of(body, ServerSettings(), Declared()).turns
    assert turn.thinking is thinking
