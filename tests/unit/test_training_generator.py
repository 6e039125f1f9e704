"""The generator of training samples: what it makes is right, and train and held-out share nothing."""

from __future__ import annotations

import ast
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux.agents.training.chains import composition, is_held_out, is_valid, sample_chain
from agentmux.agents.training.generate import EXAMPLES, make_case, make_task, prove_disjoint, samples
from agentmux.agents.training.grammar import expand, split
from agentmux.agents.training.inputs import load, make_examples, run_examples
from agentmux.agents.training.operations import operations, use
from agentmux.agents.training.render import random_style, reference, render

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_right_code_satisfies_its_examples_and_wrong_code_fails_one(seed: int, held_out: bool) -> None:
    case = make_case(random.Random(seed), held_out)
    assert len(case.examples) == EXAMPLES
    outcomes = run_examples(case.task.code, case.examples)
    assert [value for value, _ in outcomes] == [example.expected for example in case.examples]
    assert not all(case.is_ok(index) for index in range(EXAMPLES))
    assert run_examples(case.mistake.code, case.examples) == list(case.outcomes)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_every_example_is_a_python_expression_that_holds(seed: int) -> None:
    case = make_case(random.Random(seed))
    function = load(case.task.code)
    for example in case.examples:
        assert eval(example.expression, {"f": function}) is True


@pytest.mark.parametrize("op", operations(), ids=lambda op: f"{op.takes}-{op.name}")
def test_every_style_of_an_operation_gives_the_same_values(op) -> None:
    rng = random.Random(op.name)
    for _ in range(6):
        uses = (use(op, rng),)
        examples = make_examples(reference(uses), uses, rng, 6)
        for _ in range(4 if examples else 0):
            outcomes = run_examples(render(uses, random_style(rng)), examples)
            assert [value for value, _ in outcomes] == [example.expected for example in examples]


@given(SEEDS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_chains_are_valid_and_on_their_side(seed: int, held_out: bool) -> None:
    uses = sample_chain(random.Random(seed), held_out)
    assert 1 <= len(uses) <= 4
    assert is_valid([item.op for item in uses])
    assert is_held_out(composition(uses)) == held_out


def test_train_and_held_out_are_disjoint() -> None:
    numbers = prove_disjoint(seed=3, count=400)
    assert numbers["held_out_phrasings"] > 1000
    assert numbers["held_out_compositions_seen"] > 200


@pytest.mark.parametrize("op", operations(), ids=lambda op: f"{op.takes}-{op.name}")
def test_held_out_phrasings_use_known_words_only(op) -> None:
    train, held_out = split(op.verb, op.name)
    assert train
    assert held_out
    assert not set(train) & set(held_out)
    known = {word for phrase in train for word in phrase.split()}
    assert all(set(phrase.split()) <= known for phrase in held_out)


def test_the_bracket_grammar() -> None:
    assert expand("[a|b [c|d]] e") == ("a e", "b c e", "b d e")
    assert expand("x[|, y]") == ("x", "x, y")


@pytest.mark.parametrize("role", ["planner", "coder", "critic"])
def test_samples_depend_on_the_seed_alone(role: str) -> None:
    first, again = list(samples(role, 7, 40)), list(samples(role, 7, 40))
    assert first == again
    assert len(first) == 40
    assert first != list(samples(role, 8, 40))


def test_answers_have_their_form() -> None:
    for sample in samples("planner", 1, 100):
        steps = json.loads(sample.answer)["steps"]
        assert 1 <= len(steps) <= 4
    for sample in samples("critic", 1, 100):
        assert list(json.loads(sample.answer)) == ["approve", "feedback"]
    for sample in samples("coder", 1, 100):
        assert sample.answer.startswith("def f(")
        assert ast.parse(sample.answer)


def test_critics_see_both_verdicts_about_equally_often() -> None:
    verdicts = [json.loads(sample.answer)["approve"] for sample in samples("critic", 2, 600)]
    assert 0.4 < sum(verdicts) / len(verdicts) < 0.6


def test_descriptions_are_one_to_three_short_sentences() -> None:
    rng = random.Random(5)
    for _ in range(300):
        text = make_task(rng, held_out=True).description
        assert text[0].isupper()
        assert text.endswith(".")
        assert len(text) < 420
        assert "{" not in text
        assert "[" not in text
