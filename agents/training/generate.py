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
from .chains import composition, is_held_out, is_valid, sample_chain
from .describe import describe
from .grammar import split
from .inputs import Example, describe_error, load, make_examples, run_examples
from .mistakes import Mistake, make_mistake, wrong_chain
from .operations import Use, operations
from .render import Style, random_style, reference, render
from .vague import READING_WEIGHTS, VAGUE, Vague, readings, vague_at

EXAMPLES = 12
"""Examples made for each task; some are shown, the others are hidden."""

FEEDBACK_CHARS = 120
"""Longest failing example that the critic repeats beside a hint."""

EARLIER_SHARE = 0.3
"""Share of wrong attempts that come after another one."""


VAGUE_SHARE = 0.42
"""Share of tasks that are said vaguely if a phrase for it exists and all readings make sense: 22 % of all."""

VAGUE_SHARE_OF_CASES = 0.8
"""The same for samples on wrong attempts, where vague phrases are what there is to learn."""


@dataclass(frozen=True)
class Task:
    """One task: its English, the chain that is meant, its plan and programs.

    Attributes:
        readings: all chains that the English can mean, the commonest first; one where it is exact.
        steps: the plan of the commonest reading, which nobody can improve on without examples.
        first: the program of the commonest reading.
        code: the right program, that of `uses`.
    """

    description: str
    uses: tuple[Use, ...]
    readings: tuple[tuple[Use, ...], ...]
    steps: tuple[str, ...]
    style: Style
    first: str
    code: str

    @property
    def is_vague(self) -> bool:
        """Whether the description has several readings."""
        return len(self.readings) > 1


@dataclass(frozen=True)
class Case:
    """A task with examples and a wrong attempt that fails at least one of them, after another that did too."""

    task: Task
    examples: tuple[Example, ...]
    mistake: Mistake
    outcomes: tuple[tuple[str | None, str | None], ...]
    earlier: Mistake | None = None

    def is_ok(self, index: int) -> bool:
        """Return whether the wrong attempt passes example `index` all the same."""
        return self.outcomes[index][0] == self.examples[index].expected


@dataclass(frozen=True)
class Sample:
    """One training sample of one model."""

    role: str
    prompt: str
    answer: str


def _vaguely(uses: tuple[Use, ...], rng: random.Random) -> tuple[tuple[int, Vague], tuple[tuple[Use, ...], ...]] | None:
    """Return (place and phrase, chains of its readings), or None where no vague phrase fits."""
    vague = vague_at(uses, rng)
    if vague is None:
        return None
    chains = readings(uses, *vague)
    return (vague, chains) if all(is_valid([item.op for item in chain]) for chain in chains) else None


def make_task(rng: random.Random, held_out: bool = False, vague_share: float = VAGUE_SHARE) -> Task:
    """Return a random task from one side of the split."""
    uses = sample_chain(rng, held_out)
    style = random_style(rng)
    said = _vaguely(uses, rng) if rng.random() < vague_share else None
    if said is None:
        code = render(uses, style)
        steps = tuple(use.step for use in uses)
        return Task(describe(uses, held_out, rng), uses, (uses,), steps, style, code, code)
    vague, chains = said
    meant = rng.choices(chains, READING_WEIGHTS[len(chains)])[0]
    steps = tuple(use.step for use in chains[0])
    text = describe(meant, held_out, rng, vague)
    return Task(text, meant, chains, steps, style, render(chains[0], style), render(meant, style))


def misread(task: Task) -> list[Mistake]:
    """Return the attempts that follow the other readings of `task`, the commonest first."""
    made = []
    for chain in task.readings:
        if chain != task.uses:
            step = next(mine.step for mine, other in zip(task.uses, chain, strict=True) if mine != other)
            made.append(Mistake(render(chain, task.style), f"Read it otherwise: {step}"))
    return made


def fails(code: str, examples: Sequence[Example]) -> bool:
    """Return whether `code`, a program of this package, fails at least one of `examples`."""
    outcomes = run_examples(code, examples)
    return any(value != example.expected for (value, _), example in zip(outcomes, examples, strict=True))


def telling(task: Task, examples: Sequence[Example], shown: int) -> list[Example] | None:
    """Return `examples` reordered so that each other reading fails one of the first `shown`; None if that cannot be."""
    first: list[Example] = []
    for other in misread(task):
        if fails(other.code, first):
            continue
        outcomes = run_examples(other.code, examples)
        failing = [e for (value, _), e in zip(outcomes, examples, strict=True) if value != e.expected]
        if not failing:
            return None
        first.append(failing[0])
    if len(first) > shown:
        return None
    rest = [example for example in examples if example not in first]
    filled = rest[: shown - len(first)]
    return sorted(first + filled, key=list(examples).index) + rest[shown - len(first) :]


def _wrong(task: Task, failed: Sequence[Mistake], rng: random.Random) -> Mistake | None:
    """Return an attempt that is not among those that `failed`: another reading, or a mistake."""
    known = {mistake.code for mistake in failed}
    others = [other for other in misread(task) if other.code not in known]
    if others and rng.random() < 0.8:
        return others[0] if rng.random() < 0.7 else rng.choice(others)
    mistake = make_mistake(task.uses, task.style, rng)
    if mistake is None or mistake.code in known:
        return None
    return next((other for other in others if other.code == mistake.code), mistake)


