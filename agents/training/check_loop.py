"""Measure ``code_loop.solve`` itself, as the demo runs it, on held-out tasks: how many are right, in how many rounds.

``python -m agentmux.agents.training.check_loop --tasks 400 --seed 0`` on the bundled models, on the CPU. A task is
right when the program passes the examples that the agents do not see. ``evaluate`` measures the models' greedy answers.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
from collections.abc import Sequence
from dataclasses import replace

from agentmux import Runtime
from agentmux.agents import run_examples, solve
from agentmux.models import bundled_models

from .evaluate import VISIBLE, held_out_tasks
from .in_engine import SLOTS

AT_ONCE = 32
"""Tasks under way at the same time."""


async def check(tasks: Sequence[tuple[str, list[str]]], max_rounds: int, vram: str) -> list[tuple[int, bool, bool]]:
    """Return (rounds, right on the visible examples, right on the hidden ones) for each (description, examples)."""
    specs = {name: replace(spec, slots=SLOTS) for name, spec in bundled_models().items()}
    gate = asyncio.Semaphore(AT_ONCE)
    async with Runtime(models=specs, vram=vram, device="cpu", queue_limit=100_000) as mux:

        async def one(description: str, examples: list[str]) -> tuple[int, bool, bool]:
            async with gate:
                solution = (await mux.run(solve, description, examples[:VISIBLE], max_rounds)).output
                hidden = await run_examples(solution.code, examples[VISIBLE:])
            return solution.rounds, solution.passed, hidden.passed

        return await asyncio.gather(*(one(*task) for task in tasks))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--vram", default="8MiB")
    options = parser.parse_args()
    made = held_out_tasks(options.seed, options.tasks)
    tasks = [(task.description, [example.expression for example in examples]) for task, examples in made]
    done = asyncio.run(check(tasks, options.rounds, options.vram))
    visible, right = sum(passed for _, passed, _ in done), sum(hidden for _, _, hidden in done)
    print(f"{len(done)} tasks, seed {options.seed}: {right} right, {visible} pass the visible examples")
    by_rounds = collections.Counter(rounds for rounds, _, hidden in done if hidden)
    print("right after n rounds:", dict(sorted(by_rounds.items())))
    print("not right after n rounds:", dict(sorted(collections.Counter(r for r, _, h in done if not h).items())))


if __name__ == "__main__":
    main()
