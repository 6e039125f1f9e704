"""A run under way: what all its agents share. Identity, limits, usage, what was said, and the way to the scheduler.

A run may be *durable*: then its journal record is asked before each step (a turn, a tool's call) whether the step was
completed before the run was interrupted, and is told of each step that completes. A step is known by a digest of all
that determines it, and the nth occurrence of a digest is the nth one recorded; steps with equal digests may stand for
each other, so nothing depends on the order in which tasks of a run happen to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_json

from agentmux.budget import Attempts, TokenBudget
from agentmux.calls import AnswerPlans
from agentmux.clock import Clock, within
from agentmux.config import Limits
from agentmux.engine.base import Footprint
from agentmux.errors import AgentmuxError, EngineError, LimitExceeded, said
from agentmux.journal import RecordedTurn, RunRecord
from agentmux.journal.records import Ending
from agentmux.keys import new_id, turn_key
from agentmux.log import binder, get_logger
from agentmux.messages import (
    Completion,
    Event,
    Message,
    RunResult,
    TextStreamed,
    ToolCall,
    TurnCompleted,
    TurnNumbers,
    Usage,
)
from agentmux.prompt import ChatRenderer
from agentmux.scheduler import Scheduler
from agentmux.schema import OutputSchemas
from agentmux.sessions import Conversation, NamedSessions
from agentmux.tools import Toolsets
from agentmux.turn import Turn, TurnSpec

Approve = Callable[[ToolCall, str], "bool | str | Awaitable[bool | str]"]
"""Asked before a tool runs that needs approval, with the call and the agent's name: True, or False or the reason why
not, which the model is told."""


@dataclass(frozen=True, slots=True)
class Services:
    """What runs need of their runtime."""

    scheduler: Scheduler
    clock: Clock
    loaded: Callable[[str], Awaitable[Footprint]]
    """The footprint of a model, which is loaded first if need be. Raises ModelNotFound and what loading raises."""
    forget: Callable[[str, str], None]
    """The KV cache of this model's session is not wanted any more."""
    without_system: Set[str] = frozenset()
    """Models that are not to be shown system messages."""
    observers: tuple[Callable[[Event], None], ...] = ()
    """Called with each event of each run, on the loop; what they raise is logged."""
    approve: Approve | None = None
    bound: Callable[..., AbstractContextManager[None]] = field(default_factory=binder)
    """Binds values to the events that are logged within."""
    log: Any = field(default_factory=lambda: get_logger("agentmux.run"))
    renderer: ChatRenderer = field(default_factory=ChatRenderer)
    schemas: OutputSchemas = field(default_factory=OutputSchemas)
    toolsets: Toolsets = field(default_factory=Toolsets)
    plans: AnswerPlans = field(default_factory=AnswerPlans)
    turn_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    sessions: NamedSessions = field(default_factory=NamedSessions)

    def turn(
        self,
        spec: TurnSpec,
        run: str,
        agent: str,
        emit: Callable[[Event], None],
        span: int,
        keep: Callable[[Completion], None] | None = None,
    ) -> Turn:
        """A new turn, not yet submitted."""
        return Turn(next(self.turn_ids), run, agent, spec, emit, span, keep)

    async def complete(self, turn: Turn) -> Completion:
        """Carry a turn through to its end. Raises its error, and EngineError if it was cancelled from elsewhere."""
        await self.scheduler.complete(turn)
        if turn.completion is not None:
            return turn.completion
        raise turn.error or EngineError(
            f"turn {turn.id} of model {turn.spec.model} was cancelled: its run has ended, or the runtime was closed"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Whose step something is: the agent's or pipeline function's name, and which execution of it."""

    agent: str
    span: int


class RunState:
    """What all agents of one run share."""

    def __init__(
        self,
        services: Services,
        limits: Limits,
        listen: Callable[[Event], None],
        *,
        session: str | None = None,
        record: RunRecord | None = None,
    ) -> None:
        self.id = record.id if record else new_id()
        self.services = services
        self.limits = limits
        self.session = session
        self.record = record
        self.started_s = services.clock.now()
        self.usage = Usage()
        self.messages: list[Message] = []
        self.turns: list[TurnNumbers] = []
        self.stopped: Exception | None = None
        """Why the run was cancelled from within the framework; it is raised in place of the cancellation."""
        self.error: BaseException | None = None
        """What ended the run, if it gave no result."""
        self.spans = itertools.count(1)
        self.conversations: dict[tuple[str, str], Conversation] = {}
        """[agent, model] conversations that end with the run."""
        self._listen = listen
        self._under_way: set[Turn] = set()
        self._turn_ended = asyncio.Event()
        self._tokens: TokenBudget[Turn] = TokenBudget(limits.tokens)
        self._ended = False
        self._asks = itertools.count(1)
        self._calls = itertools.count(1)

    def emit(self, event: Event) -> None:
        """Tell whoever follows the run, then the observers, whose errors are not the run's."""
        self._listen(event)
        for observer in self.services.observers:
            try:
                observer(event)
            except Exception as error:
                self.services.log.warning(
                    "an observer failed", run=self.id, event_kind=type(event).__name__, error=repr(error)
                )

    @property
    def deadline_s(self) -> float | None:
        """Second on the runtime's clock at which the run is ended."""
        return None if self.limits.wall_s is None else self.started_s + self.limits.wall_s

    def result(self, output: Any) -> RunResult[Any]:
        """The run's result so far, with this output."""
        return RunResult(self.id, output, self.usage, tuple(self.messages), tuple(self.turns))

    def next_session(self) -> str:
        """A name for the KV cache of one question's turns."""
        return f"{self.id}/{next(self._asks)}"

    def next_call(self) -> str:
        """An id for a tool's call that an agent makes by itself."""
        return f"call-{next(self._calls)}"

    def conversation(self, agent: str, model: str) -> Conversation:
        """The conversation that this agent keeps: under the run's session name, else until the run's end."""
        if self.session is not None:
            return self.services.sessions.named(self.session, agent, model)
        if (agent, model) not in self.conversations:
            title = f"{agent}'s session of run {self.id}"
            self.conversations[agent, model] = Conversation(f"{self.id}/{agent}", model, title)
        return self.conversations[agent, model]

    async def turn(
        self,
        spec: TurnSpec,
        place: Place,
        messages: tuple[Message, ...] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """One turn on this run's account, or its recorded answer.

        Raises LimitExceeded if the run's limits leave no room for one, or its prompt turns out to take too much of it.
        """
        self.refuse_if_ended()
        key = turn_key(spec, place.agent) if self.record else ""
        if self.record and (recorded := self.record.turn(key)) is not None:
            return self._replayed(recorded, spec, place, on_text)
        limited = spec

        def keep(completion: Completion) -> None:
            if self.record:
                cut = _is_cut(completion, limited, spec)
                known_as = turn_key(limited, place.agent) if cut else key  # it is no answer to what was asked
                self.record.record_turn(known_as, RecordedTurn(place.agent, completion), messages)

        def tell(event: Event) -> None:
            if on_text is not None and isinstance(event, TextStreamed):
                on_text(event.text)
            self.emit(event)

        attempts = Attempts(self._tokens, self.emit if on_text is None else tell, self.services.scheduler.cancel)
        while attempts.completion is None:
            room = await self._room(spec.max_tokens, attempts)
            limited = replace(spec, max_tokens=room, queue_wait_s=self.limits.queue_wait_s)
            await self._carry_out(attempts, limited, place, keep)
        if _is_cut(attempts.completion, limited, spec):
            raise LimitExceeded(
                f"the run's limit of {self.limits.tokens} tokens cut an answer short",
                used=self.usage.tokens,
                limit=float(self.limits.tokens or 0),
            )
        return attempts.completion

    async def _carry_out(
        self, attempts: Attempts, spec: TurnSpec, place: Place, keep: Callable[[Completion], None]
    ) -> None:
        """Submit a turn, and return once it has given its answer or was withdrawn."""

        def keep_and_book(completion: Completion) -> None:
            attempts.take(turn, completion)
            keep(completion)
            self._book(completion.stats)
            attempts.told()

        def watch(event: Event) -> None:
            attempts.watch(turn, event)

        emit = attempts.tell if self.limits.tokens is None else watch
        turn = self.services.turn(spec, self.id, place.agent, emit, place.span, keep_and_book)
        if not attempts.turns:
            self._count(turns=1)
        attempts.submitted(turn)
        self._under_way.add(turn)
        try:
            with self.services.bound(turn=turn.id):
                attempts.completion = await self.services.complete(turn)
        except (EngineError, LimitExceeded):
            if not attempts.withdrawn:
                raise
            self.services.log.debug("turn withdrawn", run=self.id, turn=turn.id, prompt_tokens=attempts.prompt_tokens)
        finally:
            self._under_way.discard(turn)
            self._tokens.let_go(turn)
            self._turn_ended.set()

    def _count(self, turns: int = 0, prompt_tokens: int = 0, generated_tokens: int = 0, tool_calls: int = 0) -> None:
        used = self.usage
        self.usage = Usage(
            used.turns + turns,
            used.prompt_tokens + prompt_tokens,
            used.generated_tokens + generated_tokens,
            used.tool_calls + tool_calls,
        )

    def _book(self, numbers: TurnNumbers) -> None:
        self._count(prompt_tokens=numbers.prompt_tokens, generated_tokens=numbers.generated_tokens)
        self.turns.append(numbers)

    def _replayed(
        self, recorded: RecordedTurn, spec: TurnSpec, place: Place, on_text: Callable[[str], None] | None
    ) -> Completion:
        """A recorded answer: no turn of this process, but counted and told as one."""
        numbers = replace(recorded.completion.stats, turn=next(self.services.turn_ids), replayed=True)
        completion = replace(recorded.completion, stats=numbers)
        self._count(turns=1)
        self._tokens.used += numbers.prompt_tokens + numbers.generated_tokens
        self._book(numbers)
        if on_text is not None and completion.text:
            on_text(completion.text)
        text = completion.text
        self.emit(TurnCompleted(self.id, place.agent, place.span, numbers.turn, spec.model, text, numbers))
        return completion

    async def _room(self, asked: int, attempts: Attempts) -> int:
        """Tokens that a turn's answer may have; see ``TokenBudget.room``. Waits for another turn to end where only that
        can tell."""
        while True:
            self.refuse_if_ended()
            used, limit = self.usage.turns, self.limits.turns
            if limit is not None and used >= limit and not attempts.turns:
                raise LimitExceeded(f"the run has used its {limit} turns", used=used, limit=limit)
            if (room := self._tokens.room(asked, attempts.prompt_tokens)) is not None:
                return room
            self._turn_ended.clear()
            await self._turn_ended.wait()

    def refuse_if_ended(self) -> None:
        """Raises EngineError if the run has ended: whoever asks is a task that it left behind."""
        if self._ended:
            raise EngineError(
                f"run {self.id} has ended: it takes no more turns and calls from tasks that it left behind"
            )

    def count_tool_call(self) -> None:
        """Book a tool's call. Raises LimitExceeded if the run has had its calls."""
        self.refuse_if_ended()
        used, limit = self.usage.tool_calls, self.limits.tool_calls
        if limit is not None and used >= limit:
            raise LimitExceeded(f"the run has used its {limit} calls of tools", used=used, limit=limit)
        self._count(tool_calls=1)

    def record_end(self, output: Any) -> None:
        """Write down how the run ended, where it is durable. What of the output is no JSON is written as its ``repr``.

        Raises JournalError.
        """
        if self.record is None:
            return
        if self.error is None:
            self.record.end("finished", _json_of(output), None)
        else:
            status: Ending = "cancelled" if isinstance(self.error, asyncio.CancelledError) else "failed"
            self.record.end(status, None, said(self.error))

    async def end(self, grace_s: float = 5.0) -> None:
        """End the turns that tasks left behind by the run still wait for, and its conversations; further ones are
        refused. Cancelled, it waits for them no longer."""
        self._ended = True
        self._turn_ended.set()
        left = list(self._under_way)
        for turn in left:
            self.services.scheduler.cancel(turn)
        try:
            if left:
                await asyncio.gather(*(within(self.services.clock, grace_s, turn.ended) for turn in left))
        finally:
            self.services.scheduler.forget_run(self.id)
            for kept in self.conversations.values():
                forget_quietly(self.services, kept.model, kept.engine_session)


def _json_of(output: Any) -> str:
    """An output as JSON, that of it which is none as its ``repr``, or else all of it."""
    try:
        return to_json(output, fallback=repr).decode()
    except (ValueError, RecursionError):  # bytes or half characters that are no text, or what holds itself
        return json.dumps(repr(output))


def forget_quietly(services: Services, model: str, session: str) -> None:
    """Give a session's KV cache back; an engine that is closed, or has not the model any more, has given it back."""
    with contextlib.suppress(AgentmuxError):
        services.forget(model, session)


def _is_cut(completion: Completion, given: TurnSpec, asked: TurnSpec) -> bool:
    """Whether an answer ended because the run's limits left it less than was asked."""
    return completion.finish_reason == "length" and given.max_tokens < asked.max_tokens
