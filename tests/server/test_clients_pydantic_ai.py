"""pydantic-ai against a live server, by both of its models for OpenAI's interfaces."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from agentmux.testing import ScriptedEngine
from tests.server.live import Live
from tests.server.test_openai_client import QUESTION, own
from tests.server.two_models import PLAN, prompts_of

KINDS = [OpenAIResponsesModel, OpenAIChatModel]


class Weather(BaseModel):
    city: str
    degrees: int


async def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: 21"


@pytest.fixture
def provider(client: AsyncOpenAI) -> OpenAIProvider:
    return OpenAIProvider(openai_client=client)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_is_called_and_its_result_is_taken(provider: OpenAIProvider, kind: type[Any]) -> None:
    agent = Agent(kind("planner", provider=provider), tools=[get_weather])
    result = await agent.run("How warm is it?")
    assert result.output == "It is 21 degrees."
    assert [part.part_kind for message in result.all_messages() for part in message.parts] == [
        "user-prompt",
        "tool-call",
        "tool-return",
        "text",
    ]
    assert result.usage.output_tokens > 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_typed_output_is_one(provider: OpenAIProvider, kind: type[Any]) -> None:
    model = kind("planner", provider=provider)
    expected = Weather(city="Lisbon", degrees=21)
    assert (await Agent(model, output_type=NativeOutput(Weather)).run("How warm?")).output == expected
    assert (await Agent(model, output_type=Weather).run("How warm?")).output == expected


@pytest.mark.parametrize("kind", KINDS)
async def test_two_agents_with_two_models(
    scripted: tuple[Live, ScriptedEngine], provider: OpenAIProvider, kind: type[Any]
) -> None:
    planner = Agent(kind("planner", provider=provider), instructions="You are the planner.")
    coder = Agent(kind("coder", provider=provider), instructions="You are the coder.")
    plan = await planner.run("Add.")
    code = await coder.run(f"Follow: {plan.output}")
    assert code.output == "print(1 + 2)"
    assert [call.model for call in scripted[1].calls] == ["planner", "coder"]
    assert "You are the coder." in prompts_of(scripted[1], "coder")[0]
    again = await planner.run("And now?", message_history=plan.all_messages())
    assert again.output == PLAN
    assert PLAN in prompts_of(scripted[1], "planner")[1]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream(provider: OpenAIProvider, kind: type[Any]) -> None:
    async with Agent(kind("planner", provider=provider)).run_stream("Add.") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        assert "".join(pieces) == PLAN
    async with Agent(kind("planner", provider=provider), tools=[get_weather]).run_stream("How warm?") as result:
        assert await result.get_output() == "It is 21 degrees."


@pytest.mark.parametrize("kind", KINDS)
async def test_two_real_models(live: Live, kind: type[Any]) -> None:
    async with AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        provider = OpenAIProvider(openai_client=client)
        planner, coder = (
            Agent(kind(name, provider=provider), model_settings={"temperature": 0}) for name in ("planner", "coder")
        )
        plan = (await planner.run(QUESTION)).output
        code = (await coder.run(plan)).output
    assert plan == own(live, "planner").text
    assert code == own(live, "coder", question=plan).text
