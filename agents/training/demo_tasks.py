"""Write the built-in tasks of ``agentmux demo``: the first twelve held-out tasks of one fixed seed.

``python -m agents.training.demo_tasks --out agents/tasks.json``. Three tasks of each length, one to four
operations; whether the models solve them plays no part.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from .generate import EXAMPLES, make_task, telling
from .inputs import make_examples
from .render import reference

SEED = 2026
VISIBLE = 4
SHOWN_CHARS = 90
"""Longest visible example: a demonstration should be readable."""


def demo_tasks(seed: int = SEED, per_length: int = 3) -> list[dict[str, object]]:
    """Return the tasks, short ones first; no two of them take the same first and last operation."""
    rng = random.Random(f"demo {seed}")
    made: list[dict[str, object]] = []
    seen: set[str] = set()
    for length in (1, 2, 3, 4):
        wanted = len(made) + per_length
        while len(made) < wanted:
            task = make_task(rng, held_out=True)
            uses = task.uses
            if len(uses) != length:
                continue
            examples = make_examples(reference(uses), uses, rng, EXAMPLES)
            families = {uses[0].op.name, uses[-1].op.name}
            if examples is None or families & seen:
                continue
            short = [example for example in examples if len(example.expression) <= SHOWN_CHARS]
            if len(short) < VISIBLE:
                continue
            seen |= families
            told = telling(task, short, VISIBLE)
            if told is None:
                continue
            shown = told[:VISIBLE]
            made.append(
                {
                    "description": task.description,
                    "examples": [example.expression for example in shown],
                    "hidden": [example.expression for example in examples if example not in shown],
                }
            )
    return made


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(demo_tasks(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
