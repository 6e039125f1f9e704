"""OpenAI's own client and `/v1/responses`, against a live server with real models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseInputParam, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from agentmux import TurnAdmitted, TurnCancelled
from agentmux.chatting import ChatAnswer
from agentmux.messages import ToolCall
from agentmux.server.responses_output import Output
from agentmux.testing import Answer, Failure
from tests.server.live import Live, code_of
from tests.server.test_capacity import scripted
from tests.server.test_openai_client import QUESTION, own

ADD: Any = {
    "type": "function",
    "name": "add",
    "description": "Add two digits.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"enum": [1, 2]}},
        "required": ["a", "b"],
    },
    "strict": True,
}
CALLS: dict[str, Any] = {"tools": [ADD], "tool_choice": "required", "parallel_tool_calls": False}


class Verdict(BaseModel):
    good: bool
    grade: Literal["high", "low"]


def events_in(response: httpx.Response) -> list[Any]:
    """A stream's events, each of which must be one that OpenAI knows, under its own name and with the next number."""
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for number, block in enumerate(response.text.removesuffix("\n\n").split("\n\n")):
        name, data = block.split("\n")
        event = TypeAdapter[Any](ResponseStreamEvent).validate_json(data.removeprefix("data: "))
        assert name == f"event: {event.type}"
        assert event.sequence_number == number
        events.append(event)
    return events


def kinds_of(events: Sequence[Any]) -> list[str]:
    """What happened, with several deltas of one text as one."""
    kinds = [event.type.removeprefix("response.") for event in events]
    return [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]


def streamed(live: Live, **body: Any) -> list[Any]:
    return events_in(live.post("/v1/responses", {"model": "planner", "input": QUESTION, "stream": True, **body}))


def test_a_plain_response_is_the_runtimes_own(live: Live) -> None:
    expected = own(live, "planner")
    done = live.openai().responses.create(
        model="planner", input=QUESTION, temperature=0, metadata={"of": "mine"}, store=True
    )
    assert done.output_text == expected.text
    assert done.status == "completed"
    assert done.store is False  # type: ignore[attr-defined]
    assert done.metadata == {"of": "mine"}
    assert done.usage is not None
    stats = expected.completion.stats
    assert (done.usage.input_tokens, done.usage.output_tokens) == (stats.prompt_tokens, stats.generated_tokens)
    Response.model_validate(done.model_dump(warnings=False))


def test_a_stream_is_the_same_answer_in_the_order_that_clients_expect(live: Live) -> None:
    expected = own(live, "planner")
    events = streamed(live, temperature=0)
    assert kinds_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == expected.text
    assert deltas  # how many there are depends on how busy the server is
    assert events[0].response.output == []
    assert events[-1].response.output_text == expected.text
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {events[-1].response.output[0].id}


def test_the_clients_own_stream(live: Live) -> None:
    with live.openai().responses.stream(model="planner", input=QUESTION, temperature=0) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.output_text == "".join(pieces) == own(live, "planner").text


def test_an_answer_of_a_type_is_one(live: Live) -> None:
    client = live.openai()
    parsed = client.responses.parse(model="critic", input=QUESTION, text_format=Verdict, temperature=1.5)
    assert isinstance(parsed.output_parsed, Verdict)
    with client.responses.stream(model="critic", input=QUESTION, text_format=Verdict, temperature=1.5) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_response().output_parsed, Verdict)
    done = client.responses.create(model="planner", input=QUESTION, text={"format": {"type": "json_object"}})
    assert isinstance(json.loads(done.output_text), dict)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "add"}])
def test_a_call_and_its_result(live: Live, choice: Any) -> None:
    client = live.openai()
    options: dict[str, Any] = {**CALLS, "tool_choice": choice, "temperature": 0}
    done = client.responses.create(model="planner", input=QUESTION, **options)
    (call,) = done.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.name == "add"
    assert json.loads(call.arguments).keys() == {"a", "b"}
    conversation: ResponseInputParam = [{"role": "user", "content": QUESTION}]
    conversation += [item.model_dump() for item in done.output]  # type: ignore[misc]
    conversation += [{"type": "function_call_output", "call_id": call.call_id, "output": "3"}]
    last = client.responses.create(
        model="planner", input=conversation, tools=[ADD], tool_choice="none", max_output_tokens=20
    )
    assert last.output_text


def test_a_streamed_call(live: Live) -> None:
    events = streamed(live, **CALLS, temperature=0)
    assert kinds_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    (call,) = events[-1].response.output
    assert events[2].item.arguments == ""
    assert events[4].arguments == call.arguments
    with live.openai().responses.stream(model="planner", input=QUESTION, temperature=0, **CALLS) as stream:
        (same,) = stream.get_final_response().output
    assert isinstance(same, ResponseFunctionToolCall)
    assert (same.name, same.arguments) == (call.name, call.arguments)


def test_instructions_and_items_are_the_same_conversation_as_a_chats(live: Live) -> None:
    client = live.openai()
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "again"},
    ]
    chat = client.chat.completions.create(model="planner", messages=messages, temperature=0)
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
        {"role": "user", "content": "again"},
    ]
    done = client.responses.create(model="planner", instructions="Be brief.", input=items, temperature=0)
    assert done.output_text == chat.choices[0].message.content
    assert done.usage is not None
    assert chat.usage is not None
    assert done.usage.input_tokens == chat.usage.prompt_tokens


