"""A server with two models that follow scripts, for other people's clients: a planner and a coder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentmux import Runtime
from agentmux.engine.base import TurnRequest
from agentmux.messages import Event
from agentmux.testing import Answer, ScriptedEngine

Make = Callable[[list[Callable[[Event], None]]], Runtime]
PIECES = ("First ", "add, ", "then stop.")
PLAN = "".join(PIECES)


TYPES = ("final_result", "A city's weather.")
"""What tells the tools by which clients have typed answers: pydantic-ai's name, LangChain's description."""


def planner(request: TurnRequest) -> Answer:
    """Asks once for the weather if it has a tool for that; a typed answer is about it, another one is the plan."""
    prompt = str(request.prompt)
    if any(sign in prompt for sign in TYPES):
        name = "final_result" if "final_result" in prompt else "Weather"
        return Answer.calls((name, {"city": "Lisbon", "degrees": 21}))
    if "get_weather" in prompt and "Lisbon: 21" not in prompt:
        return Answer.calls(("get_weather", {"city": "Lisbon"}))
    if "transfer_to_coder" in prompt:
        return Answer.calls(("transfer_to_coder", {}))
    if "Lisbon: 21" in prompt:
        return Answer("It is 21 degrees.")
    if request.grammar is not None:
        return Answer.json({"city": "Lisbon", "degrees": 21})
    return Answer(PLAN, chunks=PIECES)


def coder(request: TurnRequest) -> Answer:
    """Writes a program if it was shown the plan, or what it was handed over."""
    return Answer("print(1 + 2)" if PLAN in str(request.prompt) or "hand" in str(request.prompt) else "no plan")


def two_models() -> tuple[Make, ScriptedEngine]:
    """What makes the runtime, and its engine, which knows what it was asked."""
    engine = ScriptedEngine({"planner": planner, "coder": coder}, strict=False)

    def make(observers: list[Callable[[Event], None]]) -> Runtime:
        return Runtime(models=engine.models, engine=engine, config=False, observers=observers)

    return make, engine


def prompts_of(engine: ScriptedEngine, model: str) -> list[Any]:
    """What a model was asked, in order."""
    return [call.prompt for call in engine.calls if call.model == model]
