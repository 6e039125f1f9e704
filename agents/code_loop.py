"""Planner, coder and critic, round after round, until a program is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentmux.agent import Run
from agentmux.agents.coder import Coder
from agentmux.agents.critic import Critic, Review, Verdict
from agentmux.agents.planner import Planner
from agentmux.agents.sandbox import Report, parse_examples
from agentmux.errors import ConfigError
from agentmux.pipeline import pipeline


@dataclass(frozen=True, slots=True)
class Solution:
    """The best program that was found for a task."""

    description: str
    steps: tuple[str, ...]
    """The plan."""
    code: str
    passed: bool
    """Whether every example gave the expected value when the program was run. The critic has no say in this."""
    rounds: int
    """How often the coder wrote, whichever round the code is from."""
    report: Report
    verdict: Verdict
    """The critic's word on this code."""


@pipeline
async def solve(ctx: Run, description: str, examples: Sequence[str], max_rounds: int = 3) -> Solution:
    """Plan, then write and judge until the examples pass and the critic approves, ``max_rounds`` times at most.

    What was measured decides: a program that fails an example is never accepted, however the critic likes it. A passing
    program that the critic rejects gets another round, and is the answer if that brings nothing better.

    Raises ConfigError for malformed examples before any model is asked.
    """
    parse_examples(examples)
    if max_rounds < 1:
        raise ConfigError(f"max_rounds={max_rounds} must be at least 1")
    plan = await ctx.run(Planner, description)
    best: tuple[str, Review] | None = None
    attempt: str | None = None
    feedback: str | None = None
    failed: list[str] = []
    for rounds in range(1, max_rounds + 1):
        earlier = [program for program in failed if program != attempt]
        code = await ctx.run(Coder, description, plan.steps, attempt, feedback, earlier)
        settled = best is not None and best[1].report.passed and code == best[0]  # the coder stands by it
        if not settled:
            review = await ctx.run(Critic, description, code, examples)
            settled = review.report.passed and review.verdict.approve
            if best is None or settled or review.report.passed or not best[1].report.passed:
                best = (code, review)
            if not review.report.passed and code not in failed:
                failed.append(code)
            attempt, feedback = code, what_to_mend(review)
        if settled or rounds == max_rounds:
            break
    assert best is not None
    code, review = best
    return Solution(description, tuple(plan.steps), code, review.report.passed, rounds, review.report, review.verdict)


def what_to_mend(review: Review) -> str:
    """Feedback for the coder: the critic's, or where it has nothing to object, the first line of the report."""
    if review.verdict.feedback.strip() and (review.report.passed or not review.verdict.approve):
        return " ".join(review.verdict.feedback.split())
    return review.report.text.splitlines()[0]