def test_what_was_cut_is_incomplete(live: Live) -> None:
    done = live.openai().responses.create(model="planner", input=QUESTION, temperature=0, max_output_tokens=2)
    assert done.status == "incomplete"
    assert done.incomplete_details is not None
    assert done.incomplete_details.reason == "max_output_tokens"
    assert done.usage is not None
    assert done.usage.output_tokens == 2
    events = streamed(live, temperature=0, max_output_tokens=2)
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == done.output_text


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"previous_response_id": "resp_1"}, "unsupported", "previous_response_id"),
        ({"conversation": "conv_1"}, "unsupported", "conversation"),
        ({"background": True}, "unsupported", "background"),
        ({"max_tokens": 5}, "unsupported", "max_tokens"),
        ({"n": 2}, "unsupported", "n"),
        ({"stream_options": {"include_obfuscation": False}}, "invalid_value", "stream_options"),
        ({"prompt": {"id": "pmpt_1"}}, "unsupported", "prompt"),
        ({"tools": [{"type": "web_search"}]}, "unsupported", "tools.0"),
        ({"tools": [{"type": "function"}]}, "invalid_value", "tools.0.name"),
        ({"tools": [ADD, ADD]}, "invalid_value", "tools"),
        ({"tool_choice": {"type": "file_search"}}, "unsupported", "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "invalid_value", "tool_choice"),
        ({"include": ["message.output_text.logprobs"]}, "unsupported", "include"),
        ({"top_logprobs": 3}, "unsupported", "top_logprobs"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "invalid_value", "text.format.schema"),
        ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
        ({"input": []}, "invalid_value", "input.items"),
        ({"input": [{"type": "reasoning"}]}, "invalid_value", "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "unsupported", "input.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "unsupported", "input.0"),
        ({"input": [{"role": "user"}]}, "invalid_value", "input.0"),
        ({"input": [{"content": "x"}]}, "invalid_value", "input.0.role"),
        (
            {"input": [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "no"}]},
            "invalid_value",
            "input.0.arguments",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "1", "output": "3"}]},
            "invalid_value",
            "input.0.call_id",
        ),
        ({"input": [{"role": "user", "content": "x"}] * 1001}, "too_many_messages", "input"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_what_is_not_there_is_refused(live: Live, more: dict[str, Any], code: str, param: str) -> None:
    refused = live.post("/v1/responses", {"model": "planner", "input": "x", **more})
    assert refused.status_code == 400
    assert code_of(refused) == code
    assert refused.json()["error"]["param"] == param


def test_what_is_not_stored_and_what_is_not_offered_is_not_found(live: Live) -> None:
    client = live.openai()
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError, match="embeddings are not offered"):
        client.embeddings.create(model="planner", input="x")
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="gpt-4", input="x")
    assert unknown.value.code == "model_not_found"


def test_a_client_that_leaves_its_stream_ends_the_turn() -> None:
    with Live(scripted(lambda _: Answer("so far", hold=True))) as live:
        stream = live.openai().responses.create(model="m", input="x", stream=True)
        live.wait_for(TurnAdmitted)
        next(iter(stream))
        stream.close()
        live.wait_for(TurnCancelled)


def test_what_goes_wrong_in_a_stream_is_its_last_event() -> None:
    with Live(scripted(lambda _: Failure(message="no more"))) as live:
        events = events_in(live.post("/v1/responses", {"model": "m", "input": "x", "stream": True}))
        failed = events[-1]
        assert failed.type == "response.failed"
        assert failed.response.error.code == "server_error"
        assert "no more" in failed.response.error.message
        assert failed.response.output == []


def answer(text: str, **more: Any) -> ChatAnswer:
    return ChatAnswer(text, finish_reason="stop", completion=None, **more)  # type: ignore[arg-type]


def test_what_was_reasoned_is_an_item_before_the_answer() -> None:
    told, whole = Output(), Output()
    told.reason("Hmm.")
    told.say("4")
    for output in (told, whole):
        output.end(answer("42", reasoning="Hmm.", tool_calls=()))
        reasoning, message = output.items
        assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
        assert message["content"][0]["text"] == "42"


@pytest.mark.parametrize("pieces", [[], [" "], ["\n", "\n"]])
def test_white_space_before_a_call_is_no_message(pieces: list[str]) -> None:
    output = Output()
    for piece in pieces:
        assert output.say(piece) == ""
    output.end(answer("".join(pieces), reasoning="", tool_calls=(ToolCall("1", "f", "{}"),)))
    assert [item["type"] for item in output.items] == ["function_call"]


@pytest.mark.parametrize("text", ["", " ", "a", " a ", "\na\n"])
def test_all_of_an_answer_without_calls_is_told(text: str) -> None:
    output = Output()
    events = "".join(output.say(one) for one in text[:-1]) + output.end(answer(text, reasoning="", tool_calls=()))
    deltas = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    assert "".join(event["delta"] for event in deltas if event["type"] == "response.output_text.delta") == text
    assert output.items[0]["content"][0]["text"] == text
