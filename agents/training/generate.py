"""Samples for the three models, by seed.

``python -m agents.training.generate --seed 1 --tasks 1000 --out samples.jsonl`` writes one JSON
object a line: ``role``, ``prompt`` (the user message) and ``answer``. ``--prove`` checks that train
and held-out share no composition and no phrasing, and prints the numbers.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..prompts import (
    coder_prompt,
    critic_answer,
    critic_prompt,
    load_error_report,
    planner_answer,
    planner_prompt,
    report_line,
    report_text,
)
from .chains import composition, is_held_out, sample_chain
from .describe import describe
from .grammar import split
from .inputs import Example, describe_error, load, make_examples, run_examples
from .mistakes import Mistake, make_mistake, wrong_chain
from .operations import Use, operations
from .render import Style, random_style, reference, render

EXAMPLES = 12
"""Examples made for each task; some are shown, the others are hidden."""


@dataclass(frozen=True)
class Task:
    """One task: its English, the chain behind it, its plan and one right program."""

    description: str
    uses: tuple[Use, ...]
    steps: tuple[str, ...]
    style: Style
    code: str


@dataclass(frozen=True)
class Case:
    """A task with examples and one wrong attempt that fails at least one of them."""

    task: Task
    examples: tuple[Example, ...]
    mistake: Mistake
    outcomes: tuple[tuple[str | None, str | None], ...]

    def is_ok(self, index: int) -> bool:
        """Return whether the wrong attempt passes example `index` all the same."""
        return self.outcomes[index][0] == self.examples[index].expected


@dataclass(frozen=True)
class Sample:
    """One training sample of one model."""

    role: str
    prompt: str
    answer: str


def make_task(rng: random.Random, held_out: bool = False) -> Task:
    """Return a random task from one side of the split."""
    uses = sample_chain(rng, held_out)
    style = random_style(rng)
    return Task(describe(uses, held_out, rng), uses, tuple(use.step for use in uses), style, render(uses, style))


def make_case(rng: random.Random, held_out: bool = False) -> Case:
    """Return a task with examples and a wrong attempt; tasks whose values tell nothing are dropped."""
    while True:
        task = make_task(rng, held_out)
        examples = make_examples(reference(task.uses), task.uses, rng, EXAMPLES)
        if examples is None:
            continue
        for _ in range(6):
            mistake = make_mistake(task.uses, task.style, rng)
            if mistake is None:
                continue
            outcomes = run_examples(mistake.code, examples)
            if any(value != example.expected for (value, _), example in zip(outcomes, examples, strict=True)):
                return Case(task, tuple(examples), mistake, tuple(outcomes))


def report_for(code: str, examples: Sequence[Example], outcomes: Sequence[tuple[str | None, str | None]]) -> str:
    """Return the report on a program of this package, given what it did on `examples`."""
    try:
        load(code)
    except Exception as error:
        return load_error_report(describe_error(error))
    lines = [
        report_line(example.expression, value == example.expected, got=value, error=error)
        for example, (value, error) in zip(examples, outcomes, strict=True)
    ]
    return report_text(lines)


def feedback_for(report: str, hint: str) -> str:
    """Return the critic's feedback: the first failing example where it is short, then the hint."""
    line = report.split("\n")[0]
    call, separator, rest = line.partition(" == ")
    if separator and line.startswith("wrong "):
        expected = rest.rpartition(", got ")[0]
        shown = f"{call[6:]} should be {expected}."
    elif separator and line.startswith("error "):
        error = rest.rpartition(": ")[0].rpartition(", ")[2] or rest.rpartition(", ")[2]
        shown = f"{call[6:]} raises {error}."
    else:
        return hint
    return f"{shown} {hint}".strip() if len(shown) <= 56 else hint


def _shown(case: Case, rng: random.Random, fail: bool) -> list[int]:
    """Return the examples to show, at least one failing or none."""
    count = rng.choice((1, 2, 3, 3, 4, 4, 5))
    order = rng.sample(range(len(case.examples)), len(case.examples))
    failing = [index for index in order if not case.is_ok(index)]
    if fail:
        rest = [index for index in order if index != failing[0]]
        return sorted([failing[0], *rest[: count - 1]])
    return sorted([index for index in order if case.is_ok(index)][:count])


def planner_sample(task: Task) -> Sample:
    """Return the planner's sample of `task`."""
    return Sample("planner", planner_prompt(task.description), planner_answer(task.steps))


def coder_sample(task: Task, rng: random.Random) -> Sample:
    """Return a first round; one plan in eight is wrong or missing, so that the description counts."""
    steps: Sequence[str] = task.steps
    draw = rng.random()
    if draw < 0.02:
        steps = ()
    elif draw < 0.13 and (wrong := wrong_chain(task.uses, rng)) is not None:
        steps = [use.step for use in wrong[0]]
    return Sample("coder", coder_prompt(task.description, steps), task.code)


