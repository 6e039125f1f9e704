"""The three models in agentmux's own engine, for `evaluate`: answers without a grammar, time to the first token.

``python -m agentmux.agents.training.in_engine FOLDER`` prints the seconds from the first import to the first token.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SLOTS = 8
BUDGET = "4MiB"
"""Less than the coder alone: layers are paged all the time."""

PROCESSES = 5
ROLES = ("planner", "coder", "critic")
Ask = Callable[[Sequence[str]], list[str]]


@contextmanager
def engine_models(
    folder: Path, max_tokens: Mapping[str, int]
) -> Iterator[tuple[dict[str, Ask], Callable[[], dict[str, float]]]]:
    """Yield (role -> ask, numbers on paging so far); greedy, no grammar, `SLOTS` turns at once."""
    from agentmux import Agent, ModelSpec, Runtime, SamplingParams
    from agentmux.agent import Run

    def agent(role: str) -> type[Agent]:
        async def run(self: Agent, ctx: Run, prompt: str) -> str:
            return str(await ctx.ask(prompt))

        limits = {"model": role, "instructions": "", "max_tokens": max_tokens[role], "run": run}
        return type(role.capitalize(), (Agent,), limits | {"sampling": SamplingParams(temperature=0.0)})

    specs = {role: ModelSpec(folder / f"{role}.gguf", slots=SLOTS) for role in ROLES}
    mux = Runtime(models=specs, vram=BUDGET, device="cpu", queue_limit=100_000)

    async def all_answers(kind: type[Agent], prompts: Sequence[str]) -> list[str]:
        results = await asyncio.gather(*(mux.run(kind, prompt) for prompt in prompts))
        return [str(result.output) for result in results]

    with asyncio.Runner() as runner:
        runner.run(mux.__aenter__())
        try:
            kinds = {role: agent(role) for role in ROLES}
            asks: dict[str, Ask] = {
                role: lambda prompts, kind=kind: runner.run(all_answers(kind, prompts)) for role, kind in kinds.items()
            }
            yield asks, lambda: {"switches": mux.stats().switches, "bytes_paged": mux.stats().bytes_paged}
        finally:
            runner.run(mux.__aexit__(None, None, None))


def first_token_s(folder: Path) -> float:
    """Return the median over `PROCESSES` fresh processes of `_first_token`, seconds."""
    command = [sys.executable, "-m", "agentmux.agents.training.in_engine", str(folder)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(PROCESSES)]
    return statistics.median(float(run.stdout) for run in runs)


async def _first_token(folder: Path) -> None:
    """Load all three models on the CPU without a budget, and have the planner write one token."""
    from agentmux import Agent, Runtime

    class Planner(Agent):
        model = "planner"
        max_tokens = 1

    async with Runtime(models={role: folder / f"{role}.gguf" for role in ROLES}, device="cpu") as mux:
        await mux.run(Planner, "Sort the numbers in ascending order.")


if __name__ == "__main__":
    began = time.perf_counter()
    asyncio.run(_first_token(Path(sys.argv[1])))
    print(time.perf_counter() - began)
