"""A run under way: what stands behind the ``ctx`` that agents and pipeline functions get."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentmux.agent import Agent, Run, resolve
from agentmux.clock import Clock, within
from agentmux.config import Limits
from agentmux.engine.base import Footprint
from agentmux.errors import ConfigError, ContextOverflow, EngineError, LimitExceeded, OutputInvalid, RequestInvalid
from agentmux.log import get_logger
from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Completion,
    Event,
    Message,
    OutputRetried,
    RunErrored,
    RunFinished,
    RunResult,
    RunStarted,
    TurnNumbers,
    Usage,
)
from agentmux.models import known
from agentmux.prompt import ChatRenderer, conversation, reflection
from agentmux.sampling import SamplingParams
from agentmux.scheduler import Scheduler
from agentmux.schema import AnswerRejected, OutputSchema, OutputSchemas
from agentmux.turn import Turn, TurnSpec


@dataclass(frozen=True, slots=True)
class Services:
    """What runs need of their runtime."""

    scheduler: Scheduler
    footprints: Mapping[str, Footprint]
    clock: Clock
    renderer: ChatRenderer = field(default_factory=ChatRenderer)
    schemas: OutputSchemas = field(default_factory=OutputSchemas)
    turn_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def turn(self, spec: TurnSpec, run: str, agent: str, emit: Callable[[Event], None], span: int) -> Turn:
        """A new turn, not yet submitted."""
        return Turn(next(self.turn_ids), run, agent, spec, emit, span)

    async def complete(self, turn: Turn) -> Completion:
        """Carry a turn through to its end. Raises its error, and EngineError if it was cancelled from elsewhere."""
        await self.scheduler.complete(turn)
        if turn.completion is not None:
            return turn.completion
        raise turn.error or EngineError(
            f"turn {turn.id} of model {turn.spec.model} was cancelled: its run has ended, or the runtime was closed"
        )


class RunState:
    """What all agents of one run share."""

    def __init__(self, services: Services, limits: Limits, emit: Callable[[Event], None]) -> None:
        self.id = uuid.uuid4().hex
        self.services = services
        self.limits = limits
        self.emit = emit
        self.started_s = services.clock.now()
        self.usage = Usage()
        self.messages: list[Message] = []
        self.turns: list[TurnNumbers] = []
        self.stopped: Exception | None = None
        """Why the run was cancelled from within the framework; it is raised in place of the cancellation."""
        self.error: BaseException | None = None
        """What ended the run, if it gave no result."""
        self._under_way: set[Turn] = set()
        self._ended = False
        self._spans = itertools.count(1)
        self.log = get_logger("agentmux.run").bind(run=self.id)

    @property
    def deadline_s(self) -> float | None:
        """Second on the runtime's clock at which the run is ended."""
        return None if self.limits.wall_s is None else self.started_s + self.limits.wall_s

    def result(self, output: Any) -> RunResult[Any]:
        """The run's result so far, with this output."""
        return RunResult(self.id, output, self.usage, tuple(self.messages), tuple(self.turns))

    async def drive(self, name: str, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The whole run, from its first event to its last. Raises nothing: ``error`` holds what went wrong."""
        task = asyncio.current_task()
        timer = None
        if self.deadline_s is not None and task is not None:
            timer = self.services.clock.call_at(self.deadline_s, lambda: self._expire(task))
        self.emit(RunStarted(self.id, name, 0))
        output: Any = None
        try:
            output = await self.execute(target, args, kwargs)
        # The task is the run's own: whoever waits for the run learns of its cancellation from the last event.
        except (Exception, asyncio.CancelledError) as error:
            self.error = error
        finally:
            if timer:
                timer.cancel()
            await self.end()
        self.error = self.stopped or self.error
        if self.error is None:
            self.emit(RunFinished(self.id, name, 0, self.result(output)))
        else:
            self.emit(RunErrored(self.id, name, 0, str(self.error) or type(self.error).__name__))

    def abandon(self) -> None:
        """The run's task is gone without a word: it was cancelled before its first step, or the process is ending."""
        self.error = self.stopped or asyncio.CancelledError()
        self.emit(RunErrored(self.id, "", 0, str(self.error) or type(self.error).__name__))

    def _expire(self, task: asyncio.Task[Any]) -> None:
        limit_s = self.limits.wall_s or 0.0
        self.stopped = self.stopped or LimitExceeded(f"the run took longer than {limit_s} s", limit=limit_s)
        task.cancel()

    async def execute(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], parent: int = 0) -> Any:
        """Run an agent or pipeline function within this run, and report its beginning and end."""
        name, agent, function = resolve(target)
        span = next(self._spans)
        self.emit(AgentStarted(self.id, name, span, parent))
        try:
            output = await function(RunContext(self, name, agent, span), *args, **kwargs)
        except BaseException as error:
            self.emit(AgentErrored(self.id, name, span, str(error) or type(error).__name__))
            raise
        self.emit(AgentFinished(self.id, name, span, output))
        return output

    async def turn(self, spec: TurnSpec, agent: str, span: int) -> Completion:
        """One turn on this run's account. Raises LimitExceeded if its limits leave no room for one."""
        if self._ended:
            raise EngineError(f"run {self.id} has ended; a task that it left behind asked for another turn")
        room, asked = self._room(), spec.max_tokens
        capped = asked if room is None else min(asked, room)
        spec = replace(spec, max_tokens=capped, queue_wait_s=self.limits.queue_wait_s)
        self.usage = replace(self.usage, turns=self.usage.turns + 1)
        turn = self.services.turn(spec, self.id, agent, self.emit, span)
        self._under_way.add(turn)
        try:
            completion = await self.services.complete(turn)
        finally:
            self._under_way.discard(turn)
        numbers = completion.stats
        self.usage = replace(
            self.usage,
            prompt_tokens=self.usage.prompt_tokens + numbers.prompt_tokens,
            generated_tokens=self.usage.generated_tokens + numbers.generated_tokens,
        )
        self.turns.append(numbers)
        if capped < asked and numbers.finish_reason == "length":
            raise LimitExceeded(
                f"the run's limit of {self.limits.tokens} tokens cut an answer short",
                used=self.usage.tokens,
                limit=float(self.limits.tokens or 0),
            )
        return completion

    async def end(self, grace_s: float = 5.0) -> None:
        """End the turns that tasks left behind by the run still wait for; further ones are refused."""
        self._ended = True
        left = list(self._under_way)
        for turn in left:
            self.services.scheduler.cancel(turn)
        if left:
            await asyncio.gather(*(within(self.services.clock, grace_s, turn.ended) for turn in left))

    def _room(self) -> int | None:
        """Tokens that the run may still use; None without a limit."""
        limits, used = self.limits, self.usage
        if limits.turns is not None and used.turns >= limits.turns:
            raise LimitExceeded(f"the run has used its {limits.turns} turns", used=used.turns, limit=limits.turns)
        if limits.tokens is None:
            return None
        if used.tokens >= limits.tokens:
            raise LimitExceeded(
                f"the run has used {used.tokens} of its {limits.tokens} tokens", used=used.tokens, limit=limits.tokens
            )
        return limits.tokens - used.tokens


