"""Writes the program."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentmux.agent import Agent, Run
from agentmux.agents import prompts
from agentmux.sampling import SamplingParams

_REASONING = re.compile(r"\A.*</think>", re.DOTALL)
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


class Coder(Agent):
    """Task, plan and what was wrong with the last attempt -> Python source that defines ``f``."""

    model = "coder"
    instructions = (
        "You write small Python functions. The user gives a task and a plan, and from the second round on an attempt "
        "with feedback on it. Answer with Python source only: one function named f, and the imports from the standard "
        "library that it needs. No explanation, no example calls, no printing, no input. When there is an attempt, "
        "mend what the feedback says and answer with the whole function again, never with one that failed before."
    )
    output = str
    max_tokens = 512

    async def run(
        self,
        ctx: Run,
        description: str,
        steps: Sequence[str],
        attempt: str | None = None,
        feedback: str | None = None,
        earlier: Sequence[str] = (),
        sampling: SamplingParams | None = None,
    ) -> str:
        """Write ``f``; ``attempt`` and ``feedback`` are the last round's program and what to mend in it.

        ``earlier`` are the programs of the rounds before that, which failed as well. ``sampling`` None: greedy.
        """
        question = prompts.coder_prompt(description, steps, attempt, feedback, earlier)
        answer: str = await ctx.ask(question, sampling=sampling)
        return extract_code(answer)


def extract_code(answer: str) -> str:
    """The program in a model's answer: without reasoning, without code fences and what is said around them.

    Of several fenced blocks it is the first that defines ``f``, else the first.
    """
    text = _REASONING.sub("", answer)
    blocks = _FENCE.findall(text)
    defining = [block for block in blocks if re.search(r"^def f\b", block, re.MULTILINE)]
    code = (defining or blocks or [text])[0]
    return str(code).strip("\n").rstrip()
