"""OpenAI's own client against a live server with real models."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from agentmux import TurnAdmitted, TurnCancelled
from agentmux.chatting import ChatAnswer, ChatRequest
from agentmux.messages import Message
from tests.server.live import Live, chat

QUESTION = "sort the even numbers"
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
ADD: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two digits.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"enum": [1, 2]}},
            "required": ["a", "b"],
        },
    },
}
COUNT: ChatCompletionToolParam = {"type": "function", "function": {"name": "count"}}


class Verdict(BaseModel):
    good: bool
    grade: Literal["high", "low"]


def own(live: Live, model: str, question: str = QUESTION, **options: Any) -> ChatAnswer:
    """What the runtime itself answers."""

    async def ask() -> ChatAnswer:
        request = ChatRequest(model, (Message("user", question),), **options)
        async with aclosing(live.mux.chat(request)) as events:
            *_, last = [event async for event in events]
        assert isinstance(last, ChatAnswer)
        return last

    return live.on_loop(ask)


def test_a_plain_answer_is_the_runtimes_own(live: Live) -> None:
    expected = own(live, "planner")
    done = live.openai().chat.completions.create(model="planner", messages=ASKED, temperature=0)
    (choice,) = done.choices
    assert choice.message.content == expected.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert done.model == "planner"
    assert done.usage is not None
    stats = expected.completion.stats
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (stats.prompt_tokens, stats.generated_tokens)
    assert done.usage.total_tokens == stats.prompt_tokens + stats.generated_tokens


def test_a_stream_is_the_same_answer_in_pieces(live: Live) -> None:
    expected = own(live, "planner")
    stream = live.openai().chat.completions.create(
        model="planner", messages=ASKED, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == expected.text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert not chunks[-1].choices
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == expected.completion.stats.generated_tokens


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_tool_is_called_with_valid_arguments(live: Live, choice: Any) -> None:
    done = live.openai().chat.completions.create(
        model="planner", messages=ASKED, tools=[ADD], tool_choice=choice, parallel_tool_calls=False, temperature=0
    )
    (one,) = done.choices
    assert one.finish_reason == "tool_calls"
    assert one.message.content is None
    assert one.message.tool_calls is not None
    (call,) = one.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "add"
    arguments = json.loads(call.function.arguments)
    assert 0 <= arguments["a"] <= 9
    assert arguments["b"] in (1, 2)


def test_a_streamed_call_is_the_same_and_its_result_is_taken(live: Live) -> None:
    client, options = live.openai(), {"tools": [ADD], "tool_choice": "required", "parallel_tool_calls": False}
    plain = client.chat.completions.create(model="planner", messages=ASKED, temperature=0, **options)  # type: ignore[call-overload]
    with client.chat.completions.stream(model="planner", messages=ASKED, temperature=0, **options) as stream:
        streamed = stream.get_final_completion()
    (call,) = plain.choices[0].message.tool_calls
    (same,) = streamed.choices[0].message.tool_calls or ()
    assert (same.function.name, same.function.arguments) == (call.function.name, call.function.arguments)
    assert streamed.choices[0].finish_reason == "tool_calls"
    more = [*ASKED, plain.choices[0].message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "3"}]
    last = client.chat.completions.create(
        model="planner", messages=more, tools=[ADD], tool_choice="none", max_tokens=20
    )
    assert last.choices[0].message.tool_calls is None


def test_a_tool_that_may_not_be_called_is_not(live: Live) -> None:
    done = live.openai().chat.completions.create(
        model="planner", messages=ASKED, tools=[ADD, COUNT], tool_choice="none", temperature=0, max_tokens=40
    )
    assert done.choices[0].message.tool_calls is None
    assert done.choices[0].message.content


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_of_a_type_is_one(live: Live, seed: int) -> None:
    done = live.openai().chat.completions.parse(
        model="critic", messages=ASKED, response_format=Verdict, temperature=1.5, seed=seed
    )
    assert isinstance(done.choices[0].message.parsed, Verdict)


def test_any_json_object(live: Live) -> None:
    done = live.openai().chat.completions.create(
        model="planner", messages=ASKED, response_format={"type": "json_object"}, temperature=0
    )
    assert isinstance(json.loads(done.choices[0].message.content or ""), dict)


def test_log_probabilities_have_their_tokens_texts(live: Live) -> None:
    done = live.openai().chat.completions.create(
        model="coder", messages=ASKED, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3
    )
    (choice,) = done.choices
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(one.token for one in tokens) == choice.message.content
    assert b"".join(bytes(one.bytes or []) for one in tokens).decode() == choice.message.content
    assert all(len(one.top_logprobs) == 3 and one.logprob <= 0 for one in tokens)
    assert all(one.top_logprobs[0].token == one.token for one in tokens)  # greedy
    stream = live.openai().chat.completions.create(
        model="coder", messages=ASKED, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3, stream=True
    )
    streamed = [
        one
        for chunk in stream
        if chunk.choices and chunk.choices[0].logprobs
        for one in chunk.choices[0].logprobs.content or []
    ]
    assert streamed == tokens


def test_several_choices_each_with_a_seed_of_its_own(live: Live) -> None:
    client = live.openai()
    options: dict[str, Any] = {"model": "coder", "messages": ASKED, "temperature": 1.8, "max_tokens": 12}
    done = client.chat.completions.create(**options, n=3, seed=7)
    texts = [choice.message.content for choice in done.choices]
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    alone = [client.chat.completions.create(**options, seed=7 + i).choices[0].message.content for i in range(3)]
    assert texts == alone
    assert len(set(texts)) > 1
    assert done.usage is not None
    one = client.chat.completions.create(**options, seed=7)
    assert one.usage is not None
    assert done.usage.prompt_tokens == one.usage.prompt_tokens


def test_what_ends_and_bends_an_answer(live: Live) -> None:
    client = live.openai()
    options: dict[str, Any] = {"model": "planner", "messages": ASKED, "temperature": 0}
    whole = client.chat.completions.create(**options).choices[0].message.content or ""
    stopped = client.chat.completions.create(**options, stop=["are", "never"]).choices[0]
    assert stopped.message.content == whole[: whole.index("are")]
    assert stopped.finish_reason == "stop"
    cut = client.chat.completions.create(**options, max_completion_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 2
    first = own(live, "planner").completion.tokens[0]
    banned = client.chat.completions.create(**options, max_tokens=4, logit_bias={str(first): -100})
    assert not whole.startswith(banned.choices[0].message.content or "?")


def test_a_session_finds_its_kv_cache_again(live: Live) -> None:
    client, more = live.openai(), {"session": "mine"}
    first = client.chat.completions.create(model="critic", messages=ASKED, temperature=0, extra_body=more)
    again = client.chat.completions.create(model="critic", messages=ASKED, temperature=0, extra_body=more)
    assert first.choices[0].message.content == again.choices[0].message.content
    cached = [done.usage.prompt_tokens_details.cached_tokens for done in (first, again)]  # type: ignore[union-attr]
    assert cached[0] == 0
    assert (cached[1] or 0) > 0


def test_text_completions(live: Live) -> None:
    async def generated() -> Any:
        return await live.mux.generate("coder", "def f", max_tokens=8)

    expected = live.on_loop(generated)
    client = live.openai()
    done = client.completions.create(model="coder", prompt="def f", temperature=0, max_tokens=8, logprobs=2)
    assert done.choices[0].text == expected.text
    assert done.choices[0].finish_reason == "length"
    assert done.choices[0].logprobs is not None
    assert "".join(done.choices[0].logprobs.tokens or []) == expected.text
    stream = client.completions.create(model="coder", prompt="def f", temperature=0, max_tokens=8, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == expected.text
    both = client.completions.create(model="coder", prompt=["def f", "def g"], temperature=0, max_tokens=8)
    assert both.choices[0].text == expected.text
    assert len(both.choices) == 2


def test_the_models_and_their_state(live: Live) -> None:
    client = live.openai()
    listed = list(client.models.list())
    assert [one.id for one in listed] == ["planner", "coder", "critic"]
    one = client.models.retrieve("coder")
    state = one.model_dump()["agentmux"]
    assert state["kind"] == "model"
    assert state["context_tokens"] == 1024
    assert 0 <= state["resident_share"] <= 1
    assert (state["active"], state["waiting"]) == (0, 0)
    assert len(state["units"]) > 1


def test_errors_are_the_clients_own(live: Live) -> None:
    client = live.openai()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=ASKED)
    assert unknown.value.code == "model_not_found"
    assert "planner, coder, critic" in str(unknown.value)
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="coder", messages=[{"role": "user", "content": "sort " * 3000}])
    assert long.value.code == "context_length_exceeded"
    assert isinstance(long.value.body, dict)
    assert long.value.body["numbers"]["context_tokens"] == 1024
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("/etc/passwd")


def test_a_client_that_leaves_its_stream_ends_the_turn(live: Live) -> None:
    before = live.count(TurnCancelled)
    stream = live.openai().chat.completions.create(
        model="coder", messages=ASKED, temperature=1.0, stream=True, extra_body={"min_p": 0}, logit_bias=endless(live)
    )
    next(iter(stream))
    stream.close()
    live.wait_for(TurnCancelled, before + 1)


def test_a_client_that_does_not_wait_for_its_answer_ends_the_turn(live: Live) -> None:
    before, admitted = live.count(TurnCancelled), live.count(TurnAdmitted)
    body = json.dumps(chat("coder", logit_bias=endless(live))).encode()
    with live.raw() as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        live.wait_for(TurnAdmitted, admitted + 1)
    live.wait_for(TurnCancelled, before + 1)


def endless(live: Live) -> dict[str, int]:
    """A bias by which a model does not end its answer before the context does."""
    vocabulary = live.on_loop(lambda: live.mux.vocabulary("coder"))
    return {str(token): -100 for token, text in enumerate(vocabulary) if text == b"<|end|>"}