def make_case(rng: random.Random, held_out: bool = False) -> Case:
    """Return a task with examples and a wrong attempt; tasks whose values tell nothing are dropped."""
    while True:
        task = make_task(rng, held_out, VAGUE_SHARE_OF_CASES)
        examples = make_examples(reference(task.uses), task.uses, rng, EXAMPLES)
        if examples is None:
            continue
        failed: list[Mistake] = []
        wanted = 2 if rng.random() < EARLIER_SHARE else 1
        for _ in range(6):
            mistake = _wrong(task, failed, rng)
            if mistake is None or not fails(mistake.code, examples):
                continue
            failed.append(mistake)
            if len(failed) == wanted:
                outcomes = run_examples(mistake.code, examples)
                return Case(task, tuple(examples), mistake, tuple(outcomes), failed[0] if wanted == 2 else None)


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
    """Return the critic's feedback: the first failing example with what came out and what should, then the hint.

    Where that example would be long, the hint stands alone.
    """
    line = report.split("\n")[0]
    call, separator, rest = line.partition(" == ")
    if separator and line.startswith("wrong "):
        expected, _, got = rest.rpartition(", got ")
        shown = f"{call[6:]} gives {got}, should be {expected}."
    elif separator and line.startswith("error "):
        error = rest.rpartition(": ")[0].rpartition(", ")[2] or rest.rpartition(", ")[2]
        shown = f"{call[6:]} raises {error}."
    else:
        return hint
    return f"{shown} {hint}".strip() if len(shown) <= FEEDBACK_CHARS or not hint else hint


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
    """Return a first round, by the commonest reading; one plan in twenty-five is wrong or missing."""
    steps: Sequence[str] = task.steps
    draw = rng.random()
    if draw < 0.01:
        steps = ()
    elif draw < 0.04 and (wrong := wrong_chain(task.uses, rng)) is not None and not task.is_vague:
        steps = [use.step for use in wrong[0]]
    return Sample("coder", coder_prompt(task.description, steps), task.first)


def _repair_feedback(case: Case, hint: str, rng: random.Random) -> str:
    visible = _shown(case, rng, fail=True)
    report = report_for(case.mistake.code, [case.examples[i] for i in visible], [case.outcomes[i] for i in visible])
    draw = rng.random()
    if draw < 0.05:  # what the loop says when the critic has nothing to say
        return report.split("\n")[0]
    return feedback_for(report, "" if draw < 0.12 else hint) or "This is not what the task asks."


def repair_sample(case: Case, held_out: bool, rng: random.Random) -> Sample:
    """Return a later round: the failed attempts, what the critic says of the last one, and the correction.

    The correction differs from every failed attempt. Now and then the task describes what the attempt does and the
    feedback alone says what is meant, or the critic proposes what failed before: the coder is to believe what ran.
    """
    task, mistake, earlier = case.task, case.mistake, case.earlier
    hint, description, steps = mistake.hint, task.description, task.steps
    if not task.is_vague and mistake.uses is not None:
        draw = rng.random()
        if draw < 0.2 and _tellable(mistake.uses, held_out):
            description = describe(mistake.uses, held_out, rng)
        if draw < 0.3:
            steps = tuple(use.step for use in mistake.uses)
    proposed = [other for other in misread(task) if earlier is not None and earlier.code == other.code]
    if proposed and rng.random() < 0.25:
        hint = _hint_for(task, proposed[0])
    feedback = _repair_feedback(case, hint, rng)
    before = (earlier.code,) if earlier is not None else ()
    return Sample("coder", coder_prompt(description, steps, mistake.code, feedback, before), task.code)


def _tellable(uses: tuple[Use, ...], held_out: bool) -> bool:
    """Return whether a wrong chain can be described without leaving this side of the split."""
    return len(uses) <= 4 and is_held_out([use.op.name for use in uses]) == held_out


def _hint_for(task: Task, other: Mistake) -> str:
    """Return the hint of a critic who takes the reading behind `other` for what is meant."""
    chain = next(chain for chain in task.readings if render(chain, task.style) == other.code)
    return "Read it otherwise: " + next(b.step for a, b in zip(task.uses, chain, strict=True) if a != b)


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
    shown = _shown(case, rng, fail=mistake.hint.startswith("Read it") or rng.random() > 0.07)
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
            if rng.random() < 0.5:
                batch = [coder_sample(make_task(rng, held_out), rng)]
            else:
                batch = [repair_sample(make_case(rng, held_out), held_out, rng)]
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
    for group in VAGUE:
        train, held_out = split(group.verb, group.owner)
        if set(train) & set(held_out):
            raise ValueError(f"a vague phrasing of {group.name} is on both sides")
        phrasings[False] += len(train)
        phrasings[True] += len(held_out)
    seen: dict[bool, set[tuple[str, ...]]] = {}
    texts: dict[bool, set[str]] = {}
    vague: dict[bool, int] = {}
    for side in (False, True):
        rng = random.Random(f"prove {seed} {side}")
        tasks = [make_task(rng, side) for _ in range(count)]
        seen[side] = {composition(chain) for task in tasks for chain in task.readings}
        vague[side] = sum(task.is_vague for task in tasks)
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
        "vague_phrases": len(VAGUE),
        "train_vague_percent": round(100 * vague[False] / count),
        "held_out_vague_percent": round(100 * vague[True] / count),
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
