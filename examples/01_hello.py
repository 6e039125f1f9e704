"""An agent, asked once, on a bundled model. Any GGUF works: Runtime(models={"planner": "a.gguf"})."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from agentmux import Agent, Runtime


class Plan(BaseModel):
    """What the planner is held to answer."""

    steps: list[str]


class Planner(Agent):
    """Breaks a task into steps."""

    model = "planner"
    instructions = 'Answer with JSON: {"steps": ["...", "..."]}, two to five short steps.'
    output = Plan


async def main() -> None:
    """Ask the planner for a plan."""
    async with Runtime() as mux:
        result = await mux.run(Planner, "Return the sum of the even numbers in a list.")
    plan: Plan = result.output
    for number, step in enumerate(plan.steps, start=1):
        print(f"{number}. {step}")
    print(f"{result.usage.generated_tokens} tokens generated")


if __name__ == "__main__":
    asyncio.run(main())
