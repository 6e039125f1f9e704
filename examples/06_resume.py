"""A run that survives its process: what was complete comes from the journal when it is resumed.

Interrupt it (or kill it), then run it again with the id that it printed; or: agentmux runs resume ID
"""

from __future__ import annotations

import asyncio
import sys

from agentmux import Agent, Run, RunFinished, RunStarted, Runtime, TurnCompleted, pipeline


class Planner(Agent):
    """Plans."""

    model = "planner"
    max_tokens = 80


@pipeline
async def plan_all(ctx: Run, tasks: list[str]) -> list[str]:
    """One plan after the other."""
    plans = []
    for task in tasks:
        plans.append(await ctx.run(Planner, task))
    return plans


TASKS = ["Return the sum of the numbers in the list.", "Return the length of the longest word."]


async def main(resume: str | None) -> None:
    """Begin a run, or resume the one that is given, and say which of its turns were computed now."""
    async with Runtime(journal=True) as mux:
        target = mux.stream(None, resume=resume) if resume else mux.stream(plan_all, TASKS)
        async for event in target:
            if isinstance(event, RunStarted):
                print(f"run {event.run}", flush=True)
            elif isinstance(event, TurnCompleted):
                print(f"  turn {'from the journal' if event.numbers.replayed else 'computed'}", flush=True)
            elif isinstance(event, RunFinished):
                print(*event.result.output, sep="\n")  # type: ignore[misc]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
