"""The queue, and the one coroutine that moves turns out of it: into the engine, or to their end.

What is decided, and why so, stands in ``agentmux.policy`` (order) and ``agentmux.admission`` (slots and bytes); both
are pure. Here is what acts:

- The coroutine sleeps until a submission, an end or the next deadline, on a clock that it is given; it never polls.
- Between taking a turn out of the queue and handing it to the engine nothing awaits, so no cancellation can come
  between the two and leave a lease without a turn.
- A turn ends in one place, ``Scheduler.end``, whoever asks for it. That place alone gives leases back, so a caller that
  is cancelled, or is cancelled twice, or gives up waiting, cannot leak one: the engine's event still comes there.
- A turn in the engine is not called ended before the engine says so; its slot is really taken until then.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import islice

from agentmux import admission
from agentmux.admission import Ledger, Refuse, Request, Wait
from agentmux.clock import Clock, within
from agentmux.engine.base import Engine, TurnRequest
from agentmux.errors import AgentmuxError, EngineError, QueueTimeout
from agentmux.log import get_logger
from agentmux.messages import Completion
from agentmux.models import known
from agentmux.policy import Decision, Policy, Snapshot, Waiting, plan, residents_after
from agentmux.turn import Turn

__all__ = ["Decision", "Policy", "Scheduler", "Snapshot", "Waiting", "plan", "residents_after"]


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
        self._considered = 0  # the last submission that a plan has seen
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
        """Admit what can be, then give up on what has waited too long (which wakes the coroutine for another step)."""
        now_s = self._clock.now()
        decision = plan(self._snapshot(), now_s, self._policy)
        for turn, reason in decision.waits.items():
            if held := self._waiting(turn):
                held.wait_reason = reason
        for turn in decision.admit:
            if held := self._waiting(turn):
                self._admit(held, now_s)
        self._considered = self._submitted
        self._prefetch(decision.prefetch)
        self._expire(now_s)

    def _snapshot(self) -> Snapshot:
        capacity = self._ledger.snapshot(self.queued)
        # As many as can start, and one more, which is then told why it cannot.
        waiting = {
            model: [entry for _, entry in islice(queue.values(), capacity.footprints[model].slots + 1)]
            for model, queue in self._queues.items()
        }
        return Snapshot(capacity, waiting, self._residents, self._current, self._successors)

    def _waiting(self, turn: int) -> Turn | None:
        return next((queue[turn][0] for queue in self._queues.values() if turn in queue), None)

    def _admit(self, turn: Turn, now_s: float) -> None:
        spec = turn.spec
        if self._queues[spec.model][turn.id][1].order <= self._considered and not turn.wait_reason:
            turn.wait_reason = f"waiting behind other turns of model {spec.model}"
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
                    session=spec.session,
                    fork=spec.fork,
                    grammar_after=spec.grammar_after,
                    logprobs=spec.logprobs,
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
        # Most turns start long before their deadline; without this, theirs would be kept until then.
        if len(self._deadlines) > 2 * self.queued + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[2].state == "queued"]
            heapq.heapify(self._deadlines)
        while self._deadlines and self._deadlines[0][2].state != "queued":
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def _expire(self, now_s: float) -> None:
        while (deadline_s := self._next_deadline()) is not None and deadline_s <= now_s:
            turn = heapq.heappop(self._deadlines)[2]
            waited_s = now_s - turn.arrived_s
            why = f": {turn.wait_reason}" if turn.wait_reason else ""
            message = f"turn of model {turn.spec.model} was not admitted within {waited_s:.1f} s{why}"
            self.end(turn, QueueTimeout(message, waited_s=waited_s, queued=self.queued))

    def _unqueue(self, turn: Turn) -> None:
        queue = self._queues.get(turn.spec.model, {})
        if queue.pop(turn.id, None) and not queue:
            del self._queues[turn.spec.model]
