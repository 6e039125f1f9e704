"""Measure the three models together on held-out tasks: planner, coder, examples, critic, up to three rounds.

``python -m agents.training.evaluate --models agents/models --tasks 200 --page docs/demo-models.md`` runs the
GGUF files with llama-cpp-python on the CPU; ``--runs FOLDER`` runs PyTorch weights instead.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..prompts import coder_prompt, critic_prompt, load_error_report, planner_prompt, report_line, report_text
from .generate import EXAMPLES, Task, make_task
from .inputs import Example, make_examples
from .page import write_page
from .render import reference
from .sandbox import run_programs

VISIBLE = 4
"""Examples that the agents see; the other ones of a task decide whether its code is right."""

ROUNDS = 3
MAX_TOKENS = {"planner": 160, "coder": 256, "critic": 128}
Ask = Callable[[Sequence[str]], list[str]]
"""Prompts (user messages) to answers, greedy."""


@dataclass
class Outcome:
    """What happened on one task; `attempts` are (code, report, visible ok, hidden ok), verdicts (approve, feedback)."""

    task: Task
    examples: Sequence[Example]
    plan: str = ""
    steps: list[str] | None = None
    attempts: list[tuple[str, str, bool, bool]] = field(default_factory=list)
    verdicts: list[tuple[bool, str] | None] = field(default_factory=list)
    raw_verdicts: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether another round would follow."""
        last = self.verdicts[-1] if self.verdicts else None
        return not (last is not None and last[0])


def held_out_tasks(seed: int, count: int) -> list[tuple[Task, list[Example]]]:
    """Return `count` different held-out tasks with their examples, by seed."""
    rng = random.Random(f"evaluate {seed}")
    made: dict[str, tuple[Task, list[Example]]] = {}
    while len(made) < count:
        task = make_task(rng, held_out=True)
        examples = make_examples(reference(task.uses), task.uses, rng, EXAMPLES)
        if examples is not None:
            made.setdefault(task.description, (task, examples))
    return list(made.values())


def parse_plan(text: str) -> list[str] | None:
    """Return the plan's steps, or None when `text` is no plan."""
    try:
        steps = json.loads(text)["steps"]
    except (ValueError, KeyError, TypeError):
        return None
    return steps if isinstance(steps, list) and all(isinstance(step, str) for step in steps) else None


def parse_verdict(text: str) -> tuple[bool, str] | None:
    """Return (approve, feedback), or None when `text` is no verdict."""
    try:
        verdict = json.loads(text)
        approve, feedback = verdict["approve"], verdict["feedback"]
    except (ValueError, KeyError, TypeError):
        return None
    return (approve, feedback) if isinstance(approve, bool) and isinstance(feedback, str) else None


def _report(outcome: Mapping, examples: Sequence[Example]) -> str:
    if outcome["load_error"]:
        return load_error_report(outcome["load_error"])
    lines = [
        report_line(example.expression, ok, got=value, error=error)
        for example, (ok, value, error) in zip(examples, outcome["results"], strict=False)
    ]
    return report_text(lines)


def _attempt(outcomes: Sequence[Outcome], codes: Sequence[str]) -> None:
    """Run each code on all examples of its task and note the attempt."""
    programs = [
        (code, [(e.argument, e.expected) for e in outcome.examples])
        for outcome, code in zip(outcomes, codes, strict=True)
    ]
    for outcome, code, ran in zip(outcomes, codes, run_programs(programs), strict=True):
        passed = [result[0] for result in ran["results"]]
        visible = bool(passed) and all(passed[:VISIBLE])
        hidden = bool(passed) and all(passed[VISIBLE:])
        outcome.attempts.append((code, _report(ran, outcome.examples[:VISIBLE]), visible, hidden))


def run_loop(ask: Mapping[str, Ask], tasks: Sequence[tuple[Task, list[Example]]]) -> list[Outcome]:
    """Return what the three models did on `tasks`, each round for all open tasks at once."""
    outcomes = [Outcome(task, examples) for task, examples in tasks]
    for outcome, plan in zip(
        outcomes, ask["planner"]([planner_prompt(o.task.description) for o in outcomes]), strict=True
    ):
        outcome.plan, outcome.steps = plan, parse_plan(plan)
    for _ in range(ROUNDS):
        live = [outcome for outcome in outcomes if outcome.is_open]
        prompts = []
        for o in live:
            attempt = o.attempts[-1][0] if o.attempts else None
            feedback = o.verdicts[-1][1] if o.verdicts and o.verdicts[-1] else None
            prompts.append(coder_prompt(o.task.description, o.steps or [], attempt, feedback))
        _attempt(live, ask["coder"](prompts) if live else [])
        prompts = [critic_prompt(o.task.description, o.attempts[-1][0], o.attempts[-1][1]) for o in live]
        for o, text in zip(live, ask["critic"](prompts) if live else [], strict=True):
            o.raw_verdicts.append(text)
            o.verdicts.append(parse_verdict(text))
    return outcomes


