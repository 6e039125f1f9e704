"""Planner, coder and critic, round after round, until a program is right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentmux.agent import Run
from agentmux.agents.coder import Coder
from agentmux.agents.critic import Critic, Review, Verdict
from agentmux.agents.planner import Planner
from agentmux.agents.sandbox import Report, parse_examples
from agentmux.errors import ConfigError, OutputInvalid
from agentmux.pipeline import pipeline
from agentmux.sampling import SamplingParams

DEFAULT_ROUNDS = 6
TEMPERATURES = (1.0, 1.5, 2.0, 3.0)
"""Of the answers that are drawn at once where greedy ones go round in circles."""


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
    """Rounds that it took, whichever the code is from."""
    report: Report
    verdict: Verdict
    """The critic's word on this code."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a solution is asked for, and what has failed."""

    description: str
    examples: Sequence[str]
    steps: Sequence[str]
    failed: list[str] = field(default_factory=list)
    """Programs, oldest first."""

    def earlier(self, attempt: str | None) -> list[str]:
        """What failed beside the last attempt."""
        return [program for program in self.failed if program != attempt]


@pipeline
async def solve(ctx: Run, description: str, examples: Sequence[str], max_rounds: int = DEFAULT_ROUNDS) -> Solution:
    """Plan, then write and judge until the examples pass and the critic approves, ``max_rounds`` times at most.

    What was measured decides: a program that fails an example is never accepted, however the critic likes it. A passing
    program that the critic rejects gets another round, and is the answer if that brings nothing better.

    Coder and critic answer greedily until the coder writes a program again that has failed: asked the same, both would
    say the same for ever. From then on a round has several attempts at once, each from an objection and a program that
    are drawn, and the best goes on.

    Raises ConfigError for malformed examples before any model is asked.
    """
    parse_examples(examples)
    if max_rounds < 1:
        raise ConfigError(f"max_rounds={max_rounds} must be at least 1")
    work = Work(description, examples, (await ctx.run(Planner, description)).steps)
    best: tuple[str, Review] | None = None
    last: tuple[str, Review] | None = None
    stuck = False
    for rounds in range(1, max_rounds + 1):
        if stuck and last:
            found = await _drawn(ctx, work, *last, rounds)
            if found is None:
                continue
        else:
            code = await _written(ctx, work, last)
            if best is not None and best[1].report.passed and code == best[0]:
                break  # the coder stands by it
            stuck = code in work.failed
            if stuck:
                continue
            found = code, await ctx.run(Critic, description, code, examples)
        last, (code, review) = found, found
        if review.report.passed or best is None or not best[1].report.passed:
            best = found
        if review.report.passed and review.verdict.approve:
            break
        if not review.report.passed:
            work.failed.append(code)
    assert best is not None
    code, review = best
    return Solution(description, tuple(work.steps), code, review.report.passed, rounds, review.report, review.verdict)


async def _written(ctx: Run, work: Work, last: tuple[str, Review] | None) -> str:
    attempt, feedback = (None, None) if last is None else (last[0], what_to_mend(last[1]))
    return await ctx.run(Coder, work.description, work.steps, attempt, feedback, work.earlier(attempt))


async def _drawn(ctx: Run, work: Work, attempt: str, review: Review, rounds: int) -> tuple[str, Review] | None:
    """The best of several attempts at once, with the critic's word on it; None if none of them is new."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(ctx.run(another, work, attempt, review, _sampling(temperature, 100 * rounds + number)))
            for number, temperature in enumerate(TEMPERATURES)
        ]
    found = dict(one for one in (task.result() for task in tasks) if one is not None)
    best = max(found.items(), key=lambda one: (one[1].report.passed, one[1].verdict.approve), default=None)
    work.failed.extend(code for code, judged in found.items() if best and code != best[0] and not judged.report.passed)
    return best


def _sampling(temperature: float, seed: int) -> SamplingParams:
    return SamplingParams(temperature=temperature, seed=seed, top_k=0, top_p=0.98, min_p=0.01)


@pipeline
async def another(
    ctx: Run, work: Work, attempt: str, review: Review, sampling: SamplingParams
) -> tuple[str, Review] | None:
    """One more program for an attempt that failed, after an objection that is drawn, and the critic's word on it.

    None if the models gave no valid answer, or a program that has failed before.
    """
    try:
        objection = await ctx.run(Critic, work.description, attempt, work.examples, review.report, sampling)
        earlier, feedback = work.earlier(attempt), what_to_mend(objection)
        code = await ctx.run(Coder, work.description, work.steps, attempt, feedback, earlier, sampling)
        if code in work.failed:
            return None
        return code, await ctx.run(Critic, work.description, code, work.examples)
    except OutputInvalid:
        return None


def what_to_mend(review: Review) -> str:
    """Feedback for the coder: the critic's, or where it has nothing to object, the first line of the report."""
    if review.verdict.feedback.strip() and (review.report.passed or not review.verdict.approve):
        return " ".join(review.verdict.feedback.split())
    return review.report.text.splitlines()[0]