class RunContext(Run):
    """The ``ctx`` of one agent or pipeline function."""

    def __init__(self, state: RunState, name: str, agent: Agent | None, span: int) -> None:
        self._state = state
        self._name = name
        self._agent = agent
        self._span = span

    @property
    def id(self) -> str:
        return self._state.id

    @property
    def agent(self) -> str:
        return self._name

    @property
    def usage(self) -> Usage:
        return self._state.usage

    @property
    def deadline(self) -> float | None:
        return self._state.deadline_s

    async def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See ``Run.run``."""
        return await self._state.execute(target, args, kwargs, self._span)

    async def ask(
        self,
        prompt: str,
        *,
        output: Any = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """See ``Run.ask``."""
        agent = self._agent
        if agent is None:
            raise ConfigError(f"pipeline function {self._name} has no model to ask; use ctx.run(SomeAgent, ...)")
        state = self._state
        footprint = state.services.footprints[known(agent.model, state.services.footprints)]
        schema = state.services.schemas.of(agent.output if output is None else output)
        messages = conversation(agent, schema, prompt, self._name)
        spec = TurnSpec(
            model=agent.model,
            prompt="",
            max_tokens=agent.max_tokens if max_tokens is None else max_tokens,
            sampling=sampling or agent.sampling,
            grammar=schema.grammar,
            stop=agent.stop,
        )
        return await self._converse(schema, spec, footprint, messages, agent.retries)

    async def _converse(
        self, schema: OutputSchema, spec: TurnSpec, footprint: Footprint, messages: tuple[Message, ...], retries: int
    ) -> Any:
        """Ask until an answer validates, with each rejected one and its error added to the messages."""
        state, attempts, problem = self._state, list[str](), ""
        state.messages.extend(messages)
        while True:
            try:
                prompt = state.services.renderer.render(
                    spec.model, footprint.chat_template, messages, footprint.bos_text, footprint.eos_text
                )
                completion = await state.turn(replace(spec, prompt=prompt), self._name, self._span)
            except (ContextOverflow, RequestInvalid) as error:
                if not attempts:
                    raise
                # The conversation with the errors fed back is too long for the context, or of a shape that the chat
                # template refuses. What the caller has to know is that the answers were invalid.
                raise self._invalid(problem, attempts) from error
            state.messages.append(Message("assistant", completion.text, self._name))
            try:
                return _parsed(schema, completion)
            except AnswerRejected as error:
                problem = str(error)
            attempts.append(completion.text)
            if len(attempts) > retries:
                raise self._invalid(problem, attempts)
            state.emit(OutputRetried(state.id, self._name, self._span, len(attempts), problem))
            state.log.debug("output retried", agent=self._name, attempt=len(attempts), error=problem)
            answer, request = reflection(completion.text, problem, self._name)
            state.messages.append(request)
            messages = (*messages, answer, request)

    def _invalid(self, problem: str, attempts: list[str]) -> OutputInvalid:
        message = f"agent {self._name} gave no valid answer in {len(attempts)} attempts; the last: {problem}"
        return OutputInvalid(message, tuple(attempts))


def _parsed(schema: OutputSchema, completion: Completion) -> Any:
    try:
        return schema.parse(completion.text)
    except AnswerRejected as error:
        if completion.finish_reason != "length":
            raise
        raise AnswerRejected(
            f"the answer was cut after {completion.stats.generated_tokens} tokens, it must be shorter ({error})"
        ) from error
