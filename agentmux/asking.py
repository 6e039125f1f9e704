"""One question to an agent's model: turns until there is an answer that validates.

The loop is the same for texts and typed answers, with tools and without, streamed or not. A turn either calls tools,
whose results go back to the model, or answers. An answer that does not validate goes back with what is wrong with it,
as often as the agent's ``retries`` allow. All turns of a question share one KV cache, so that each computes only what
is new in its prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agentmux.agent import Agent, Run
from agentmux.calls import AnswerPlan, Calls
from agentmux.engine.base import Footprint
from agentmux.errors import ContextOverflow, OutputInvalid, RequestInvalid
from agentmux.messages import Completion, Message, OutputRetried
from agentmux.prompt import describe, reflection, system_message
from agentmux.run import Place, RunState
from agentmux.sampling import SamplingParams
from agentmux.schema import AnswerRejected, OutputSchema
from agentmux.toolbox import Toolbox
from agentmux.tools import Tool
from agentmux.turn import TurnSpec


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked."""

    agent: Agent
    place: Place
    prompt: str
    schema: OutputSchema
    tools: tuple[Tool, ...]
    sampling: SamplingParams
    max_tokens: int
    then: str | None = None
    """The model that is going to be used next, if that is declared."""


class AnswerText:
    """Passes on, as it comes, what of a turn's text is the answer: no reasoning, no calls of tools."""

    def __init__(self, plan: AnswerPlan, emit: Callable[[str], None]) -> None:
        self._plan = plan
        self._emit = emit
        self._text = ""
        self._given = 0

    def feed(self, text: str) -> None:
        """New text of the turn."""
        self._text += text
        self.finish(self._plan.shown(self._text))

    def finish(self, answer: str) -> None:
        """Pass on what was not yet of the answer, or of that much of it."""
        new = answer[self._given :]
        self._given += len(new)
        if new:
            self._emit(new)


@dataclass(frozen=True, slots=True)
class Answered:
    """The value of the answer, and what a conversation keeps of the question: prompt, calls, results and answer."""

    value: Any
    kept: tuple[Message, ...]


