"""Agents at the same time: turns of one model share its batch, turns of different models are interleaved."""

from __future__ import annotations

import asyncio

from agentmux import Agent, Limits, ModelSpec, Runtime, each, parallel
from agentmux.models import bundled_models


class Planner(Agent):
    """Plans."""

    model = "planner"
    max_tokens = 60


class Coder(Agent):
    """Writes."""

    model = "coder"
    max_tokens = 60


TASKS = (
    "Return the sum of the numbers in the list.",
    "Return the longest word in the list.",
    "Return the list in reverse order.",
)
both = parallel(Planner, Coder)  # each gets the task, their answers come as a list
all_tasks = each(both)  # every task at the same time


async def main() -> None:
    """Run two agents on three tasks at once, in a budget for one and a half of their models."""
    paths = bundled_models()
    models = {name: ModelSpec(paths[name].path, context_tokens=1024, slots=3) for name in ("planner", "coder")}
    async with Runtime(models=models, vram="5MiB", device="cpu", limits=Limits(turns=6, wall_s=300)) as mux:
        result = await mux.run(all_tasks, TASKS)
        for task, (plan, code) in zip(TASKS, result.output, strict=True):
            print(f"{task}\n  planner: {plan.splitlines()[0]}\n  coder: {code.splitlines()[0]}")
        stats = mux.stats()
        print(f"# {result.usage.turns} turns, {stats.switches} switches, {stats.bytes_paged} bytes paged")


if __name__ == "__main__":
    asyncio.run(main())
