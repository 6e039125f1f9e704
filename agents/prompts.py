"""The exact texts that the bundled agents exchange with the demonstration models.

The models know one format only, so the agents that ask and the generator that trained them
both build it here. Everything is a pure function of strings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

VALUE_CHARS = 60
"""Longest expression, value or error message in a report line, in characters."""

REPORT_LINES = 6
"""Most examples shown in one report; failing ones are kept first."""

EARLIER_PROGRAMS = 2
"""Most programs, beside the last one, that a coder is told have failed."""


def planner_prompt(description: str) -> str:
    """Return the planner's user message: the description alone."""
    return description


def planner_answer(steps: Sequence[str]) -> str:
    """Return the planner's output for these steps: ``{"steps": [...]}`` on one line."""
    return json.dumps({"steps": list(steps)}, ensure_ascii=False)


def coder_prompt(
    description: str,
    steps: Sequence[str],
    attempt: str | None = None,
    feedback: str | None = None,
    earlier: Sequence[str] = (),
) -> str:
    """Return the coder's user message.

    Args:
        description: the task, one or two sentences.
        steps: the plan, one sentence a step; may be empty.
        attempt: on later rounds, the program that was not approved.
        feedback: on later rounds, what the critic said of it.
        earlier: other programs that failed before, oldest first; the last `EARLIER_PROGRAMS` are shown.
    """
    lines = [f"Task: {description}", "Plan:"]
    lines += [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
    if attempt is not None:
        for program in earlier[-EARLIER_PROGRAMS:]:
            lines += ["Failed before:", program.rstrip("\n")]
        lines += ["Attempt:", attempt.rstrip("\n"), f"Feedback: {feedback or ''}".rstrip()]
    return "\n".join(lines)


def critic_prompt(description: str, code: str, report: str) -> str:
    """Return the critic's user message: the task, the program, and how the examples went."""
    body = code.rstrip("\n")
    return f"Task: {description}\nCode:\n{body}\nReport:\n{report}"


def critic_answer(approve: bool, feedback: str) -> str:
    """Return the critic's output: ``{"approve": ..., "feedback": ...}`` on one line."""
    return json.dumps({"approve": approve, "feedback": feedback}, ensure_ascii=False)


def shorten(text: str, limit_chars: int = VALUE_CHARS) -> str:
    """Return `text` on one line, with its tail replaced by ``...`` beyond `limit_chars`."""
    flat = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return flat if len(flat) <= limit_chars else flat[: limit_chars - 3] + "..."


def report_line(expression: str, expected_ok: bool, got: str | None = None, error: str | None = None) -> str:
    """Return one line on one example.

    Args:
        expression: the example, ``f(<literals>) == <literal>``.
        expected_ok: whether the program gave the expected value.
        got: ``repr`` of what it gave, when that was wrong.
        error: ``TypeName: message`` when it raised, or ``timeout``.
    """
    call, separator, expected = expression.partition(" == ")
    shown = shorten(call) + separator + shorten(expected)
    if error is not None:
        return f"error {shown}, {shorten(error)}"
    if expected_ok:
        return f"ok {shown}"
    return f"wrong {shown}, got {shorten(got if got is not None else 'None')}"


def load_error_report(error: str) -> str:
    """Return the whole report on a program that does not load, or that never came back.

    Args:
        error: ``SyntaxError: ...``, ``NameError: ...``, ``no function f``, ``timeout``.
    """
    return f"error {shorten(error)}"


def report_text(lines: Sequence[str]) -> str:
    """Return the report for these lines: failing ones first, `REPORT_LINES` of them at most."""
    if not lines:
        return "no examples"
    failing = [line for line in lines if not line.startswith("ok ")]
    passing = [line for line in lines if line.startswith("ok ")]
    return "\n".join((failing + passing)[:REPORT_LINES])
