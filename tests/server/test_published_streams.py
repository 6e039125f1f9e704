"""Agents and pipelines that are published: what is told of their answers while they run."""

from __future__ import annotations

import functools
from typing import Any

import openai
import pytest

from agentmux import Agent, Run, branch, pipeline, sequence
from agentmux.agent import resolve
from agentmux.messages import TurnAdmitted, TurnCancelled
from agentmux.server.published import _telling
from agentmux.testing import Answer, Failure
from tests.server.live import Live, chat
from tests.server.test_capacity import scripted

PIECES = ("good ", "day ", "to you")


def count(text: str) -> int:
    """Count."""
    return len(text)


class Greeter(Agent):
    """Says its answer in one turn."""

    model = "m"


class Counter(Greeter):
    """May call a tool before it answers."""

    tools = (count,)


class Loud(Greeter):
    """Makes something else of what it said."""

    async def run(self, ctx: Run, text: str) -> str:
        return (await ctx.ask(text)).upper()


class Number(Greeter):
    """Gives no text."""

    output = int


@pipeline
async def greet(ctx: Run, text: str) -> str:
    return await ctx.run(Greeter, text)


in_order = sequence(Loud, Greeter, name="in_order")
by_length = branch(len, {5: sequence(Counter, in_order)}, default=Loud, name="by_length")


@pipeline
@functools.wraps(in_order)
async def shouted(ctx: Run, text: str) -> str:
    return str(await in_order(ctx, text)).upper()


shouted.__name__ = "shouted"


def deltas_of_chat(client: openai.OpenAI, model: str) -> list[str]:
    chunks = client.chat.completions.create(**chat(model), stream=True)
    return [text for chunk in chunks if (text := chunk.choices[0].delta.content)]


def deltas_of_response(client: openai.OpenAI, model: str) -> list[str]:
    events = client.responses.create(model=model, input="Hello", stream=True)
    return [event.delta for event in events if event.type == "response.output_text.delta"]


@pytest.mark.parametrize("deltas_of", [deltas_of_chat, deltas_of_response])
def test_what_is_certain_to_be_the_answer_comes_as_it_is_generated(deltas_of: Any) -> None:
    step = Answer("".join(PIECES), chunks=PIECES)
    targets = (Greeter, Counter, Loud, greet, in_order, by_length, shouted)
    with Live(scripted(lambda _: step), targets=targets) as live:
        client = live.openai()
        for model in ("Greeter", "in_order", "by_length"):
            assert "".join(deltas_of(client, model)) == step.text
        assert deltas_of(client, "shouted") == [step.text.upper()]
        assert deltas_of(client, "Counter") == [step.text]
        assert deltas_of(client, "Loud") == [step.text.upper()]
        assert deltas_of(client, "greet") == [step.text]


def test_a_piece_is_there_while_the_turn_is_under_way_and_leaving_ends_it() -> None:
    with Live(scripted(lambda _: Answer("so far", hold=True)), targets=(Greeter,)) as live:
        with live.openai().responses.create(model="Greeter", input="Hello", stream=True) as stream:
            text = next(event.delta for event in stream if event.type == "response.output_text.delta")
            assert text == "so far"
            assert live.count(TurnCancelled) == 0
        live.wait_for(TurnCancelled)
        assert live.count(TurnAdmitted) == 1


def test_the_last_stage_of_pipelines_is_told_while_it_is_under_way() -> None:
    def script(request: Any) -> Answer:
        return Answer("so far", hold=True) if request.prompt.count("EARLIER") else Answer("earlier")

    with Live(scripted(script), targets=(in_order, by_length)) as live:
        for model in ("in_order", "by_length"):
            before = live.count(TurnCancelled)
            with live.openai().responses.create(model=model, input="Hello", stream=True) as stream:
                text = next(event.delta for event in stream if event.type == "response.output_text.delta")
                assert text == "so far"
            live.wait_for(TurnCancelled, before + 1)


def test_what_fails_before_its_first_word_has_a_status() -> None:
    with Live(scripted(lambda _: Failure(message="no more")), targets=(Greeter,)) as live:
        for path, body in (("chat/completions", chat("Greeter")), ("responses", {"model": "Greeter", "input": "x"})):
            failed = live.post(f"/v1/{path}", {**body, "stream": True})
            assert failed.status_code == 503
            assert "no more" in failed.json()["error"]["message"]


def test_a_response_of_a_run_has_its_usage_and_output() -> None:
    with Live(scripted(lambda _: Answer("7", prompt_tokens=5)), targets=(Number, greet)) as live:
        client = live.openai()
        for model in ("Number", "greet"):
            done = client.responses.create(model=model, input=[{"role": "user", "content": "how many?"}])
            assert done.output_text == "7"
            assert done.usage is not None
            assert done.usage.input_tokens == 5
        with pytest.raises(openai.BadRequestError, match="knows no n, tools"):
            client.responses.create(model="greet", input="x", text={"format": {"type": "json_object"}})


def test_an_agent_that_tells_is_otherwise_the_one_that_was_published() -> None:
    class Mine(Greeter):
        def __init__(self) -> None:
            self.own = "kept"

    agent = Mine()
    telling = _telling(agent, print)
    assert resolve(telling)[0] == "Mine"
    assert telling.own == "kept"
    assert telling is not agent
    assert "run" not in vars(agent)
    assert [_telling(one, print) for one in (Counter, Loud, Number, greet)] == [Counter, Loud, Number, greet]
