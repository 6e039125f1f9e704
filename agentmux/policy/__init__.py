"""Which turns start, go on or make way, in which order, and which model comes next: pure decisions over a snapshot and
the time.

Why it is built this way:

- The unit is the turn, not the token. Bringing a dense model's weights in costs one pass over the link, which a turn's
  many tokens share; switching models per token would be bound by the link.
- **Affinity.** Turns of a model that is resident go first, so ABCABC is worked off as AABBCC and two switches take the
  place of five. The model that is being uploaded ahead comes next: what was begun is not thrown away, so hints do not
  go back and forth between two models that wait.
- **Priority, then least attained service.** Before affinity comes the turn's priority; behind it, what the turn's *run*
  has had: tokens computed for it so far, in turns that have ended and under way. A run that has had little goes first,
  so that a long run does not hold back short ones, and nobody has to say beforehand which is which. Turns of one run,
  and runs that have had the same, go by arrival and in turn.
- **No starvation.** Left alone, each of these starves somebody. So a turn that has waited for longer than
  ``max_wait_s`` is *overdue*: overdue turns go before all others, the one that has waited longest first, and while it
  cannot start nothing else does, so that what is in its way drains.
- **No standstill of priorities under load.** Left alone, that makes the order plain first come, first served as soon as
  the queue is longer than ``max_wait_s``, when priorities are needed most. So one turn that outranks the turn overdue
  for longest may pass it, and then none until that turn has started. *Bound*: from the second at which a turn T is
  overdue, what starts before T is (1) the n turns that have waited longer, (2) one turn for each of these and one for T
  that outranks it, (3) turns of models within their protected stay, of which there can be n + 1 more that begin, for
  a new model becomes resident only by (1) or (2), or (4) turns that T does not wait for, while it waits for a slot
  of its own model. *Proof*: a turn of class OUTRANKS needs ``passed`` to be false and sets it, only the start of the
  turn overdue for longest clears it, and that turn is T or one of the n; class USUAL comes after OVERDUE, and an
  overdue turn that cannot start ends the round unless it waits for its own slots. All of (1) to (4) end: the turns of
  (1) to (3) are finitely many, and each either ends or is parked after two quanta (below). Since a parked turn waits as
  any other, the bound holds for its going on, too; and when it goes on, it does so for at least its model's stay.
  (One more may start before T: that for which turns were being parked when T became overdue.)
- **No thrash.** Left alone, that switches at each turn when every turn is overdue. So a model that became resident
  keeps its turns first for its *stay*: ``min_residency_s``, or as long as ``switches_per_quantum`` (8) of its uploads
  take at the speed that the engine measured, whichever is longer. As long as it has work, at most one part in nine of
  the time goes into switching. A model that stays resident is not protected anew, lest two models that fit together
  renew each other's protection for ever.
- **Time slices.** Where models do not fit together, a long answer of one would hold up all others. So when a turn of
  another model has waited for a quantum, and among those in its way is one that has run for two without a break, the
  running turns of the model in its way are parked, after its stay. Short turns are let finish: what has not run for two
  quanta is likely to end soon, collating such turns is worth more, and ``max_wait_s`` bounds that. The quantum is the
  longer of the two models' stays, so there and back pays. A turn of higher priority than all that is in its way waits
  for the stay only; one of lower priority gets a slice when it is overdue, or two priorities would swap for ever.
  A victim is reserved: once turns are parked for a model, nothing starts before it (``claimant``) unless it gives up.
- **Why slices are decided here** and not in the engine, which has a quantum too: only here are priority, runs, stays
  and queue known, and one place should decide who runs; two would park against each other. Turns here reach the engine
  only if their models fit together, so its own quantum never begins, except where it alone knows of a shortage: when
  the weights fit into the arena and the contexts not beside them, or when others use the engine without a scheduler.
- Turns of *one* model are not sliced. They share each step's pass over the weights; more slots are the remedy there,
  and taking turns on one slot would only make all of them end later. Parked turns go before queued ones of the same
  priority, because their KV cache takes memory.
- An overdue turn that waits only for a slot of its own model is not helped by holding the other models back.
- A decision looks at as many turns of each model as it has free slots, and one more, however long the queue, and at
  those that run. Which these are, ``agentmux.policy.queues`` knows without looking at the others.
- **Look-ahead.** The successor (whom the engine uploads ahead) is the model of the next waiting turn. Where none waits,
  ``agentmux.policy.lookahead`` says what the runs are likely to ask for, by what they declared or what followed before.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentmux import admission
from agentmux.admission import Admit, Refuse, Request, Wait
from agentmux.errors import AgentmuxError
from agentmux.policy.ranking import Candidate, Class, Standing, ranked
from agentmux.policy.situation import Decision, Policy, Running, Snapshot, Waiting
from agentmux.policy.slices import Slice, make_way, stay_s

__all__ = ["Decision", "Policy", "Running", "Snapshot", "Waiting", "plan", "residents_after"]


def plan(snapshot: Snapshot, now_s: float, policy: Policy) -> Decision:
    """What happens to waiting and running turns at ``now_s``. See the top of this module."""
    return _Round(snapshot, now_s, policy).decide()


def residents_after(
    residents: dict[str, float], active: Mapping[str, int], model: str, now_s: float
) -> dict[str, float]:
    """The residents once a turn of ``model`` starts while turns of ``active`` models run.

    A model that was resident stays so since the same second, lest two models that fit together renew each other's
    protection for ever; a new one displaces those that run nothing.
    """
    if model in residents:
        return residents
    return {name: since for name, since in residents.items() if name in active} | {model: now_s}


class _Round:
    """One decision while it is made: the snapshot, and what has become of it by what was decided so far."""

    def __init__(self, snapshot: Snapshot, now_s: float, policy: Policy) -> None:
        self.now_s, self.policy, self.hint = now_s, policy, snapshot.hint
        self.queues = {model: list(turns) for model, turns in snapshot.waiting.items() if turns}
        self.capacity = snapshot.capacity
        self.residents = dict(snapshot.residents)
        self.running = list(snapshot.running)
        self.passed = snapshot.passed
        self.claimant = snapshot.claimant if snapshot.claimant in self.queues else None
        self.refuse: dict[int, AgentmuxError] = {}
        self.order: list[Candidate] | None = None
        self.stays_s = {
            model: stay_s(self.capacity, model, snapshot.upload_bytes_per_s, policy)
            for model in {*self.queues, *self.residents}
            if model in self.capacity.footprints
        }

    def decide(self) -> Decision:
        """Parks first: what is about to make way starts nothing more."""
        park: tuple[int, ...] = ()
        contender, way = self._way()
        if way is not None and way.due_s <= self.now_s:
            park, self.claimant, way, self.order = way.turns, contender, None, None
        admitted: list[int] = []
        while True:
            chosen, waits = self._choose()
            if chosen is None:
                break
            admitted.append(chosen.entry.turn)
            self._start(chosen)
        if admitted:
            way = self._way()[1]
        successors = (one.model for one in self._ranked() if one.model not in self.capacity.active)
        return Decision(
            admit=tuple(admitted),
            prefetch=next(successors, None),
            waits=waits,
            park=park,
            claimant=self.claimant,
            passed=self.passed,
            refuse=self.refuse,
            wake_s=None if way is None else way.due_s,
        )

    def _ranked(self) -> list[Candidate]:
        """Kept until something changes that it depends on: it is most of a decision's work."""
        if self.order is None:
            standing = Standing(self.residents, self.stays_s, self.claimant, self.passed, self.hint)
            self.order = ranked(self.queues, standing, self.now_s, self.policy) if self.queues else []
        return self.order

    def _way(self) -> tuple[str | None, Slice | None]:
        """The first model that cannot run beside those that do, and what would have to make way for it when."""
        if not self.running or not self.queues or any(turn.leaving for turn in self.running):
            return None, None
        for one in self._ranked():
            if one.model in self.capacity.active:
                continue
            if isinstance(admission.decide(self.capacity, Request(one.model, in_queue=True)), Wait):
                return one.model, make_way(
                    self.capacity,
                    self.residents,
                    self.running,
                    one.model,
                    self.queues[one.model],
                    self.stays_s,
                    self.policy,
                )
        return None, None

    def _choose(self) -> tuple[Candidate | None, dict[int, str]]:
        """The next to start, and why those that should have gone before it cannot."""
        waits: dict[int, str] = {}
        for one in self._ranked():
            verdict = admission.decide(self.capacity, Request(one.model, in_queue=True))
            if isinstance(verdict, Admit):
                return one, waits
            if isinstance(verdict, Refuse):
                self.order = None
                self.refuse |= dict.fromkeys((entry.turn for entry in self.queues.pop(one.model)), verdict.error)
                continue
            waits[one.entry.turn] = verdict.reason
            if not verdict.own_slots and one.rank in (Class.CLAIMS, Class.OVERDUE):
                break
        return None, waits

    def _start(self, one: Candidate) -> None:
        self.order = None
        queue = self.queues[one.model]
        queue.remove(one.entry)
        if not queue:
            del self.queues[one.model]
        if one.passes or one.catches_up:
            self.passed = one.passes
        if one.model == self.claimant:
            self.claimant = None
        self.residents = residents_after(self.residents, self.capacity.active, one.model, self.now_s)
        self.capacity = self.capacity.with_turn(one.model)
        self.running.append(Running(one.entry.turn, one.model, self.now_s, one.entry.priority))
