"""The texts between agents and demonstration models."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from agentmux.agents import prompts

LINES = st.lists(st.text(min_size=1, max_size=40).filter(lambda text: "\n" not in text), max_size=5)


def test_the_planner_reads_the_description_alone() -> None:
    assert prompts.planner_prompt("Sort the list.") == "Sort the list."


def test_a_first_round_shows_task_and_plan() -> None:
    text = prompts.coder_prompt("Sort the list.", ["Sort the numbers in ascending order.", "Add up the numbers."])
    assert text == "Task: Sort the list.\nPlan:\n1. Sort the numbers in ascending order.\n2. Add up the numbers."


def test_a_later_round_adds_attempt_and_feedback() -> None:
    text = prompts.coder_prompt("T.", ["S."], attempt="def f(x):\n    return x\n", feedback="Wrong step.")
    assert text == "Task: T.\nPlan:\n1. S.\nAttempt:\ndef f(x):\n    return x\nFeedback: Wrong step."


def test_programs_that_failed_before_come_ahead_of_the_attempt_and_are_bounded() -> None:
    text = prompts.coder_prompt("T.", [], "c", "No.", earlier=("x", "a\n", "b"))
    assert text == "Task: T.\nPlan:\nFailed before:\na\nFailed before:\nb\nAttempt:\nc\nFeedback: No."


def test_the_critic_reads_task_code_and_report() -> None:
    text = prompts.critic_prompt("T.", "def f(x):\n    return x\n", "ok f(1) == 1")
    assert text == "Task: T.\nCode:\ndef f(x):\n    return x\nReport:\nok f(1) == 1"


def test_report_lines() -> None:
    assert prompts.report_line("f([1, 2]) == 3", True) == "ok f([1, 2]) == 3"
    assert prompts.report_line("f([5]) == 5", False, got="6") == "wrong f([5]) == 5, got 6"
    line = prompts.report_line("f([]) == 0", False, error="IndexError: list index out of range")
    assert line == "error f([]) == 0, IndexError: list index out of range"
    assert prompts.load_error_report("SyntaxError: invalid syntax") == "error SyntaxError: invalid syntax"


def test_failing_lines_come_first_and_are_bounded() -> None:
    lines = ["ok f(1) == 1"] * 8 + ["wrong f(2) == 2, got 3"]
    text = prompts.report_text(lines).split("\n")
    assert text[0].startswith("wrong")
    assert len(text) == prompts.REPORT_LINES
    assert prompts.report_text([]) == "no examples"


@given(LINES)
def test_plans_survive_json(steps: list[str]) -> None:
    assert json.loads(prompts.planner_answer(steps)) == {"steps": steps}


@given(st.booleans(), st.text())
def test_verdicts_survive_json_in_key_order(approve: bool, feedback: str) -> None:
    text = prompts.critic_answer(approve, feedback)
    assert list(json.loads(text).items()) == [("approve", approve), ("feedback", feedback)]


@given(st.text(), st.text(), st.text())
def test_a_report_line_is_one_bounded_line(argument: str, expected: str, got: str) -> None:
    line = prompts.report_line(f"f({argument!r}) == {expected!r}", False, got=repr(got))
    assert "\n" not in line
    assert len(line) <= 3 * prompts.VALUE_CHARS + 20
