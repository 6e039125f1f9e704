"""OpenAI's Agents SDK against a live server, by both of its models: Responses and chat completions."""

from __future__ import annotations

from typing import Any

import pytest
from agents.items import HandoffOutputItem, ToolCallOutputItem
from openai import AsyncOpenAI
from pydantic import BaseModel

from agentmux.testing import ScriptedEngine
from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from tests.server.live import Live
from tests.server.test_openai_client import QUESTION, own
from tests.server.two_models import PIECES, PLAN, prompts_of

QUIET = RunConfig(tracing_disabled=True)
"""The client would send what it did to OpenAI."""
KINDS = [OpenAIResponsesModel, OpenAIChatCompletionsModel]


class Weather(BaseModel):
    city: str
    degrees: int


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name.
    """
    return f"{city}: 21"


def agent(kind: type[Any], client: AsyncOpenAI, name: str, **options: Any) -> Agent[Any]:
    model: Model = kind(model=name, openai_client=client)
    return Agent(name=name, model=model, instructions=f"You are the {name}.", **options)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_is_called_and_its_result_is_taken(client: AsyncOpenAI, kind: type[Any]) -> None:
    planner = agent(kind, client, "planner", tools=[get_weather])
    result = await Runner.run(planner, "How warm is it?", run_config=QUIET)
    assert result.final_output == "It is 21 degrees."
    (output,) = [item.output for item in result.new_items if isinstance(item, ToolCallOutputItem)]
    assert output == "Lisbon: 21"


@pytest.mark.parametrize("kind", KINDS)
async def test_two_agents_with_two_models(
    scripted: tuple[Live, ScriptedEngine], client: AsyncOpenAI, kind: type[Any]
) -> None:
    plan = await Runner.run(agent(kind, client, "planner"), "Add.", run_config=QUIET)
    code = await Runner.run(agent(kind, client, "coder"), f"Follow: {plan.final_output}", run_config=QUIET)
    assert code.final_output == "print(1 + 2)"
    engine = scripted[1]
    assert [call.model for call in engine.calls] == ["planner", "coder"]
    assert "You are the coder." in prompts_of(engine, "coder")[0]
    assert plan.context_wrapper.usage.output_tokens > 0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_agent_hands_over_to_one_with_another_model(client: AsyncOpenAI, kind: type[Any]) -> None:
    planner = agent(kind, client, "planner", handoffs=[agent(kind, client, "coder")])
    result = await Runner.run(planner, "hand it over", run_config=QUIET)
    assert any(isinstance(item, HandoffOutputItem) for item in result.new_items)
    assert result.last_agent.name == "coder"
    assert result.final_output == "print(1 + 2)"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_typed_output_is_one(client: AsyncOpenAI, kind: type[Any]) -> None:
    result = await Runner.run(agent(kind, client, "planner", output_type=Weather), "How warm?", run_config=QUIET)
    assert result.final_output == Weather(city="Lisbon", degrees=21)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_with_a_tool_and_one_of_text(client: AsyncOpenAI, kind: type[Any]) -> None:
    called = Runner.run_streamed(agent(kind, client, "planner", tools=[get_weather]), "How warm?", run_config=QUIET)
    names = [event.name async for event in called.stream_events() if event.type == "run_item_stream_event"]
    assert names == ["tool_called", "tool_output", "message_output_created"]
    assert called.final_output == "It is 21 degrees."
    said = Runner.run_streamed(agent(kind, client, "planner"), "Add.", run_config=QUIET)
    deltas = [
        event.data.delta
        async for event in said.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert "".join(deltas) == "".join(PIECES) == PLAN == said.final_output


@pytest.mark.parametrize("kind", KINDS)
async def test_two_real_models(live: Live, kind: type[Any]) -> None:
    greedy = ModelSettings(temperature=0)
    async with AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        planner, coder = (agent(kind, client, name, model_settings=greedy) for name in ("planner", "coder"))
        plan = (await Runner.run(planner, QUESTION, run_config=QUIET)).final_output
        code = (await Runner.run(coder, plan, run_config=QUIET)).final_output
    assert plan == own(live, "planner").text
    assert code == own(live, "coder", question=plan).text