def repair_sample(case: Case, rng: random.Random) -> Sample:
    """Return a later round: the wrong attempt, what the critic says of it, and the correction."""
    task, mistake = case.task, case.mistake
    visible = _shown(case, rng, fail=True)
    report = report_for(mistake.code, [case.examples[i] for i in visible], [case.outcomes[i] for i in visible])
    draw = rng.random()
    if draw < 0.04:  # a critic may be wrong: the coder then stands by right code
        hint = feedback_for("", mistake.hint)
        return Sample("coder", coder_prompt(task.description, task.steps, task.code, hint), task.code)
    if draw < 0.12:  # what the loop says when the critic has nothing to say
        feedback = report.split("\n")[0]
    else:
        feedback = feedback_for(report, mistake.hint if draw < 0.92 else "") or "This is not what the task asks."
    steps = mistake.steps if mistake.steps is not None and rng.random() < 0.45 else task.steps
    return Sample("coder", coder_prompt(task.description, steps, mistake.code, feedback), task.code)


def critic_samples(case: Case, rng: random.Random) -> Iterator[Sample]:
    """Yield one verdict on right code and one on wrong code; some reports show too little or contradict."""
    task, mistake = case.task, case.mistake
    visible = [case.examples[i] for i in _shown(case, rng, fail=True)]
    right = [(example.expected, None) for example in visible]
    if rng.random() < 0.04:
        index = rng.randrange(len(visible))
        expected = rng.choice(case.examples).expected
        visible[index] = Example(visible[index].argument, expected)
    report = report_for(task.code, visible, right)
    approve = "wrong " not in report
    feedback = "" if approve else feedback_for(report, "The code fits the task: check the example.")
    yield Sample("critic", critic_prompt(task.description, task.code, report), critic_answer(approve, feedback))
    shown = _shown(case, rng, fail=rng.random() > 0.07)
    if shown:
        report = report_for(mistake.code, [case.examples[i] for i in shown], [case.outcomes[i] for i in shown])
        answer = critic_answer(False, feedback_for(report, mistake.hint))
        yield Sample("critic", critic_prompt(task.description, mistake.code, report), answer)


def samples(role: str, seed: int, count: int, held_out: bool = False) -> Iterator[Sample]:
    """Yield `count` samples of `role`; the same seed gives the same samples on every machine."""
    rng = random.Random(f"{role} {seed} {held_out}")
    made = 0
    while made < count:
        if role == "planner":
            batch = [planner_sample(make_task(rng, held_out))]
        elif role == "coder":
            if rng.random() < 0.56:
                batch = [coder_sample(make_task(rng, held_out), rng)]
            else:
                batch = [repair_sample(make_case(rng, held_out), rng)]
        else:
            batch = list(critic_samples(make_case(rng, held_out), rng))
        yield from batch[: count - made]
        made += len(batch)


def prove_disjoint(seed: int = 0, count: int = 2000) -> dict[str, int]:
    """Check that train and held-out share no composition and no phrasing, and return the numbers.

    Phrasings are disjoint by construction for every operation; compositions are checked on
    `count` tasks of each side as well as by the rule itself.

    Raises:
        ValueError: when something is shared.
    """
    phrasings = {False: 0, True: 0}
    for op in operations():
        for pattern, owner in ((op.verb, op.name), (op.noun, op.name + " noun")):
            train, held_out = split(pattern, owner) if pattern else ((), ())
            if set(train) & set(held_out):
                raise ValueError(f"a phrasing of {op.name} is on both sides")
            phrasings[False] += len(train)
            phrasings[True] += len(held_out)
    seen: dict[bool, set[tuple[str, ...]]] = {}
    texts: dict[bool, set[str]] = {}
    for side in (False, True):
        rng = random.Random(f"prove {seed} {side}")
        tasks = [make_task(rng, side) for _ in range(count)]
        seen[side] = {composition(task.uses) for task in tasks}
        texts[side] = {task.description for task in tasks}
        if any(is_held_out(names) != side for names in seen[side]):
            raise ValueError("a composition is on the wrong side")
    if seen[False] & seen[True] or texts[False] & texts[True]:
        raise ValueError("train and held-out share a composition or a description")
    return {
        "operations": len(operations()),
        "train_phrasings": phrasings[False],
        "held_out_phrasings": phrasings[True],
        "train_compositions_seen": len(seen[False]),
        "held_out_compositions_seen": len(seen[True]),
    }


def main() -> None:
    """Write samples, or prove the split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=100, help="samples of each role")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("samples.jsonl"))
    parser.add_argument("--prove", action="store_true", help="check the split and write nothing")
    options = parser.parse_args()
    if options.prove:
        print(json.dumps(prove_disjoint(options.seed), indent=2))
        return
    with options.out.open("w", encoding="utf-8") as file:
        for role in ("planner", "coder", "critic"):
            for sample in samples(role, options.seed, options.tasks, options.held_out):
                file.write(json.dumps(sample.__dict__, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