class Asking:
    """One question on its way."""

    def __init__(
        self,
        state: RunState,
        ctx: Run,
        question: Question,
        footprint: Footprint,
        *,
        history: Sequence[Message] = (),
        session: str | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self._state = state
        self._question = question
        self._footprint = footprint
        self._session = session
        self._form = describe(state.services.renderer, footprint)
        self._toolbox = Toolbox(state, ctx, question.place, question.tools)
        name = question.place.agent
        muted = footprint.model in state.services.without_system
        system = None if muted else system_message(question.agent, question.schema, name)
        self._asked = Message("user", question.prompt, name)
        self._before = (*((system,) if system else ()), *history)
        self._new = () if history else self._before  # of a conversation that goes on, this was said before
        self._exchange: list[Message] = []  # calls and results since the question
        self._rejected: tuple[Message, ...] = ()  # answers that did not validate, each with what was wrong
        self._attempts: list[str] = []
        self._problem = ""
        self._rounds = 0
        self._on_text = on_text

    async def answer(self) -> Answered:
        """Take turns until there is an answer. See ``Run.ask`` for what it raises."""
        said = self._state.messages
        said.extend((*self._new, self._asked))
        while True:
            prompt, messages = self._prompt()
            plan = self._plan(prompt)
            text = None if self._on_text is None else AnswerText(plan, self._on_text)
            completion = await self._turn(prompt, messages, plan, text)
            try:
                reply = plan.read(completion.text, completion.finish_reason == "length").answer
                if not isinstance(reply, Calls):
                    value = self._parsed(reply.text, completion)
                elif reply.cut:
                    raise AnswerRejected(f"a call was cut after {completion.stats.generated_tokens} tokens")
            except AnswerRejected as error:
                said.append(Message("assistant", completion.text, self._question.place.agent))
                self._reject(completion.text, str(error))
                continue
            if isinstance(reply, Calls):
                await self._call(reply)
                continue
            if text is not None:
                text.finish(reply.text)
            message = Message("assistant", reply.text, self._question.place.agent)
            said.append(message)
            return Answered(value, (self._asked, *self._exchange, message))

    def _prompt(self) -> tuple[str, tuple[Message, ...]]:
        """The next turn's prompt, and the messages in it."""
        footprint, question = self._footprint, self._question
        messages = (*self._before, self._asked, *self._exchange, *self._rejected)
        with self._unless_rejected():
            text = self._state.services.renderer.render(
                footprint.model,
                footprint.chat_template,
                messages,
                footprint.bos_text,
                footprint.eos_text,
                tools=question.tools,
                thinking=question.agent.thinking,
            )
        return text, messages

    def _plan(self, prompt: str) -> AnswerPlan:
        """What the next turn's text may be: a call or an answer, or an answer only once there were calls enough."""
        question = self._question
        may_call = self._rounds < question.agent.tool_rounds and not self._toolbox.exhausted
        choice = question.agent.tool_choice if self._rounds == 0 else "auto"
        return self._state.services.plans.of(
            question.tools,
            question.schema,
            self._form,
            prompt,
            choice=choice if may_call and question.tools else "none",
        )

    async def _turn(
        self, prompt: str, messages: tuple[Message, ...], plan: AnswerPlan, text: AnswerText | None
    ) -> Completion:
        question = self._question
        spec = TurnSpec(
            model=self._footprint.model,
            prompt=prompt,
            max_tokens=question.max_tokens,
            sampling=question.sampling,
            grammar=plan.grammar,
            grammar_after=plan.grammar_after,
            show_special=plan.show_special,
            stop=question.agent.stop,
            session=self._session,
            priority=question.agent.priority,
            then=question.then,
        )
        with self._unless_rejected():
            return await self._state.turn(spec, question.place, messages, text.feed if text else None)

    @contextmanager
    def _unless_rejected(self) -> Iterator[None]:
        """Where answers were rejected, the conversation with the errors fed back may be too long for the context, or of
        a shape that the chat template refuses. What the caller has to know then is that the answers were invalid."""
        try:
            yield
        except (ContextOverflow, RequestInvalid) as error:
            if not self._attempts:
                raise
            raise self._invalid() from error

    async def _call(self, reply: Calls) -> None:
        self._rounds += 1
        name = self._question.place.agent
        calls = self._toolbox.numbered(reply.calls)
        asked = Message("assistant", reply.text, name, tool_calls=calls)
        self._state.messages.append(asked)
        outcomes = await self._toolbox.run(calls)
        results = [Message("tool", outcome.text, name, tool_call=outcome.call) for outcome in outcomes]
        self._state.messages.extend(results)
        self._exchange += [asked, *results]

    def _parsed(self, text: str, completion: Completion) -> Any:
        try:
            return self._question.schema.parse(text)
        except AnswerRejected as error:
            if completion.finish_reason != "length":
                raise
            raise AnswerRejected(
                f"the answer was cut after {completion.stats.generated_tokens} tokens, it must be shorter ({error})"
            ) from error

    def _reject(self, text: str, problem: str) -> None:
        """Feed an invalid answer back, or give up."""
        state, place = self._state, self._question.place
        self._problem = problem
        self._attempts.append(text)
        if len(self._attempts) > self._question.agent.retries:
            raise self._invalid()
        state.emit(OutputRetried(state.id, place.agent, place.span, len(self._attempts), problem))
        state.services.log.debug("output retried", agent=place.agent, attempt=len(self._attempts), error=problem)
        answer, request = reflection(text, problem, place.agent)
        state.messages.append(request)
        self._rejected = (*self._rejected, answer, request)

    def _invalid(self) -> OutputInvalid:
        name, count = self._question.place.agent, len(self._attempts)
        message = f"agent {name} gave no valid answer in {count} attempts; the last: {self._problem}"
        return OutputInvalid(message, tuple(self._attempts))
