"""Typed answers: a grammar holds the model to the type's JSON, pydantic checks what a grammar cannot say."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from agentmux import Agent, OutputInvalid, Runtime


def not_trivial(step: str) -> str:
    """A rule of one's own: it is checked afterwards, and the model is told what was wrong."""
    if len(step.split()) < 3:
        raise ValueError("each step needs at least three words")
    return step


class Plan(BaseModel):
    """What the planner has to answer."""

    steps: Annotated[list[Annotated[str, AfterValidator(not_trivial)]], Field(min_length=1, max_length=3)]


class Planner(Agent):
    """Breaks a task into steps."""

    model = "planner"
    output = Plan
    retries = 1


async def main() -> None:
    """Ask for a plan, and say what was tried if there was no valid one."""
    async with Runtime(vram="4MiB", device="cpu") as mux:
        try:
            result = await mux.run(Planner, "Return the largest number in the list.")
            plan: Plan = result.output
            print(plan.model_dump_json(indent=2))
        except OutputInvalid as error:
            print(f"{error}\ntried: {error.attempts}")


if __name__ == "__main__":
    asyncio.run(main())
