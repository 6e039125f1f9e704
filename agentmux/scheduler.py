"""Which turns start, in which order, and which model comes next: a pure decision, and the coroutine that does it.

Why it is built this way:

- The unit is the turn, not the token. Bringing a dense model's weights in costs one pass over the link, which a turn's
  many tokens share; switching models per token would be bound by the link.
- Turns of a model that is resident go first, so ABCABC is worked off as AABBCC and two switches take the place of five.
- Left alone, that starves the others. So a turn that has waited for longer than ``max_wait_s`` is *overdue*: it goes
  before all that came later, and if it cannot start yet nothing else starts, so that what is in its way drains.
- Left alone, that thrashes under load, when every turn is overdue. So a model that became resident keeps its turns
  first for ``min_residency_s``. Only a model that is resident can be protected so, and while an overdue turn waits no
  further model becomes resident before it; its wait is therefore bounded by ``max_wait_s``, the protected time of each
  model that is resident, and the turns that then drain, however many turns come after it.
- An overdue turn that waits only for a slot of its own model is not helped by holding the other models back.
- Within a model, order is by arrival. So only the first ``slots`` waiting turns of each model can start, and a
  decision looks at no more, however long the queue.
- The successor (whom the engine may upload ahead) is the model of the next waiting turn; where none waits, the model
  that last followed the current one: agents mostly take turns in a fixed round.
- Time is an argument. The coroutine sleeps until a submission, an end or the next deadline; it never polls.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from agentmux import admission
from agentmux.admission import Admit, Ledger, Refuse, Request, Wait
from agentmux.clock import Clock, within
from agentmux.engine.base import Engine, TurnRequest
from agentmux.errors import AgentmuxError, EngineError, QueueTimeout
from agentmux.log import get_logger
from agentmux.messages import Completion
from agentmux.models import known
from agentmux.turn import Turn


@dataclass(frozen=True, slots=True)
class Policy:
    """The two bounds that hold affinity in check, in seconds."""

    max_wait_s: float = 10.0
    min_residency_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn in the queue. ``order`` grows with each submission."""

    turn: int
    order: int
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision rests on."""

    capacity: admission.Snapshot
    waiting: Mapping[str, Sequence[Waiting]]
    """[model][by arrival] turns in the queue; those beyond a model's slots may be left out."""
    residents: Mapping[str, float]
    """[model] second since which it has been resident without a break, by what was admitted."""
    current: str | None = None
    """Model of the turn that was admitted last."""
    successors: Mapping[str, str] = field(default_factory=dict)
    """[model] the other model that was admitted after it last time."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    admit: tuple[int, ...]
    """Turns to start, in this order."""
    prefetch: str | None
    """The model that will run next, if that is known and it is not running."""
    waits: Mapping[int, str]
    """[turn that is first of its model and stays] why."""


def plan(snapshot: Snapshot, now_s: float, policy: Policy) -> Decision:
    """Which waiting turns start at ``now_s``, and which model is to be uploaded ahead. See the top of this module."""
    queues = {model: deque(turns) for model, turns in snapshot.waiting.items() if turns}
    capacity, residents = snapshot.capacity, dict(snapshot.residents)
    admitted: list[int] = []
    while True:
        waits: dict[int, str] = {}
        chosen = None
        for model in _ranked(queues, residents, now_s, policy):
            head = queues[model][0]
            verdict = admission.decide(capacity, Request(model, in_queue=True))
            if isinstance(verdict, Admit):
                chosen = model
                break
            reason, own_slots = (verdict.reason, verdict.own_slots) if isinstance(verdict, Wait) else ("", True)
            waits[head.turn] = reason
            if not own_slots and now_s - head.arrived_s > policy.max_wait_s:
                break
        if chosen is None:
            break
        admitted.append(queues[chosen].popleft().turn)
        if not queues[chosen]:
            del queues[chosen]
        residents = residents_after(residents, capacity.active, chosen, now_s)
        capacity = capacity.with_turn(chosen)
    return Decision(tuple(admitted), _successor(snapshot, capacity, queues, residents, now_s, policy), waits)


def residents_after(
    residents: Mapping[str, float], active: Mapping[str, int], model: str, now_s: float
) -> dict[str, float]:
    """The residents once a turn of ``model`` starts while turns of ``active`` models run.

    A model that was resident stays so since the same second, lest two models that fit together renew each other's
    protection for ever; a new one displaces those that run nothing.
    """
    if model in residents:
        return dict(residents)
    return {name: since for name, since in residents.items() if name in active} | {model: now_s}


def _ranked(
    queues: Mapping[str, deque[Waiting]], residents: Mapping[str, float], now_s: float, policy: Policy
) -> list[str]:
    """Models with waiting turns: protected ones, those whose first turn is overdue, residents, the others."""

    def rank(model: str) -> tuple[int, int]:
        head = queues[model][0]
        since = residents.get(model)
        if since is not None and now_s - since < policy.min_residency_s:
            return 0, head.order
        if now_s - head.arrived_s > policy.max_wait_s:
            return 1, head.order
        return (2 if since is not None else 3), head.order

    return sorted(queues, key=rank)


def _successor(
    snapshot: Snapshot,
    capacity: admission.Snapshot,
    queues: Mapping[str, deque[Waiting]],
    residents: Mapping[str, float],
    now_s: float,
    policy: Policy,
) -> str | None:
    for model in _ranked(queues, residents, now_s, policy):
        if model not in capacity.active:
            return model
    running = set(capacity.active)
    current = snapshot.current if not running or snapshot.current in running else None
    current = current or next(iter(sorted(running)), None)
    learned = snapshot.successors.get(current) if current else None
    return None if learned in running else learned


class Scheduler:
    """Holds the queue, and moves turns into the engine and to their ends.

    All methods must be called on the event loop. ``run`` must be running for turns to be admitted.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        clock: Clock,
        policy: Policy | None = None,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._policy = policy or Policy()
        self._log = get_logger("agentmux.scheduler")
        self._queues: dict[str, dict[int, tuple[Turn, Waiting]]] = {}
        self._active: dict[int, tuple[Turn, admission.Lease]] = {}
        self._deadlines: list[tuple[float, int, Turn]] = []
        self._residents: dict[str, float] = {}
        self._successors: dict[str, str] = {}
        self._current: str | None = None
        self._hint: str | None = None
        self._submitted = 0
        self._wake = asyncio.Event()
        self._closed = False
        self._closed_by: Exception | None = None
        self.ends: dict[str, int] = {"finished": 0, "cancelled": 0, "failed": 0}
        """[end] turns that came to it."""

    @property
    def queued(self) -> int:
        """Turns that wait for admission."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def active(self) -> int:
        """Turns in the engine."""
        return len(self._active)

    def turn(self, turn: int) -> Turn | None:
        """The turn of this id, if the engine has it."""
        held = self._active.get(turn)
        return held[0] if held else None

    async def complete(self, turn: Turn, grace_s: float = 5.0) -> None:
        """Submit ``turn`` and return once it has ended, whichever way.

        Cancelled, it cancels the turn and waits for its end for at most ``grace_s`` seconds; a turn that takes longer
        keeps its slot until the engine lets go of it.
        """
        self.submit(turn)
        try:
            await turn.ended.wait()
        except asyncio.CancelledError:
            self.cancel(turn)
            await within(self._clock, grace_s, turn.ended)
            raise

    def submit(self, turn: Turn) -> None:
        """Queue a turn. One that is refused ends as failed, with ModelNotFound, NeverFits, ContextOverflow, QueueFull
        or EngineError (closed) as its error."""
        try:
            if self._closed:
                raise EngineError(str(self._closed_by or "the runtime is closed"))
            position, reason = self._place(turn)
        except AgentmuxError as error:
            self.end(turn, error)
            return
        now_s = self._clock.now()
        self._submitted += 1
        waiting = Waiting(turn.id, self._submitted, now_s)
        self._queues.setdefault(turn.spec.model, {})[turn.id] = (turn, waiting)
        if turn.spec.queue_wait_s is not None:
            heapq.heappush(self._deadlines, (now_s + turn.spec.queue_wait_s, turn.id, turn))
        turn.queue(now_s, position, reason)
        self._wake.set()

    def _place(self, turn: Turn) -> tuple[int, str]:
        """Position and reason to wait of a turn that is about to be queued. Raises why it may not be."""
        request = Request(known(turn.spec.model, self._ledger.snapshot(0).footprints), turn.spec.prompt_tokens)
        queued = self.queued
        verdict = admission.decide(self._ledger.snapshot(queued), request)
        if isinstance(verdict, Refuse) and queued:
            # What came before in this same step of the loop may only look as if it had to wait.
            self._step()
            queued = self.queued
            verdict = admission.decide(self._ledger.snapshot(queued), request)
        if isinstance(verdict, Refuse):
            raise verdict.error
        return queued + 1, verdict.reason if isinstance(verdict, Wait) else ""

    def cancel(self, turn: Turn) -> None:
        """End a turn: at once if it waits, between two steps if the engine has it. No effect on one that has ended."""
        if turn.has_ended:
            return
        if turn.id in self._active:
            try:
                self._engine.cancel(turn.id)
            except AgentmuxError as error:  # a closed engine has no turns any more
                self._log.debug("cancel failed", turn=turn.id, error=str(error))
                self.end(turn, None)
            return
        self.end(turn, None)

    def end(self, turn: Turn, outcome: Completion | Exception | None) -> None:
        """The one way in which turns end: with an answer, an error, or None for cancelled.

        Leaves the queue, gives back the slot, tells whoever waits. No effect on a turn that has ended.
        """
        self._unqueue(turn)
        if isinstance(outcome, Completion):
            ended = turn.finish(outcome)
        else:
            ended = turn.cancel() if outcome is None else turn.fail(outcome)
        if not ended:
            return
        self.ends[turn.state] += 1
        if held := self._active.pop(turn.id, None):
            self._ledger.give_back(held[1])
        self._wake.set()

    def close(self, error: Exception | None = None) -> None:
        """End every turn there still is, as cancelled or, given an error, as failed; refuse all that follow.

        For turns in the engine, call it after the engine was closed and its last events were dispatched.
        """
        self._closed, self._closed_by = True, self._closed_by or error
        waiting = [turn for queue in self._queues.values() for turn, _ in queue.values()]
        for turn in [*waiting, *(turn for turn, _ in self._active.values())]:
            self.end(turn, error)
        self._wake.set()

    async def run(self) -> None:
        """Admit turns until ``close``: wakes on a submission, on a turn's end and at the next deadline."""
        while not self._closed:
            self._wake.clear()
            self._step()
            deadline_s = self._next_deadline()
            timer = None if deadline_s is None else self._clock.call_at(deadline_s, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer:
                    timer.cancel()

    def _step(self) -> None:
        """Admit what can be, then give up on what has waited too long; again if that made room."""
        now_s = self._clock.now()
        while True:
            decision = plan(self._snapshot(), now_s, self._policy)
            for turn, reason in decision.waits.items():
                if held := self._waiting(turn):
                    held.wait_reason = reason
            for turn in decision.admit:
                if held := self._waiting(turn):
                    self._admit(held, now_s)
            if not self._expire(now_s):
                break
        self._prefetch(decision.prefetch)

    def _snapshot(self) -> Snapshot:
        capacity = self._ledger.snapshot(self.queued)
        waiting = {
            model: [entry for _, entry in islice(queue.values(), capacity.footprints[model].slots)]
            for model, queue in self._queues.items()
        }
        return Snapshot(capacity, waiting, self._residents, self._current, self._successors)

    def _waiting(self, turn: int) -> Turn | None:
        return next((queue[turn][0] for queue in self._queues.values() if turn in queue), None)

    def _admit(self, turn: Turn, now_s: float) -> None:
        spec = turn.spec
        self._unqueue(turn)
        residents = residents_after(self._residents, self._ledger.snapshot(0).active, spec.model, now_s)
        lease = self._ledger.grant(turn.id, spec.model)
        self._active[turn.id] = (turn, lease)
        try:
            self._engine.submit(
                TurnRequest(
                    turn=turn.id,
                    model=spec.model,
                    prompt=spec.prompt,
                    max_tokens=spec.max_tokens,
                    sampling=spec.sampling,
                    grammar=spec.grammar,
                    stop=spec.stop,
                    ignore_eos=spec.ignore_eos,
                )
            )
        # Whatever an engine raises belongs to this turn: it must reach whoever waits, and not end the scheduler.
        except Exception as error:
            self.end(turn, error)
            return
        if self._current not in (None, spec.model):
            self._successors[str(self._current)] = spec.model
        self._residents, self._current = residents, spec.model
        if self._hint == spec.model:
            self._hint = None
        self._log.debug("turn admitted", turn=turn.id, run=turn.run, agent=turn.agent, model=spec.model)
        turn.admit(now_s)

    def _prefetch(self, model: str | None) -> None:
        if model is None or model == self._hint:
            return
        self._hint = model
        try:
            self._engine.prefetch(model)
        except AgentmuxError as error:  # a hint that fails costs time, nothing else
            self._log.debug("prefetch failed", model=model, error=str(error))

    def _next_deadline(self) -> float | None:
        while self._deadlines and self._deadlines[0][2].state != "queued":
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def _expire(self, now_s: float) -> bool:
        """End the turns whose deadline has passed. Whether there were any."""
        expired = False
        while (deadline_s := self._next_deadline()) is not None and deadline_s <= now_s:
            turn = heapq.heappop(self._deadlines)[2]
            waited_s = now_s - turn.arrived_s
            why = f": {turn.wait_reason}" if turn.wait_reason else ""
            message = f"turn of model {turn.spec.model} was not admitted within {waited_s:.1f} s{why}"
            self.end(turn, QueueTimeout(message, waited_s=waited_s, queued=self.queued))
            expired = True
        return expired

    def _unqueue(self, turn: Turn) -> None:
        queue = self._queues.get(turn.spec.model, {})
        if queue.pop(turn.id, None) and not queue:
            del self._queues[turn.spec.model]
