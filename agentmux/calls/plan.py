"""What to ask an engine for, where tools, output type, a model's format and reasoning come together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentmux.calls.format import CallFormat, Choice, ReasoningState
from agentmux.calls.grammar import answer_grammar, chosen_tools
from agentmux.calls.read import Reasoned, read_answer, shown_text, split_reasoning
from agentmux.schema import AnswerRejected, OutputSchema
from agentmux.tools import Tool


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """What to ask an engine for, and how to read what comes."""

    grammar: str | None
    grammar_after: str | None
    """The grammar holds behind this text only: the prompt has opened the model's reasoning."""
    tools: tuple[Tool, ...]
    typed: bool
    """An answer is JSON, not any text."""
    form: CallFormat
    state: ReasoningState

    @property
    def show_special(self) -> bool:
        """Whether the text must have that of special tokens in it, as marks of calls and reasoning may be such."""
        return bool(self.tools) or self.state != "off" or bool(self.form.answer_open)

    def read(self, text: str, cut: bool = False, new_id: Callable[[], str] | None = None) -> Reasoned:
        """What a model's whole text means.

        Args:
            text: everything that it generated, with the text of special tokens.
            cut: it was ended by ``max_tokens`` or the end of the context (finish reason ``length``).
            new_id: gives ids for calls; None: ``call-1`` and so on.

        Raises AnswerRejected, fit to be shown to the model, if it never closed its reasoning, or for a call that the
        grammar would not have let pass (a stop text ended it, or the engine has no grammars).
        """
        reasoning, rest = split_reasoning(text, self.form, self.state, cut)
        return Reasoned(reasoning, read_answer(rest, self.tools, self.form, self.typed, cut, new_id))

    def reasoned(self, text: str) -> str:
        """Of a text still under way: the reasoning, once it has ended; "" until then, and where there is none."""
        try:
            return split_reasoning(text, self.form, self.state, cut=False)[0]
        except AnswerRejected:
            return ""

    def shown(self, text: str) -> str:
        """Of a text still under way: what is certainly the answer, and neither reasoning nor a call.

        It only grows as the text does, so that it can be streamed. Where it turns out to have been what a model says
        before its calls, ``read`` says so in the end.
        """
        return shown_text(text, self.form, self.state, self.typed, bool(self.tools))


def plan_answer(
    tools: Sequence[Tool],
    output: OutputSchema,
    form: CallFormat,
    prompt: str,
    *,
    choice: Choice = "auto",
    parallel: bool = True,
) -> AnswerPlan:
    """Puts tools, output type and a model's format together.

    Args:
        tools: what may be called.
        output: what an answer must be.
        form: how the model writes calls.
        prompt: the rendered text that the model is to go on with; its end tells whether it is to reason first.
        choice: ``auto``, ``required``, ``none`` or a tool's name.
        parallel: whether one message may hold several calls.

    Raises ConfigError if ``choice`` names no tool or demands one where there is none.
    """
    return _planned(tuple(tools), output, form, form.state(prompt), choice, parallel)


class AnswerPlans:
    """Makes plans, and remembers the latest ones. One instance belongs to one runtime."""

    def __init__(self, remembered: int = 256) -> None:
        self._cached = functools.lru_cache(maxsize=remembered)(_planned)

    def of(
        self,
        tools: Sequence[Tool],
        output: OutputSchema,
        form: CallFormat,
        prompt: str,
        *,
        choice: Choice = "auto",
        parallel: bool = True,
    ) -> AnswerPlan:
        """See ``plan_answer``. Tools and output types are told apart by which objects they are."""
        return self._cached(tuple(tools), output, form, form.state(prompt), choice, parallel)


def _planned(
    tools: tuple[Tool, ...],
    output: OutputSchema,
    form: CallFormat,
    state: ReasoningState,
    choice: Choice,
    parallel: bool,
) -> AnswerPlan:
    chosen = chosen_tools(tools, choice)
    after = form.reasoning.close if form.reasoning and state == "open" else None
    grammar = answer_grammar(chosen, output, form, choice=choice, parallel=parallel, state=state)
    return AnswerPlan(grammar, after if grammar else None, chosen, output.adapter is not None, form, state)
