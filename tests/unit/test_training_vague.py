"""Descriptions with several readings: the examples decide, and corrections are never what failed before."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux.agents.training.chains import composition, is_held_out
from agentmux.agents.training.demo_tasks import demo_tasks
from agentmux.agents.training.describe import NAMED
from agentmux.agents.training.evaluate import VISIBLE, held_out_tasks
from agentmux.agents.training.generate import (
    Case,
    critic_samples,
    fails,
    make_case,
    make_task,
    misread,
    repair_sample,
    telling,
)
from agentmux.agents.training.grammar import expand, split
from agentmux.agents.training.inputs import run_examples
from agentmux.agents.training.operations import by_name, operations
from agentmux.agents.training.vague import READING_WEIGHTS, VAGUE, kin

SEEDS = st.integers(0, 2**32)


def vague_case(seed: int) -> Case:
    rng = random.Random(seed)
    while True:
        case = make_case(rng)
        if case.task.is_vague:
            return case


@pytest.mark.parametrize("group", VAGUE, ids=lambda group: group.name)
def test_readings_are_interchangeable_and_their_phrases_are_split(group) -> None:
    ops = [by_name()[name] for name in group.readings]
    assert len({(op.takes, op.gives) for op in ops}) == 1
    assert all(op.params == ops[0].params for op in ops)
    assert len(ops) in READING_WEIGHTS
    assert len({kin()[op.name] for op in ops}) == 1
    train, held_out = split(group.verb, group.owner)
    assert train
    assert held_out
    assert not set(train) & set(held_out)
    assert {word for phrase in held_out for word in phrase.split()} <= {w for phrase in train for w in phrase.split()}


def test_no_exact_phrase_is_also_a_vague_one_or_says_two_operations() -> None:
    said: dict[tuple[str, str], str] = {}
    for name, takes, verb in (
        *((op.name, op.takes, op.verb) for op in operations()),
        *((group.owner, by_name()[group.readings[0]].takes, group.verb) for group in VAGUE),
    ):
        for phrase in expand(verb):
            assert said.setdefault((takes, phrase), name) == name


@given(SEEDS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_all_readings_of_a_task_are_on_its_side(seed: int, held_out: bool) -> None:
    task = make_task(random.Random(seed), held_out, vague_share=1.0)
    assert task.uses in task.readings
    assert {is_held_out([use.op.name for use in chain]) for chain in task.readings} == {held_out}
    assert len({composition(chain) for chain in task.readings}) == 1


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_description_names_what_it_takes(seed: int) -> None:
    task = make_task(random.Random(seed))
    assert re.search(NAMED[task.uses[0].op.takes], task.description, re.IGNORECASE)


def test_about_a_fifth_of_the_tasks_is_vague_and_the_commonest_reading_leads() -> None:
    rng = random.Random(11)
    tasks = [make_task(rng) for _ in range(1500)]
    vague = [task for task in tasks if task.is_vague]
    assert 0.15 < len(vague) / len(tasks) < 0.28
    assert all(task.steps == tuple(use.step for use in task.readings[0]) for task in vague)
    assert 0.4 < sum(task.uses == task.readings[0] for task in vague) / len(vague) < 0.7


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_corrections_pass_all_examples_and_differ_from_every_failed_program(seed: int) -> None:
    rng = random.Random(seed)
    case = make_case(rng)
    failed = [case.mistake.code] + ([case.earlier.code] if case.earlier else [])
    sample = repair_sample(case, False, rng)
    assert not fails(sample.answer, case.examples)
    assert sample.answer == case.task.code
    assert len(set(failed)) == len(failed)
    for code in failed:
        assert code != sample.answer
        assert fails(code, case.examples)
        assert code.rstrip("\n") in sample.prompt
    assert sample.prompt.count("Failed before:") == len(failed) - 1


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_readings_disagree_on_the_visible_example_that_fails(seed: int) -> None:
    case = vague_case(seed)
    shown = telling(case.task, case.examples, VISIBLE)
    if shown is None:
        return
    assert sorted(map(str, shown)) == sorted(map(str, case.examples))
    assert not fails(case.task.code, shown)
    for other in misread(case.task):
        meant, got = (run_examples(code, shown[:VISIBLE]) for code in (case.task.code, other.code))
        assert meant != got


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_critic_rejects_another_reading_with_a_failing_report_and_names_the_right_one(seed: int) -> None:
    case = vague_case(seed)
    verdicts = list(critic_samples(case, random.Random(seed)))
    if not case.mistake.hint.startswith("Read it otherwise: "):
        return
    assert "\nReport:\nwrong " in verdicts[1].prompt or "\nReport:\nerror " in verdicts[1].prompt
    assert verdicts[1].answer.startswith('{"approve": false')
    step = case.mistake.hint.removeprefix("Read it otherwise: ")
    assert step in [use.step for use in case.task.uses]


def test_every_reading_but_the_meant_one_fails_a_visible_example_of_measured_and_demo_tasks() -> None:
    for task, examples in held_out_tasks(5, 40):
        for other in misread(task):
            assert fails(other.code, examples[:VISIBLE])
    assert len(demo_tasks()) == 12
