"""Judges the program, knowing how it did on the task's examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from agentmux.agent import Agent, Run
from agentmux.agents import prompts
from agentmux.agents.sandbox import Report, SandboxLimits, run_examples
from agentmux.pipeline import pipeline
from agentmux.sampling import SamplingParams


class Verdict(BaseModel):
    """What the critic answers."""

    approve: bool
    feedback: str


@dataclass(frozen=True, slots=True)
class Review:
    """What was measured, and what the critic makes of it."""

    report: Report
    verdict: Verdict


@pipeline
async def examine(ctx: Run, code: str, examples: Sequence[str], limits: SandboxLimits | None = None) -> Report:
    """Run ``code`` on ``examples`` as a step of its own, so that the run's events show it and what came of it."""
    return await run_examples(code, examples, limits)


class Critic(Agent):
    """Task, program and examples -> `Review`: the program is run in the sandbox, then the model judges it."""

    model = "critic"
    instructions = (
        "You review small Python functions. The user gives a task, the code of a function f, and a report of how f did "
        'on examples. Answer with JSON only, {"approve": true or false, "feedback": "..."}. Approve only if every '
        "line of the report begins with ok and the code does what the task says. Otherwise say in one or two "
        "sentences what is wrong and how to mend it."
    )
    output = Verdict
    show_schema = False
    max_tokens = 256
    limits = SandboxLimits()

    async def run(
        self,
        ctx: Run,
        description: str,
        code: str,
        examples: Sequence[str],
        report: Report | None = None,
        sampling: SamplingParams | None = None,
    ) -> Review:
        """Run ``code`` on ``examples`` and judge it. Raises ConfigError for malformed examples.

        Args:
            report: how it did on them, where that is known; it is not run again then.
            sampling: None: greedy.
        """
        if report is None:
            report = await ctx.run(examine, code, examples, self.limits)
        question = prompts.critic_prompt(description, code, report.text)
        verdict: Verdict = await ctx.ask(question, sampling=sampling)
        return Review(report, verdict)
