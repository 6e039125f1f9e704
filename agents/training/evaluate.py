"""Measure the three models together on held-out tasks: planner, coder, examples, critic, up to three rounds.

``python -m agentmux.agents.training.evaluate --models agents/models --tasks 200 --page docs/demo-models.md`` runs the
GGUF files in agentmux's own engine on the CPU, paged through a small budget; ``--runs FOLDER`` runs PyTorch weights.
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
from .generate import EXAMPLES, Task, make_task, telling
from .in_engine import engine_models, first_token_s
from .inputs import Example, make_examples
from .page import write_page
from .render import reference
from .sandbox import run_programs

VISIBLE = 4
"""Examples that the agents see; the other ones of a task decide whether its code is right."""

ROUNDS = 3
MAX_TOKENS = {"planner": 256, "coder": 320, "critic": 256}
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
        """Whether another round would follow, as in `code_loop.solve`."""
        if not self.attempts:
            return True
        last = self.verdicts[-1]
        approved = self.attempts[-1][2] and last is not None and last[0]
        return not (approved or self.stood_by())

    def stood_by(self) -> bool:
        """Whether the last program is the passing one that the loop had already."""
        passing = [code for code, _, visible, _ in self.attempts[:-1] if visible]
        return bool(passing) and passing[-1] == self.attempts[-1][0]

    def solved(self, rounds: int) -> bool:
        """Whether the loop's answer after at most `rounds` is right: the last passing program, else the last one."""
        done = self.attempts[:rounds]
        passing = [attempt for attempt in done if attempt[2]]
        return (passing or done)[-1][3]

    @property
    def repeats(self) -> int:
        """How many later rounds wrote a program that had already failed."""
        codes = [code for code, _, _, _ in self.attempts]
        failed = [not visible for _, _, visible, _ in self.attempts]
        return sum(any(failed[j] and codes[j] == code for j in range(i)) for i, code in enumerate(codes))

    def coder_prompt(self) -> str:
        """What the coder is asked next, as `code_loop.solve` asks it."""
        if not self.attempts:
            return coder_prompt(self.task.description, self.steps or [])
        code, report, visible, _ = self.attempts[-1]
        verdict = self.verdicts[-1]
        feedback = report.splitlines()[0]
        if verdict is not None and verdict[1].strip() and (visible or not verdict[0]):
            feedback = " ".join(verdict[1].split())
        failed = dict.fromkeys(program for program, _, passed, _ in self.attempts if not passed)
        earlier = [program for program in failed if program != code]
        return coder_prompt(self.task.description, self.steps or [], code, feedback, earlier)


def held_out_tasks(seed: int, count: int) -> list[tuple[Task, list[Example]]]:
    """Return `count` different held-out tasks with their examples, by seed."""
    rng = random.Random(f"evaluate {seed}")
    made: dict[str, tuple[Task, list[Example]]] = {}
    while len(made) < count:
        task = make_task(rng, held_out=True)
        examples = make_examples(reference(task.uses), task.uses, rng, EXAMPLES)
        examples = telling(task, examples, VISIBLE) if examples is not None else None
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
        prompts = [o.coder_prompt() for o in live]
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
        "vague": share(sum(o.task.is_vague for o in outcomes), count),
        "first_round": share(sum(o.solved(1) for o in outcomes), count),
        "two_rounds": share(sum(o.solved(2) for o in outcomes), count),
        "three_rounds": share(sum(o.solved(3) for o in outcomes), count),
        "later_programs": sum(len(o.attempts) - 1 for o in outcomes),
        "repeated_programs": sum(o.repeats for o in outcomes),
        "verdict_valid": share(len(parsed), len(verdicts)),
        "verdicts": len(verdicts),
        "verdict_right": share(approved + rejected, len(verdicts)),
        "right_approved": share(approved, len(right)),
        "wrong_rejected": share(rejected, len(wrong)),
        "failing_report_rejected": share(sum(v is not None and not v[0] for v in failing), len(failing)),
        "wrong_programs": len(wrong),
    }


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


def _write_failures(path: Path, numbers: Mapping[str, float], outcomes: Sequence[Outcome]) -> None:
    failed = [o for o in outcomes if not o.solved(ROUNDS) or len(o.attempts) > 1 or o.steps != list(o.task.steps)]
    rows = [
        {
            "description": o.task.description,
            "vague": o.task.is_vague,
            "solved": o.solved(ROUNDS),
            "steps": o.task.steps,
            "plan": o.plan,
            "attempts": o.attempts,
            "verdicts": o.raw_verdicts,
            "right": o.task.code,
        }
        for o in failed
    ]
    path.write_text(json.dumps({"numbers": numbers, "tasks": rows}, indent=1, ensure_ascii=False))


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder with planner.gguf, coder.gguf, critic.gguf")
    parser.add_argument("--runs", type=Path, help="folder with PyTorch weights")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="write the measured table here, as Markdown")
    parser.add_argument("--json", type=Path, help="write numbers and every task that took more than a round here")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, write the page."""
    options = parse()
    tasks = held_out_tasks(options.seed, options.tasks)
    began = time.monotonic()
    numbers: dict[str, float] = {"seed": options.seed}
    if options.runs:
        outcomes = run_loop(torch_models(options.runs), tasks)
    else:
        with engine_models(options.models, MAX_TOKENS) as (ask, stats):
            outcomes = run_loop(ask, tasks)
            numbers |= stats()
    numbers |= measure(outcomes) | {"seconds": time.monotonic() - began}
    if options.models:
        numbers["first_token_s"] = first_token_s(options.models)
    for key, value in numbers.items():
        print(f"{key:24} {value:.4g}")
    if options.json:
        _write_failures(options.json, numbers, outcomes)
    if options.page:
        write_page(options.page, numbers, options.models or options.runs, VISIBLE, EXAMPLES)


if __name__ == "__main__":
    main()
