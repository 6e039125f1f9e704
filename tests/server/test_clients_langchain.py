"""LangChain's ChatOpenAI against a live server, by chat completions and by Responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from agentmux.testing import ScriptedEngine
from tests.server.live import Live
from tests.server.test_openai_client import QUESTION, own
from tests.server.two_models import PLAN

Model = Callable[..., ChatOpenAI]
RESPONSES = [False, True]


class Weather(BaseModel):
    """A city's weather."""

    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: 21"


@pytest.fixture
def model(scripted: tuple[Live, ScriptedEngine], monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("LANGSMITH_TRACING", "false")

    def made(name: str, responses: bool, **options: Any) -> ChatOpenAI:
        return ChatOpenAI(
            model=name,
            base_url=f"{scripted[0].url}/v1",
            api_key=SecretStr("none"),
            max_retries=0,
            use_responses_api=responses,
            **options,
        )

    return made


@pytest.mark.parametrize("responses", RESPONSES)
def test_an_answer_plain_and_streamed(model: Model, responses: bool) -> None:
    planner = model("planner", responses)
    done = planner.invoke("Add.")
    assert done.text == PLAN
    assert done.usage_metadata is not None
    assert done.usage_metadata["output_tokens"] > 0
    pieces = [chunk.text for chunk in planner.stream("Add.") if chunk.text]
    assert "".join(pieces) == PLAN


@pytest.mark.parametrize("responses", RESPONSES)
def test_a_tool_is_called_and_its_result_is_taken(model: Model, responses: bool) -> None:
    planner = model("planner", responses).bind_tools([get_weather])
    asked = HumanMessage("How warm is it?")
    called = planner.invoke([asked])
    assert isinstance(called, AIMessage)
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Lisbon"})
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert planner.invoke([asked, called, result]).text == "It is 21 degrees."


@pytest.mark.parametrize("responses", RESPONSES)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_typed_output_is_one(model: Model, responses: bool, method: Any) -> None:
    typed = model("planner", responses).with_structured_output(Weather, method=method)
    assert typed.invoke("How warm?") == Weather(city="Lisbon", degrees=21)


@pytest.mark.parametrize("responses", RESPONSES)
def test_two_models_in_a_chain(scripted: tuple[Live, ScriptedEngine], model: Model, responses: bool) -> None:
    chain = model("planner", responses) | (lambda plan: f"Follow: {plan.text}") | model("coder", responses)
    assert chain.invoke("Add.").text == "print(1 + 2)"
    assert [call.model for call in scripted[1].calls] == ["planner", "coder"]


@pytest.mark.parametrize("responses", RESPONSES)
async def test_a_stream_that_is_awaited(model: Model, responses: bool) -> None:
    pieces = [chunk.text async for chunk in model("planner", responses).astream("Add.") if chunk.text]
    assert "".join(pieces) == PLAN


@pytest.mark.parametrize("responses", RESPONSES)
def test_two_real_models(live: Live, responses: bool) -> None:
    plan, code = (
        ChatOpenAI(
            model=name,
            base_url=f"{live.url}/v1",
            api_key=SecretStr("none"),
            temperature=0,
            use_responses_api=responses,
        )
        for name in ("planner", "coder")
    )
    chain = plan | (lambda answer: answer.text) | code
    assert chain.invoke(QUESTION).text == own(live, "coder", question=own(live, "planner").text).text
