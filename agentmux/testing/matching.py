"""Scripts that answer by what is asked, for turns whose order is not fixed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agentmux.engine.base import TurnRequest
from agentmux.testing.steps import ScriptError, Step

Condition = str | re.Pattern[str] | Callable[[TurnRequest], bool]


@dataclass(frozen=True, slots=True)
class When:
    """``step`` for turns whose prompt contains the text, matches the pattern somewhere, or of which the function holds.

    Token ids have no text: only a function can tell such prompts.
    """

    condition: Condition
    step: Step
    times: int | None = 1
    """How many turns it answers, and has to; None: any number, also none."""

    def matches(self, request: TurnRequest) -> bool:
        """Whether it is meant for this turn."""
        if not isinstance(self.condition, str | re.Pattern):
            return self.condition(request)
        if not isinstance(request.prompt, str):
            return False
        if isinstance(self.condition, str):
            return self.condition in request.prompt
        return self.condition.search(request.prompt) is not None

    def __str__(self) -> str:
        condition = self.condition
        if isinstance(condition, re.Pattern):
            return f"/{condition.pattern}/"
        return repr(condition) if isinstance(condition, str) else getattr(condition, "__name__", repr(condition))


class ByPrompt:
    """A script for one model: the first of ``choices`` that matches and is not used up gives a turn's step.

    ::

        ScriptedEngine({"coder": ByPrompt(When("sort", "def sort(x): ..."), When(re.compile(r"\\bsum\\b"), Failure()))})

    A turn that none matches is a ScriptError, and so are choices left over when the engine is closed. One instance
    belongs to one engine.
    """

    def __init__(self, *choices: When) -> None:
        self._choices = [(choice, choice.times) for choice in choices]

    def __call__(self, request: TurnRequest) -> Step:
        """The step for this turn. Raises ScriptError if there is none."""
        for index, (choice, times) in enumerate(self._choices):
            if times != 0 and choice.matches(request):
                self._choices[index] = (choice, times and times - 1)
                return choice.step
        choices = "; ".join(f"{choice}{' (used up)' if times == 0 else ''}" for choice, times in self._choices)
        raise ScriptError(
            f"no choice of model {request.model} matches the prompt {request.prompt!r}; there are: {choices or 'none'}"
        )

    def left(self) -> list[str]:
        """Choices that have to answer more turns."""
        return [f"{choice}{f' {times} times' if times > 1 else ''}" for choice, times in self._choices if times]
