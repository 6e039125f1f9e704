"""A pipeline: two agents on two models, several tasks at once, in a budget that is too small for both models."""

from __future__ import annotations

import asyncio

from agentmux import Agent, Run, Runtime, pipeline
from agentmux.agents import Plan, Planner, prompts

TASKS = (
    "Return the sum of the even numbers in a list.",
    "Return the longest word in a list of words.",
    "Return the list in reverse order.",
)


class Coder(Agent):
    """Writes a Python function by a plan."""

    model = "coder"
    instructions = "Answer with Python source only: one function named f."

    async def run(self, ctx: Run, task: str, plan: Plan) -> str:
        """Ask once, in the words that the demonstration model knows."""
        code: str = await ctx.ask(prompts.coder_prompt(task, plan.steps))
        return code


@pipeline
async def write(ctx: Run, tasks: tuple[str, ...]) -> list[str]:
    """Plan and code all tasks; the turns that meet at one model share its batch."""

    async def one(task: str) -> str:
        return await ctx.run(Coder, task, await ctx.run(Planner, task))

    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(one(task)) for task in tasks]
    return [done.result() for done in writing]


async def main() -> None:
    """Write the functions, and say what paging took."""
    async with Runtime(vram="4MiB", device="cpu") as mux:
        result = await mux.run(write, TASKS)
        print("\n\n".join(result.output))
        print(f"# switches: {mux.stats().switches}, bytes paged: {mux.stats().bytes_paged}")


if __name__ == "__main__":
    asyncio.run(main())