def measure(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the shares (0 to 1) that the page shows."""
    count = len(outcomes)
    verdicts = [(v, a) for o in outcomes for v, a in zip(o.verdicts, o.attempts, strict=True)]
    right = [v for v, a in verdicts if a[2] and a[3]]
    wrong = [v for v, a in verdicts if not (a[2] and a[3])]
    parsed = [v for v, _ in verdicts if v is not None]
    failing = [v for v, a in verdicts if not a[2]]

    def share(part: int, whole: int) -> float:
        return part / whole if whole else 1.0

    approved = sum(v is not None and v[0] for v in right)
    rejected = sum(v is not None and not v[0] for v in wrong)
    return {
        "tasks": count,
        "plan_valid": share(sum(o.steps is not None for o in outcomes), count),
        "plan_right": share(sum(o.steps == list(o.task.steps) for o in outcomes), count),
        "first_round": share(sum(o.attempts[0][3] for o in outcomes), count),
        "three_rounds": share(sum(o.attempts[-1][3] for o in outcomes), count),
        "verdict_valid": share(len(parsed), len(verdicts)),
        "verdicts": len(verdicts),
        "verdict_right": share(approved + rejected, len(verdicts)),
        "right_approved": share(approved, len(right)),
        "wrong_rejected": share(rejected, len(wrong)),
        "failing_report_rejected": share(sum(v is not None and not v[0] for v in failing), len(failing)),
        "wrong_programs": len(wrong),
    }


def llama_models(folder: Path, threads: int = 2) -> dict[str, Ask]:
    """Return the three GGUF models of `folder` behind llama-cpp-python on the CPU."""
    import llama_cpp.llama
    from llama_cpp import Llama

    defaults = llama_cpp.llama_model_default_params

    def without_repacking() -> object:  # AMX repacking of Q8_0 crashes on machines that forbid AMX to the process
        params = defaults()
        params.use_extra_bufts = False
        return params

    llama_cpp.llama.llama_cpp.llama_model_default_params = without_repacking
    asks: dict[str, Ask] = {}
    for role, limit in MAX_TOKENS.items():
        model = Llama(str(folder / f"{role}.gguf"), use_mmap=True, n_ctx=1024, n_threads=threads, verbose=False)

        def ask(prompts: Sequence[str], model: Llama = model, limit: int = limit) -> list[str]:
            return [
                model.create_chat_completion([{"role": "user", "content": prompt}], temperature=0.0, max_tokens=limit)[
                    "choices"
                ][0]["message"]["content"]
                for prompt in prompts
            ]

        asks[role] = ask
    return asks


def torch_models(folder: Path) -> dict[str, Ask]:
    """Return the three trained PyTorch models of `folder`."""
    import torch

    from .export import load_model
    from .tokens import END, encode_prompt

    device = "cuda" if torch.cuda.is_available() else "cpu"
    asks: dict[str, Ask] = {}
    for role, limit in MAX_TOKENS.items():
        model, tokenizer = load_model(folder, role)
        model.to(device)

        def ask(prompts: Sequence[str], model=model, tokenizer=tokenizer, limit: int = limit) -> list[str]:
            answers = []
            for start in range(0, len(prompts), 500):
                encoded = [encode_prompt(tokenizer, prompt)[: 1000 - limit] for prompt in prompts[start : start + 500]]
                answers += [tokenizer.decode(ids) for ids in model.greedy(encoded, END, limit)]
            return answers

        asks[role] = ask
    return asks


def main() -> None:
    """Measure, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder with planner.gguf, coder.gguf, critic.gguf")
    parser.add_argument("--runs", type=Path, help="folder with PyTorch weights")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="write the measured table here, as Markdown")
    parser.add_argument("--json", type=Path, help="write numbers and every failure here")
    options = parser.parse_args()
    tasks = held_out_tasks(options.seed, options.tasks)
    ask = torch_models(options.runs) if options.runs else llama_models(options.models)
    began = time.monotonic()
    outcomes = run_loop(ask, tasks)
    numbers = measure(outcomes) | {"seconds": time.monotonic() - began, "seed": options.seed}
    for key, value in numbers.items():
        print(f"{key:24} {value:.4g}")
    if options.json:
        failed = [o for o in outcomes if not o.attempts[-1][3] or len(o.attempts) > 1 or o.steps != list(o.task.steps)]
        rows = [
            {
                "description": o.task.description,
                "steps": o.task.steps,
                "plan": o.plan,
                "attempts": o.attempts,
                "verdicts": o.raw_verdicts,
                "right": o.task.code,
            }
            for o in failed
        ]
        options.json.write_text(json.dumps({"numbers": numbers, "failures": rows}, indent=1, ensure_ascii=False))
    if options.page:
        write_page(options.page, numbers, options.models or options.runs, VISIBLE, EXAMPLES)


if __name__ == "__main__":
    main()
