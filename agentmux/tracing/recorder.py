"""Events of runs, as slices: what each agent, turn and tool was at, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Event,
    OutputRetried,
    PrefillProgressed,
    RunErrored,
    RunFinished,
    RunStarted,
    TextStreamed,
    ToolCall,
    ToolCalled,
    ToolErrored,
    ToolReturned,
    TurnAdmitted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnNumbers,
    TurnQueued,
)
from agentmux.tracing.lanes import Lanes, Slice, Write
from agentmux.tracing.numbers import said_of
from agentmux.tracing.records import AGENTS, COMPUTE, MODELS, RUNS, counted, micros, whole

Ended = TurnCompleted | TurnCancelled | TurnErrored


@dataclass(slots=True)
class _Turn:
    """A turn that has not ended."""

    run: str
    model: str
    slice: Slice
    waiting: Slice | None
    admitted_us: int | None = None
    in_engine: Slice | None = None


@dataclass(slots=True)
class _Run:
    """A run that has not ended. Tools by the identity of their calls, which are kept here for that."""

    slice: Slice
    agents: dict[int, Slice] = field(default_factory=dict)
    tools: dict[int, tuple[ToolCall, Slice]] = field(default_factory=dict)


class Recorder:
    """An observer that writes slices. What it keeps is what has begun and not ended.

    Args:
        write: gets the records.
        now_us: microseconds since the trace began.
        on_busy: told True when the first turn is queued, and False when the last one that is there has ended.
    """

    def __init__(self, write: Write, now_us: Callable[[], int], on_busy: Callable[[bool], None]) -> None:
        self._write = write
        self._now_us = now_us
        self._on_busy = on_busy
        self._runs: dict[str, _Run] = {}
        self._turns: dict[int, _Turn] = {}
        self._agent_lanes = Lanes(AGENTS, write)
        self._model_lanes = Lanes(MODELS, write)
        self._run_lanes = Lanes(RUNS, write)
        self._compute = Compute(write)

    def observe(self, event: Event) -> None:
        """Take notice of an event."""
        match event:
            case PrefillProgressed(turn=turn) | TextStreamed(turn=turn):
                self._computed(turn)
            case TurnQueued() | TurnAdmitted() | TurnCompleted() | TurnCancelled() | TurnErrored():
                self._turn(event)
            case ToolCalled() | ToolReturned() | ToolErrored():
                self._tool(event)
            case RunStarted():
                said = {"run": event.run}
                self._runs[event.run] = _Run(self._run_lanes.begin("runs", event.agent, self._now_us(), said))
            case RunFinished() | RunErrored():
                self._run_ended(event)
            case _:
                self._agent(event)

    def close(self) -> None:
        """End all that is open."""
        at_us = self._now_us()
        self._compute.flush()
        for lanes in (self._agent_lanes, self._model_lanes, self._run_lanes):
            lanes.end_all(at_us)
        self._runs.clear()
        self._turns.clear()

    def _agent(self, event: AgentStarted | AgentFinished | AgentErrored | OutputRetried) -> None:
        run = self._runs.get(event.run)
        if run is None:
            return
        if isinstance(event, AgentStarted):
            said = {"run": event.run, "span": event.span, "parent": event.parent}
            run.agents[event.span] = self._agent_lanes.begin(event.agent, event.agent, self._now_us(), said)
        elif isinstance(event, OutputRetried):
            if opened := run.agents.get(event.span):
                self._agent_lanes.mark(opened, "answer did not validate", self._now_us(), {"attempt": event.attempt})
        elif opened := run.agents.pop(event.span, None):
            self._agent_lanes.end(opened, self._now_us(), _ending(event))

    def _run_ended(self, event: RunFinished | RunErrored) -> None:
        if run := self._runs.pop(event.run, None):
            # Tasks that a run left behind end after it; their events find no run.
            for opened in (*(opened for _, opened in run.tools.values()), *run.agents.values()):
                self._agent_lanes.end(opened, self._now_us(), {"cut": "the run ended"})
            self._run_lanes.end(run.slice, self._now_us(), _ending(event))

    def _tool(self, event: ToolCalled | ToolReturned | ToolErrored) -> None:
        run = self._runs.get(event.run)
        if run is None:
            return
        if isinstance(event, ToolCalled):
            inside, name = run.agents.get(event.span), f"tool {event.call.name}"
            opened = self._agent_lanes.begin(event.agent, name, self._now_us(), {"call": event.call.id}, inside)
            run.tools[id(event.call)] = event.call, opened
        elif found := run.tools.pop(id(event.call), None):
            self._agent_lanes.end(found[1], self._now_us(), _ending(event))

    def _turn(self, event: TurnQueued | TurnAdmitted | Ended) -> None:
        if isinstance(event, TurnQueued):
            self._queued(event)
        elif turn := self._turns.get(event.turn):
            if isinstance(event, TurnAdmitted):
                self._admitted(event, turn)
            else:
                self._turn_ended(event, turn)
        elif isinstance(event, TurnCompleted) and (inside := self._inside(event)):
            self._agent_lanes.mark(inside, f"turn {event.model} from the journal", self._now_us(), {})

    def _inside(self, event: TurnQueued | TurnCompleted) -> Slice | None:
        run = self._runs.get(event.run)
        return None if run is None else run.agents.get(event.span)

    def _queued(self, event: TurnQueued) -> None:
        at_us, lanes, was_idle = self._now_us(), self._agent_lanes, not self._turns
        said = {"turn": event.turn, "run": event.run, "model": event.model, "max_tokens": event.max_tokens}
        opened = lanes.begin(event.agent, f"turn {event.model}", at_us, said, self._inside(event))
        waits = {"reason": event.reason, "position": event.position}
        waiting = lanes.begin(event.agent, "waits in queue", at_us, waits, opened)
        self._turns[event.turn] = _Turn(event.run, event.model, opened, waiting)
        self._count(at_us)
        if was_idle:
            self._on_busy(True)

    def _admitted(self, event: TurnAdmitted, turn: _Turn) -> None:
        at_us = self._now_us()
        if turn.waiting is not None:
            self._agent_lanes.end(turn.waiting, at_us, {"last_reason": event.reason})
            turn.waiting = None
        turn.admitted_us = at_us
        said = {"turn": event.turn, "run": event.run}
        turn.in_engine = self._model_lanes.begin(event.model, event.agent, at_us, said)
        self._count(at_us)

    def _computed(self, id: int) -> None:
        turn = self._turns.get(id)
        if turn is not None and turn.admitted_us is not None:
            self._compute.seen(turn.model, turn.admitted_us, self._now_us())

    def _turn_ended(self, event: Ended, turn: _Turn) -> None:
        at_us = self._now_us()
        del self._turns[event.turn]
        if isinstance(event, TurnCompleted) and turn.admitted_us is not None:
            self._compute.seen(turn.model, turn.admitted_us, at_us)
            self._phases(turn, turn.admitted_us, event.numbers, at_us)
        said = _ending(event)
        self._agent_lanes.end(turn.slice, at_us, said)
        if turn.in_engine is not None:
            self._model_lanes.end(turn.in_engine, at_us, said)
        if all(one.model != turn.model or one.admitted_us is None for one in self._turns.values()):
            self._compute.idle(turn.model)
        self._count(at_us)
        if not self._turns:
            self._on_busy(False)

    def _phases(self, turn: _Turn, from_us: int, numbers: TurnNumbers, to_us: int) -> None:
        """What the engine says of the time since it was given the turn. On a busy loop we are told of that late, so
        the parts are moved to where they end in time, and the first of them is cut."""
        if not turn.slice.is_open:
            return
        first_s = max(numbers.time_to_first_token_s, numbers.engine_wait_s)
        given_us = min(from_us, to_us - micros(first_s + numbers.decode_s))
        started_us = max(from_us, given_us + micros(numbers.engine_wait_s))
        first_us = max(from_us, given_us + micros(first_s))
        for name, begin_us, end_us, said in (
            ("waits in engine", from_us, started_us, {}),
            ("prefill", started_us, first_us, {"computed_s": numbers.prefill_s, "tokens": numbers.prompt_tokens}),
            ("decode", first_us, to_us, {"computed_s": numbers.decode_s, "tokens": numbers.generated_tokens}),
        ):
            if end_us > begin_us:
                self._agent_lanes.within(turn.slice, name, begin_us, end_us, said)

    def _count(self, at_us: int) -> None:
        states = Counter("waiting" if turn.admitted_us is None else "in the engine" for turn in self._turns.values())
        values = {name: float(states[name]) for name in ("waiting", "in the engine")}
        self._write(counted("turns", at_us, values))


class Compute:
    """Whose model computes, as the turns' progress shows: a model has computed up to what it was last seen to give, and
    from where the one before stopped, or the turn was admitted."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._model: str | None = None
        self._from_us = 0
        self._until_us = 0

    def seen(self, model: str, admitted_us: int, at_us: int) -> None:
        """A turn of this model has got on."""
        if model != self._model:
            self.flush()
            self._model, self._from_us = model, max(self._until_us, admitted_us)
        self._until_us = max(at_us, self._from_us)

    def idle(self, model: str) -> None:
        """This model has no turns any more."""
        if model == self._model:
            self.flush()

    def flush(self) -> None:
        """Write what is known."""
        if self._model is not None:
            self._write(whole(COMPUTE, self._model, self._from_us, self._until_us, {}))
            self._model = None


def _ending(event: Event) -> dict[str, object]:
    """How something ended, for its slice."""
    match event:
        case TurnCompleted(numbers=numbers):
            return said_of(numbers)
        case TurnCancelled():
            return {"ended": "cancelled"}
        case AgentErrored(error=error) | RunErrored(error=error) | TurnErrored(error=error) | ToolErrored(error=error):
            return {"ended": "failed", "error": error}
        case _:
            return {}
