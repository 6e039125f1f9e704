"""The queue, and the one coroutine that moves turns out of it: into the engine, off it for a while, or to their end.

What is decided, and why so, stands in ``agentmux.policy`` (order, time slices, look-ahead) and ``agentmux.admission``
(slots and bytes); both are pure. Here is what acts:

- The coroutine sleeps until a submission, an end, a park or the next deadline, on a clock that it is given; it never
  polls. A step looks at a few turns of each model, however many wait.
- Between taking a turn out of the queue and handing it to the engine nothing awaits, so no cancellation can come
  between the two and leave a lease without a turn.
- A turn ends in one place, ``Scheduler.end``, whoever asks for it. That place alone gives leases back for good, so a
  caller that is cancelled, or is cancelled twice, or gives up waiting, cannot leak one: the engine's event still comes
  there.
- A turn in the engine is not called ended, or parked, before the engine says so; its slot is really taken until then.
  A parked turn has no lease: its slot is free, and its KV cache lies in memory that admission does not give away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from agentmux import admission
from agentmux.admission import Admit, Ledger, Refuse, Request, Wait
from agentmux.clock import Clock, within
from agentmux.engine.base import Engine
from agentmux.errors import AgentmuxError, EngineError, ModelNotFound, QueueFull, QueueTimeout, again
from agentmux.log import get_logger
from agentmux.messages import Completion
from agentmux.models import known
from agentmux.policy import Decision, Policy, Snapshot, Waiting, plan, residents_after
from agentmux.policy.accounts import Accounts, ServiceTimes
from agentmux.policy.held import Held, HeldTurns, request_of
from agentmux.policy.link import LinkSpeed
from agentmux.policy.lookahead import LookAhead
from agentmux.policy.queues import Backlog, Queued
from agentmux.turn import Turn

__all__ = ["Decide", "Policy", "Scheduler"]

Decide: TypeAlias = Callable[[Snapshot, float, Policy], Decision]


class Scheduler:
    """Holds the queue, and moves turns into the engine and to their ends.

    All methods must be called on the event loop. ``run`` must be running for turns to be admitted.

    Args:
        engine: what computes.
        ledger: models and leases; models may be added to it and removed (see ``retire``) at any time.
        clock: the source of time.
        policy: bounds of the decisions.
        decide: the decision; another one than ``agentmux.policy.plan`` for comparisons.
    """

    def __init__(
        self, engine: Engine, ledger: Ledger, clock: Clock, policy: Policy | None = None, decide: Decide = plan
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._policy = policy or Policy()
        self._decide = decide
        self._log = get_logger("agentmux.scheduler")
        self._backlog: Backlog[Turn] = Backlog()
        self._held = HeldTurns()
        self._accounts = Accounts()
        self._times = ServiceTimes()
        self._ahead = LookAhead()
        self._residents: dict[str, float] = {}
        self._claimant: str | None = None
        self._passed = False
        self._link = LinkSpeed(engine)
        self._slice_s: float | None = None  # when turns are to be parked if nothing else happens
        self._submitted = 0
        self._admitted = 0
        self._considered = 0  # the last submission that a plan has seen
        self._is_due = True  # something has happened since the last step
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._draining = False
        self._closed = False
        self._closed_by: Exception | None = None
        self.ends: dict[str, int] = {"finished": 0, "cancelled": 0, "failed": 0}
        """[end] turns that came to it."""
        self.parks = 0
        """Times that a turn was parked."""

    @property
    def queued(self) -> int:
        """Turns that wait for admission."""
        return len(self._backlog)

    @property
    def active(self) -> int:
        """Turns that have a slot in the engine."""
        return len(self._held) - self._held.parked

    @property
    def parked(self) -> int:
        """Turns that have made way for another model and wait to go on."""
        return self._held.parked

    def turn(self, turn: int) -> Turn | None:
        """The turn of this id, if the engine has it, parked or not."""
        return held.turn if (held := self._held.get(turn)) else None

    async def complete(self, turn: Turn, grace_s: float = 5.0) -> None:
        """Submit ``turn``, unless it was, and return once it has ended, whichever way.

        Cancelled, it cancels the turn and waits for its end for at most ``grace_s`` seconds; a turn that takes longer
        keeps its slot until the engine lets go of it.
        """
        if turn.state == "new":
            self.submit(turn)
        try:
            await turn.ended.wait()
        except asyncio.CancelledError:
            self.cancel(turn)
            await within(self._clock, grace_s, turn.ended)
            raise

    def submit(self, turn: Turn) -> None:
        """Queue a turn. One that is refused ends as failed, with ModelNotFound, NeverFits, ContextOverflow, QueueFull
        (its ``numbers`` say in ``retry_after_s`` when to try again; 0: unknown) or EngineError (closed, draining) as
        its error."""
        try:
            position, reason = self._place(turn.spec.model, turn.spec.prompt_tokens)
        except AgentmuxError as error:
            self.end(turn, error)
            return
        now_s, spec = self._clock.now(), turn.spec
        self._submitted += 1
        account = self._accounts.of(turn.run)
        if account.last_model is not None:
            self._ahead.successors.learn(account.last_model, spec.model)
        entry = Queued(turn.id, self._submitted, now_s, spec.priority, account, turn)
        self._backlog.add(spec.model, entry, None if spec.queue_wait_s is None else now_s + spec.queue_wait_s)
        turn.queue(now_s, position, reason)
        self.wake_up()

    def check(self, model: str) -> None:
        """Raises what a turn of this model would be refused with if it were submitted now. Takes no place."""
        self._place(model, None)

    def _place(self, model: str, prompt_tokens: int | None) -> tuple[int, str]:
        """Position and reason to wait of a turn that is about to be queued. Raises why it may not be."""
        if self._closed:
            raise EngineError(str(self._closed_by or "the runtime is closed"))
        if self._draining:
            raise EngineError("the runtime is being closed: it finishes what it has, and takes no new turns")
        request = Request(known(model, self._ledger.models), prompt_tokens)
        verdict = self._verdict(request)
        if isinstance(verdict, Refuse) and self.queued and self._is_due:
            # What came before in this same step of the loop may only look as if it had to wait.
            self.step()
            verdict = self._verdict(request)
        if isinstance(verdict, Refuse):
            if isinstance(verdict.error, QueueFull):
                self._times.refused(self._ledger.snapshot(0).queue_limit)
            raise verdict.error
        return self.queued + 1, verdict.reason if isinstance(verdict, Wait) else ""

    def _verdict(self, request: Request) -> Admit | Wait | Refuse:
        return admission.decide(self._ledger.snapshot(self.queued, self._times.retry_after_s(self.active)), request)

    def cancel(self, turn: Turn) -> None:
        """End a turn: at once if it waits, between two steps if the engine has it. No effect on one that has ended."""
        if turn.has_ended:
            return
        if self._held.get(turn.id):
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
        self._backlog.remove(turn.id)
        if isinstance(outcome, Completion):
            ended = turn.finish(outcome)
        else:
            ended = turn.cancel() if outcome is None else turn.fail(outcome)
        if not ended:
            return
        self.ends[turn.state] += 1
        if held := self._held.pop(turn.id):
            self._let_go(held, outcome)
        self.wake_up()

    def _let_go(self, held: Held, outcome: Completion | Exception | None) -> None:
        turn, model, tokens = held.turn, held.turn.spec.model, None
        if isinstance(outcome, Completion):
            numbers = outcome.stats
            tokens = numbers.prompt_tokens - numbers.reused_tokens + numbers.generated_tokens
            if turn.admitted_s is not None:
                self._times.took(self._clock.now() - turn.admitted_s - turn.parked_s)
        held.account.end(turn, tokens)
        held.account.last_model = model
        self._ahead.ended((model, turn.spec.then))
        if held.lease is not None:
            self._ledger.give_back(held.lease)

    def parked_by_engine(self, turn: Turn) -> None:
        """The engine has taken the turn off its slot."""
        held = self._held.get(turn.id)
        if held is None or held.lease is None:
            return
        self._ledger.give_back(held.lease)
        self._held.park(held)
        self.parks += 1
        turn.park(self._clock.now())
        self.wake_up()

    def retire(self, model: str) -> None:
        """A model is about to be unloaded: its turns that wait end with ModelNotFound, those in the engine as
        cancelled, as soon as it says so; new ones are refused. Raises ModelNotFound if there is none of that name."""
        self._ledger.remove(known(model, self._ledger.models))
        self._ahead.successors.forget(model)
        for entry in self._backlog.of(model):
            self.end(entry.what, ModelNotFound(f"model {model} was unloaded while the turn waited"))
        for held in self._held:
            if held.turn.spec.model == model:
                self.cancel(held.turn)

    def forget_run(self, run: str) -> None:
        """The run has ended: what it has had is of no interest any more."""
        self._accounts.forget(run)

    async def drain(self) -> None:
        """Refuse new turns from now on, and return once all have ended. ``run`` must be running."""
        self._draining = True
        self.wake_up()
        while self._held or self.queued:
            self._idle.clear()
            await self._idle.wait()

    def close(self, error: Exception | None = None) -> None:
        """End every turn there still is, as cancelled or, given an error, as failed; refuse all that follow.

        For turns in the engine, call it after the engine was closed and its last events were dispatched.
        """
        self._closed, self._closed_by = True, self._closed_by or error
        waiting = [entry.what for model in list(self._backlog.models) for entry in self._backlog.of(model)]
        for turn in [*waiting, *(held.turn for held in self._held)]:
            self.end(turn, None if error is None else again(error))
        self.wake_up()
        self._idle.set()

    async def run(self) -> None:
        """Admit turns until ``close``: wakes on a submission, on a turn's end and at the next deadline."""
        while not self._closed:
            self._wake.clear()
            self.step()
            if not self._held and not self._backlog:
                self._idle.set()
            wake_s = self.wake_s
            timer = None if wake_s is None else self._clock.call_at(wake_s, self.wake_up)
            try:
                await self._wake.wait()
            finally:
                if timer:
                    timer.cancel()

    def wake_up(self) -> None:
        """Decide anew: there is something that was not there."""
        self._is_due = True
        self._wake.set()

    @property
    def wake_s(self) -> float | None:
        """The second at which there is something to do even if nothing happens; None if there is not."""
        times = (self._backlog.next_deadline_s(), self._slice_s)
        return min((second for second in times if second is not None), default=None)

    def step(self) -> None:
        """Do what is due, as ``run`` does it; then give up on what has waited too long (which wakes ``run`` again)."""
        self._is_due = False
        if not self._backlog and not self._held.parked:
            self._claimant = self._slice_s = None
            self._prefetch(None)
            return
        now_s = self._clock.now()
        decision = self._decide(self._snapshot(now_s), now_s, self._policy)
        self._claimant, self._passed, self._slice_s = decision.claimant, decision.passed, decision.wake_s
        for turn in decision.park:
            self._park(turn)
        for turn, reason in decision.waits.items():
            if entry := self._backlog.get(turn):
                entry.what.wait_reason = reason
        for turn in decision.admit:
            self._start(turn, now_s)
        for turn, error in decision.refuse.items():
            if entry := self._backlog.get(turn):
                self.end(entry.what, error)
            elif held := self._held.get(turn):
                self.cancel(held.turn)
        self._considered = self._submitted
        self._prefetch(decision.prefetch)
        for entry in self._backlog.expired(now_s):
            self._expire(entry.what, now_s)

    def _snapshot(self, now_s: float) -> Snapshot:
        capacity = self._ledger.snapshot(self.queued)
        overdue_before_s = now_s - self._policy.max_wait_s
        waiting: dict[str, list[Waiting]] = {}
        for model in {*self._backlog.models, *self._held.parked_models}:
            if model not in self._ledger.models:
                continue  # it is about to be unloaded, and its parked turns to be cancelled
            # As many as can start, and one more, which is then told why it cannot. What cannot start now cannot in this
            # step: nothing that is decided in it makes room at once.
            can = isinstance(admission.decide(capacity, Request(model, in_queue=True)), Admit)
            count = 1 + (capacity.footprints[model].slots - capacity.active.get(model, 0) if can else 0)
            entries = self._backlog.first(model, count, overdue_before_s)
            if parked := self._held.waiting(model):
                entries = sorted([*parked, *entries], key=lambda entry: -entry.priority)
            waiting[model] = entries
        return Snapshot(
            capacity,
            waiting,
            self._residents,
            self._held.running(),
            self._link.bytes_per_s(now_s) if waiting else 0.0,
            self._claimant,
            self._passed,
            self._ahead.hint,
        )

    def _start(self, turn: int, now_s: float) -> None:
        """Hand a queued turn to the engine, or let a parked one go on."""
        active = self._ledger.snapshot(0).active
        if entry := self._backlog.get(turn):
            model, started = entry.what.spec.model, self._admit(entry, now_s)
        elif held := self._held.get(turn):
            model, started = held.turn.spec.model, self._resume(held, now_s)
        else:
            return  # what was started just before it has ended it
        if started:
            self._residents = residents_after(self._residents, active, model, now_s)
            self._ahead.started(model)

    def _admit(self, entry: Queued[Turn], now_s: float) -> bool:
        turn, spec, account = entry.what, entry.what.spec, entry.account
        if entry.order <= self._considered and not turn.wait_reason:
            turn.wait_reason = f"waiting behind other turns of model {spec.model}"
        self._backlog.remove(turn.id)
        self._times.made_room()
        self._held.add(Held(turn, entry.order, account, self._ledger.grant(turn.id, spec.model)))
        account.under_way.add(turn)
        self._admitted += 1
        account.served = self._admitted
        try:
            self._engine.submit(request_of(turn))
        # Whatever an engine raises belongs to this turn: it must reach whoever waits, and not end the scheduler.
        except Exception as error:
            self.end(turn, error)
            return False
        self._log.debug("turn admitted", turn=turn.id, run=turn.run, agent=turn.agent, model=spec.model)
        turn.admit(now_s)
        return True

    def _resume(self, held: Held, now_s: float) -> bool:
        turn = held.turn
        self._held.resume(held, self._ledger.grant(turn.id, turn.spec.model))
        try:
            self._engine.resume(turn.id)
        except Exception as error:
            self.end(turn, error)
            return False
        turn.resume(now_s)
        return True

    def _park(self, turn: int) -> None:
        with suppress(AgentmuxError):  # a closed engine has no turns any more; they are about to end
            self._engine.park(turn)
            if held := self._held.get(turn):
                held.leaving = True

    def _prefetch(self, waiting: str | None) -> None:
        hint = self._ahead.hinted(waiting, self._held.uses(), self._ledger.models)
        if hint is None:
            return
        try:
            self._engine.prefetch(hint)
        except AgentmuxError as error:  # a hint that fails costs time, nothing else
            self._log.debug("prefetch failed", model=hint, error=str(error))

    def _expire(self, turn: Turn, now_s: float) -> None:
        waited_s = now_s - turn.arrived_s
        why = f": {turn.wait_reason}" if turn.wait_reason else ""
        message = f"turn of model {turn.spec.model} was not admitted within {waited_s:.1f} s{why}"
        self.end(turn, QueueTimeout(message, waited_s=waited_s, queued=self.queued))
