"""What agents and pipeline functions see of their run: the ``ctx`` that is handed to them, and how a run is driven."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from agentmux.agent import Agent, Run, Session, first_model, resolve
from agentmux.asking import Answered, Asking, Question
from agentmux.errors import AgentmuxError, ConfigError, LimitExceeded, ToolError, said
from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Message,
    RunErrored,
    RunFinished,
    RunStarted,
    ToolCall,
    Usage,
)
from agentmux.run import Place, RunState, forget_quietly
from agentmux.sampling import SamplingParams
from agentmux.sessions import Conversation, OpenQuestion
from agentmux.toolbox import recorded, run_tool
from agentmux.tools import ModelRetry, Tool


async def drive(state: RunState, name: str, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """A whole run, from its first event to its last. Raises nothing: ``state.error`` holds what went wrong."""
    task = asyncio.current_task()
    timer = None
    if state.deadline_s is not None and task is not None:
        timer = state.services.clock.call_at(state.deadline_s, lambda: _expire(state, task))
    state.emit(RunStarted(state.id, name, 0))
    output: Any = None
    try:
        output = await execute(state, target, args, kwargs)
    # The task is the run's own: whoever waits for the run learns of its cancellation from the last event.
    except (Exception, asyncio.CancelledError) as error:
        state.error = error
    finally:
        if timer:
            timer.cancel()
        try:
            await state.end()
        except asyncio.CancelledError as error:  # it had its result, and waited only for tasks that it left behind
            state.error = state.error or error
    state.error = state.stopped or state.error
    if state.error is not None:
        abandon(state, name)
        return
    try:
        state.record_end(output)
    except AgentmuxError as error:
        state.error = error
        _tell(state, name, error)
    else:
        state.emit(RunFinished(state.id, name, 0, state.result(output)))


def abandon(state: RunState, name: str = "") -> None:
    """Write down and say how the run ended without a result. Without an error, its task went without a word: it was
    cancelled before its first step, or the process is ending."""
    state.error = error = state.error or state.stopped or asyncio.CancelledError()
    with contextlib.suppress(AgentmuxError):  # what went wrong first is what has to be seen
        state.record_end(None)
    _tell(state, name, error)


def _tell(state: RunState, name: str, error: BaseException) -> None:
    partial = state.result(None)
    with contextlib.suppress(AttributeError):  # an exception with slots has no room for it
        setattr(error, "partial", partial)  # noqa: B010  # of whatever class it is
    state.emit(RunErrored(state.id, name, 0, said(error), partial))


def _expire(state: RunState, task: asyncio.Task[Any]) -> None:
    limit_s = state.limits.wall_s or 0.0
    state.stopped = state.stopped or LimitExceeded(f"the run took longer than {limit_s} s", limit=limit_s)
    task.cancel()


async def execute(
    state: RunState,
    target: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    parent: int = 0,
    then: str | None = None,
    within: tuple[OpenQuestion, ...] = (),
) -> Any:
    """Run an agent or pipeline function within a run, and report its beginning and end. ``within``: the questions in
    conversations that wait for what it gives, which is part of their answers."""
    name, agent, function = resolve(target)
    place = Place(name, next(state.spans))
    state.emit(AgentStarted(state.id, name, place.span, parent))
    try:
        with state.services.bound(run=state.id, agent=name, span=place.span):
            output = await function(RunContext(state, place, agent, then, within), *args, **kwargs)
    except BaseException as error:
        state.emit(AgentErrored(state.id, name, place.span, said(error)))
        raise
    state.emit(AgentFinished(state.id, name, place.span, output))
    return output


class RunContext(Run):
    """The ``ctx`` of one agent or pipeline function."""

    def __init__(
        self,
        state: RunState,
        place: Place,
        agent: Agent | None,
        then: str | None = None,
        within: tuple[OpenQuestion, ...] = (),
    ) -> None:
        self._state = state
        self._place = place
        self._agent = agent
        self._then = then
        self._within = within

    @property
    def id(self) -> str:
        return self._state.id

    @property
    def agent(self) -> str:
        return self._place.agent

    @property
    def usage(self) -> Usage:
        return self._state.usage

    @property
    def deadline(self) -> float | None:
        return self._state.deadline_s

    @property
    def session(self) -> Session:
        agent = self._asked()
        return KeptSession(self, self._state.conversation(self.agent, agent.model))

    async def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See ``Run.run``."""
        return await execute(self._state, target, args, kwargs, self._place.span, self._then, self._within)

    def before(self, target: Any) -> Run:
        """See ``Run.before``."""
        return RunContext(self._state, self._place, self._agent, first_model(target) or self._then, self._within)

    @contextlib.asynccontextmanager
    async def asking_in(self, kept: Conversation) -> AsyncIterator[RunContext]:
        """This ctx for what is part of an answer in a conversation, once it is its turn. Raises ConfigError if that
        would never be."""
        try:
            async with kept.asking(self.agent, self._within) as question:
                yield RunContext(self._state, self._place, self._agent, self._then, (*self._within, question))
        finally:
            if kept.ended:
                forget_quietly(self._state.services, kept.model, kept.engine_session)

    async def ask(
        self,
        prompt: str,
        *,
        output: Any = None,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """See ``Run.ask``."""
        question = self.question(prompt, output, tools, sampling, max_tokens)
        return (await self.answered(question)).value

    def stream(
        self,
        prompt: str,
        *,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> AsyncGenerator[str, None]:
        """See ``Run.stream``."""
        question = self.text_question(prompt, tools, sampling, max_tokens)
        return _pieces(lambda on_text: self.answered(question, on_text=on_text))

    async def call(self, tool: Any, /, **arguments: Any) -> Any:
        """See ``Run.call``."""
        chosen = Tool.of(tool)
        try:
            text = to_json(arguments).decode()
            values = chosen.validate(text)
        except (ModelRetry, ValueError, RecursionError) as problem:  # what is no JSON is a ValueError
            raise ToolError(f"tool {chosen.name} cannot be called so: {problem}") from None
        call = ToolCall(self._state.next_call(), chosen.name, text)
        done = recorded(self._state, self._place, chosen, call)
        done = done or await run_tool(self._state, self, self._place, chosen, call, values)
        if not done.ok:
            raise ToolError(f"tool {chosen.name}: {done.text}")
        return done.result

    def _asked(self) -> Agent:
        if self._agent is None:
            raise ConfigError(f"pipeline function {self.agent} has no model to ask; use ctx.run(SomeAgent, ...)")
        return self._agent

    def question(
        self,
        prompt: str,
        output: Any,
        tools: Sequence[Any] | None,
        sampling: SamplingParams | None,
        max_tokens: int | None,
    ) -> Question:
        """What is asked, with the agent's own settings where nothing else is given."""
        agent = self._asked()
        return Question(
            agent=agent,
            place=self._place,
            prompt=prompt,
            schema=self._state.services.schemas.of(agent.output if output is None else output),
            tools=self._state.services.toolsets.of(agent.tools if tools is None else tools),
            sampling=sampling or agent.sampling,
            max_tokens=agent.max_tokens if max_tokens is None else max_tokens,
            then=self._then,
        )

    def text_question(
        self, prompt: str, tools: Sequence[Any] | None, sampling: SamplingParams | None, max_tokens: int | None
    ) -> Question:
        """What is asked where the answer is to be streamed. Raises ConfigError if it is not a text."""
        question = self.question(prompt, None, tools, sampling, max_tokens)
        if question.schema.adapter is not None:
            raise ConfigError(f"{self.agent} gives typed answers, which are whole or not at all; use ctx.ask")
        return question

    async def answered(
        self,
        question: Question,
        *,
        history: Sequence[Message] = (),
        session: str | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answered:
        """Take the turns that the question takes, in ``session``, or in one that ends with it."""
        state = self._state
        state.refuse_if_ended()
        footprint = await state.services.loaded(question.agent.model)
        own = None
        if session is None and (question.tools or question.schema.adapter is not None):
            session = own = state.next_session()  # further turns may follow: they continue the first one's KV cache
        try:
            asking = Asking(state, self, question, footprint, history=history, session=session, on_text=on_text)
            return await asking.answer()
        finally:
            if own:
                forget_quietly(state.services, footprint.model, own)


class KeptSession(Session):
    """See ``Session``."""

    def __init__(self, ctx: RunContext, kept: Conversation) -> None:
        self._ctx = ctx
        self._kept = kept

    @property
    def messages(self) -> tuple[Message, ...]:
        return self._kept.messages

    def clear(self) -> None:
        """See ``Session.clear``."""
        self._kept.change((), self._ctx.id)

    async def ask(
        self,
        prompt: str,
        *,
        output: Any = None,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """See ``Session.ask``."""
        return await self._answered(self._ctx.question(prompt, output, tools, sampling, max_tokens))

    def stream(
        self,
        prompt: str,
        *,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> AsyncGenerator[str, None]:
        """See ``Session.stream``."""
        question = self._ctx.text_question(prompt, tools, sampling, max_tokens)
        return _pieces(lambda on_text: self._answered(question, on_text))

    async def _answered(self, question: Question, on_text: Callable[[str], None] | None = None) -> Any:
        kept = self._kept
        async with self._ctx.asking_in(kept) as ctx:
            answered = await ctx.answered(question, history=kept.messages, session=kept.engine_session, on_text=on_text)
            kept.change((*kept.messages, *answered.kept), ctx.id)
        return answered.value


async def _pieces(ask: Callable[[Callable[[str], None]], Any]) -> AsyncGenerator[str, None]:
    """What ``ask`` gives to its ``on_text``, as it comes; then what it raises."""
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    task = asyncio.ensure_future(ask(pieces.put_nowait))
    task.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        while (piece := await pieces.get()) is not None:
            yield piece
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if task.done() and not task.cancelled():
            task.exception()  # where the iteration was ended early, nobody else looks at it
