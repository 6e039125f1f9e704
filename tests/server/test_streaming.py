"""How an answer is cut into pieces on its way: fewer where someone is slow, the same in the end."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux.chatting import ChatAnswer, ChatDelta, ChatEvent, ChatRequest, ChatStarted
from agentmux.messages import Message, TokenLogprob, TurnCompleted
from agentmux.server.answers import Form, merged, sse
from tests.server.live import Live, chat

DELTAS = st.builds(
    ChatDelta,
    st.text(max_size=3),
    st.lists(st.builds(TokenLogprob, st.integers(0, 9), st.floats(-9, 0), st.just(())), max_size=2).map(tuple),
)
OTHERS: st.SearchStrategy[ChatEvent] = st.builds(ChatStarted, st.floats(0, 1))


@given(st.lists(st.tuples(st.integers(0, 2), DELTAS | OTHERS)))
def test_deltas_that_wait_are_one(waiting: list[tuple[int, ChatEvent]]) -> None:
    result = merged(waiting)

    def of(events: list[tuple[int, ChatEvent]], number: int) -> list[object]:
        """What a choice says: tokens and characters between its other events."""
        said: list[object] = ["", ()]
        for choice, event in events:
            if choice == number and isinstance(event, ChatDelta):
                said[-2:] = [str(said[-2]) + event.text, (*said[-1], *event.logprobs)]  # type: ignore[misc]
            elif choice == number:
                said += [event, "", ()]
        return said

    for number in range(3):
        assert of(result, number) == of(waiting, number)
        kinds = [isinstance(event, ChatDelta) for choice, event in result if choice == number]
        assert (True, True) not in pairwise(kinds)


@given(st.text())
def test_a_form_is_what_json_would_write(text: str) -> None:
    def document(text: str) -> dict[str, object]:
        return {"a": 1, "model": 'x"\\u0000', "choices": [{"delta": {"content": text}}]}

    assert Form(document).filled(text) == sse(document(text))
    assert json.loads(Form(document).filled(text)[len("data: ") :]) == document(text)


@pytest.mark.parametrize("make", [lambda text: {}, lambda text: [text, text]], ids=["no place", "two places"])
def test_a_form_has_one_place(make: object) -> None:
    with pytest.raises(ValueError, match="once"):
        Form(make)  # type: ignore[arg-type]


def test_who_reads_late_gets_one_delta_with_all_log_probabilities(live: Live) -> None:
    async def read() -> list[ChatEvent]:
        before = live.count(TurnCompleted)
        request = ChatRequest("planner", (Message("user", "sort the even numbers"),), logprobs=1)
        async with aclosing(live.mux.chat(request)) as events:
            first = await anext(events)
            await asyncio.to_thread(live.wait_for, TurnCompleted, before + 1)
            return [first, *[event async for event in events]]

    started, delta, answer = live.on_loop(read)
    assert isinstance(started, ChatStarted)
    assert isinstance(delta, ChatDelta)
    assert isinstance(answer, ChatAnswer)
    assert delta.text == answer.text
    assert delta.logprobs == answer.completion.logprobs
    assert len(delta.logprobs) == answer.completion.stats.generated_tokens > 3


def test_several_streamed_choices_are_those_of_the_whole_answer(live: Live) -> None:
    client = live.openai()
    body = chat("coder", "keep the numbers above 3", n=3, seed=5, temperature=0.9, logprobs=True, top_logprobs=1)
    whole = client.chat.completions.create(**body)
    texts, logprobs, ends = [""] * 3, [[] for _ in range(3)], [[] for _ in range(3)]  # type: ignore[var-annotated]
    for chunk in client.chat.completions.create(**body, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        logprobs[choice.index] += choice.logprobs.content or [] if choice.logprobs else []
        ends[choice.index].append(choice.finish_reason)
    assert texts == [choice.message.content for choice in whole.choices]
    assert [[one.token for one in given] for given in logprobs] == [
        [one.token for one in choice.logprobs.content or ()] for choice in whole.choices if choice.logprobs
    ]
    assert [end[-1] for end in ends] == [choice.finish_reason for choice in whole.choices]
    assert all(set(end[:-1]) == {None} for end in ends)


def test_text_completions_stream_with_and_without_log_probabilities(live: Live) -> None:
    client = live.openai()
    for logprobs in (None, 2):
        body = {"model": "planner", "prompt": ["a", "b"], "temperature": 0.0, "max_tokens": 12, "logprobs": logprobs}
        whole = client.completions.create(**body)  # type: ignore[call-overload]
        texts, tokens = ["", ""], [[], []]  # type: ignore[var-annotated]
        for chunk in client.completions.create(**body, stream=True):  # type: ignore[call-overload]
            (choice,) = chunk.choices
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens if choice.logprobs else []
        assert texts == [choice.text for choice in whole.choices]
        assert tokens == [choice.logprobs.tokens if choice.logprobs else [] for choice in whole.choices]
