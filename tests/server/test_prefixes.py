"""Conversations without a name find their KV cache again, and say the same as without it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentmux import Runtime
from agentmux.config import ModelSpec
from agentmux.messages import Event, TurnAdmitted, TurnCancelled
from agentmux.models import bundled_models
from agentmux.server import ServerSettings
from agentmux.testing import Answer, ScriptedEngine
from tests.server.live import Live, chat

PATH = "/v1/chat/completions"


def native(observers: list[Callable[[Event], None]]) -> Runtime:
    """The demonstration models on one thread."""
    return Runtime(models=bundled_models(), device="cpu", threads=1, config=False, observers=observers)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def conversation(live: Live, model: str, questions: list[str], stream: bool = False) -> tuple[list[str], list[int]]:
    """[question] what a client that keeps the conversation is answered, and prompt tokens that were found."""
    messages: list[Any] = []
    cached = []
    for question in questions:
        messages.append(user(question))
        body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 40}
        if stream:
            more = {"stream": True, "stream_options": {"include_usage": True}}
            chunks = list(live.openai().chat.completions.create(**body, **more))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            usage = chunks[-1].usage.model_dump()
        else:
            answer = live.post(PATH, body).json()
            text, usage = answer["choices"][0]["message"]["content"], answer["usage"]
        messages.append({"role": "assistant", "content": text})
        cached.append(usage["prompt_tokens_details"]["cached_tokens"])
    return [message["content"] for message in messages[1::2]], cached


QUESTIONS = ["sort the even numbers", "keep the numbers above 3", "now the odd ones"]


@pytest.mark.parametrize("model", ["planner", "coder", "critic"])
def test_what_is_found_changes_no_answer(live: Live, reusing: Live, model: str) -> None:
    expected, none = conversation(live, model, QUESTIONS)
    assert none == [0, 0, 0]
    for stream in (False, True, False):
        answers, cached = conversation(reusing, model, QUESTIONS, stream)
        assert answers == expected
        assert cached[0] == 0
        assert 0 < cached[1] < cached[2]


@pytest.fixture(scope="module")
def reusing() -> Any:
    """A server that reuses prefixes."""
    with Live(native, ServerSettings(port=0, reuse_prefixes=8)) as server:
        yield server


def test_many_at_once_with_one_beginning_are_answered_as_one_alone(live: Live, reusing: Live) -> None:
    (first,), _ = conversation(reusing, "planner", QUESTIONS[:1])
    begun = [user(QUESTIONS[0]), {"role": "assistant", "content": first}]
    bodies = [
        {"model": "planner", "messages": [*begun, user(f"keep those above {at % 4}")], "temperature": 0}
        for at in range(12)
    ]
    expected = [live.post(PATH, body).json()["choices"][0]["message"]["content"] for body in bodies]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda body: reusing.post(PATH, body).json(), bodies))
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == expected
    # One of them went on with the session; whoever came while it was in use began anew.
    assert any(answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers)


def scripted(say: Callable[[Any], Answer]) -> tuple[ScriptedEngine, Callable[[list[Callable[[Event], None]]], Runtime]]:
    """An engine, and what makes a runtime of it."""
    engine = ScriptedEngine({"m": say}, strict=False)
    return engine, lambda observers: Runtime(models=engine.models, engine=engine, config=False, observers=observers)


def ask(live: Live, *texts: str, **more: Any) -> None:
    """A conversation in which user and model speak in turn."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
    assert live.post(PATH, {"model": "m", "messages": messages, **more}).status_code == 200


def test_which_session_a_conversation_gets() -> None:
    engine, make = scripted(lambda _: Answer(" yes "))
    with Live(make, ServerSettings(port=0, reuse_prefixes=2)) as live:
        ask(live, "a")
        ask(live, "a", "yes", "b")  # goes on; the spaces are the client's business
        ask(live, "a", " yes ", "b", "yes", "c")
        ask(live, "a", " yes ", "b", "yes", "d")  # the last answer once more
        ask(live, "a", "no", "b")  # another conversation
        ask(live, "a", "yes", "b", session="mine")
        ask(live, "x", n=2)  # several answers: none of them is the conversation's
        sessions = [request.session for request in engine.calls]
        assert sessions[0] is not None
        assert sessions[0] == sessions[1] == sessions[2] == sessions[3]
        assert sessions[4] not in (None, sessions[0])
        assert sessions[5] not in (None, sessions[0], sessions[4])
        assert sessions[6:] == [None, None]
        assert engine.forgotten == []
        ask(live, "new")
        assert engine.forgotten == [("m", sessions[0])]


def test_without_the_setting_turns_have_no_session() -> None:
    engine, make = scripted(lambda _: Answer("yes"))
    with Live(make) as live:
        ask(live, "a")
        ask(live, "a", "yes", "b")
    assert [request.session for request in engine.calls] == [None, None]


def test_a_turn_that_was_cancelled_leaves_no_session() -> None:
    engine, make = scripted(lambda _: Answer("so far", hold=True))
    with Live(make, ServerSettings(port=0, reuse_prefixes=2)) as live:
        stream = live.openai().chat.completions.create(**chat("m"), stream=True)
        live.wait_for(TurnAdmitted)
        stream.close()
        live.wait_for(TurnCancelled)
        live.on_loop(_idle)
    assert engine.forgotten == [("m", engine.calls[0].session)]


def test_a_session_in_use_is_not_waited_for() -> None:
    engine, _ = scripted(lambda request: Answer("yes", hold="wait" in str(request.prompt)))
    models = {"m": ModelSpec("m.gguf", slots=2)}

    def make(observers: list[Callable[[Event], None]]) -> Runtime:
        return Runtime(models=models, engine=engine, config=False, observers=observers)

    with Live(make, ServerSettings(port=0, reuse_prefixes=4)) as live:
        ask(live, "a")
        begun: list[Any] = [user("a"), {"role": "assistant", "content": "yes"}]
        stream = live.openai().chat.completions.create(model="m", messages=[*begun, user("wait")], stream=True)
        live.wait_for(TurnAdmitted, 2)
        ask(live, "a", "yes", "b")
        stream.close()
        live.wait_for(TurnCancelled)
        live.on_loop(_idle)
        ask(live, "a", "yes", "c")
    first, held, beside, after = [request.session for request in engine.calls]
    assert first == held == after  # the cancelled turn's session is still what the first one left
    assert beside not in (None, first)


async def _idle() -> None:
    """What is about to be done is done."""


def test_answers_that_are_the_same_are_one_conversation() -> None:
    engine, make = scripted(lambda _: Answer("yes"))
    with Live(make, ServerSettings(port=0, reuse_prefixes=4)) as live:
        ask(live, "a")
        ask(live, "a")
        first, second = [request.session for request in engine.calls]
        assert first != second
        assert engine.forgotten == [("m", first)]
        ask(live, "a", "yes", "b")
        assert engine.calls[-1].session == second
