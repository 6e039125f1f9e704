"""A simulator: workloads replayed through the real scheduler, over a cost model in place of the engine.

Scheduler, policy, queue and admission are the ones that run in earnest; only time and the engine are made up. The
engine is ``agentmux.bench.simulator_engine``; a step of it ends at a moment, and all that the scheduler does in between
takes effect at the next one, as between two steps of the native engine.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from statistics import fmean

from agentmux.admission import Ledger
from agentmux.bench.simulator_engine import SimulatedEngine
from agentmux.bench.simulator_workloads import SimulatedRun, SimulatedWorkload
from agentmux.engine.base import Footprint, LoadSpec, TurnParked
from agentmux.messages import Completion, Event, TurnAdmitted, TurnNumbers
from agentmux.policy import Policy, plan
from agentmux.scheduler import Decide, Scheduler
from agentmux.turn import Turn, TurnSpec


@dataclass
class SimulatedClock:
    """Seconds that the simulation sets."""

    now_s: float = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return self.now_s

    def call_at(self, when_s: float, callback: object) -> object:
        """Not used: the simulation asks the scheduler when it wants to be woken."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Started:
    """When a turn came and was admitted."""

    model: str
    arrived_s: float
    admitted_s: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """What became of a workload. Times in seconds."""

    makespan_s: float
    tokens: int
    switches: int
    """A model became resident after another."""
    parks: int
    lost_s: float
    """In which computing stood still for uploads."""
    turns: tuple[Started, ...]
    """By admission."""
    longest_park_s: float
    """Longest time that a turn was parked at a stretch."""
    runs_s: tuple[float, ...]
    """[run] from its arrival to the end of its last turn."""
    slices_s: tuple[float, ...]
    """[switch for which turns were parked] how long the model that made way had been resident."""

    @property
    def waits_s(self) -> tuple[float, ...]:
        """[turn, by admission] from its arrival."""
        return tuple(turn.admitted_s - turn.arrived_s for turn in self.turns)

    @property
    def lost_share(self) -> float:
        """Of the time, part in which computing stood still for uploads."""
        return self.lost_s / self.makespan_s if self.makespan_s else 0.0

    @property
    def longest_wait_s(self) -> float:
        """Of any turn, for its first admission."""
        return max(self.waits_s, default=0.0)

    @property
    def mean_run_s(self) -> float:
        """Of a run, from its arrival to its end."""
        return fmean(self.runs_s) if self.runs_s else 0.0


def simulate(workload: SimulatedWorkload, policy: Policy | None = None, decide: Decide = plan) -> Simulation:
    """Run a workload to its end."""
    return _Replay(workload, policy or Policy(), decide).run()


@dataclass
class _Run:
    plan: SimulatedRun
    index: int
    next_turn: int = 0
    done_s: float = 0.0


@dataclass
class _Replay:
    workload: SimulatedWorkload
    policy: Policy
    decide: Decide
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    arrivals: list[tuple[float, int, _Run]] = field(default_factory=list)
    turns: dict[int, tuple[Turn, _Run, float]] = field(default_factory=dict)
    started: list[Started] = field(default_factory=list)
    parked_at_s: dict[int, float] = field(default_factory=dict)
    longest_park_s: float = 0.0
    tokens: int = 0

    def __post_init__(self) -> None:
        self.engine = SimulatedEngine(self.workload, self.clock.now)
        footprints: dict[str, Footprint] = {name: self.engine.load(LoadSpec(name, "")) for name in self.workload.models}
        ledger = Ledger(footprints, arena_bytes=self.workload.arena_bytes, budget_bytes=None, queue_limit=1_000_000)
        self.scheduler = Scheduler(self.engine, ledger, self.clock, self.policy, self.decide)  # type: ignore[arg-type]
        self.runs = [_Run(run, index) for index, run in enumerate(self.workload.runs)]
        for run in self.runs:
            self._arrive(run, run.plan.arrives_s)

    def run(self) -> Simulation:
        while True:
            times = (self.arrivals[0][0] if self.arrivals else None, self.engine.step_end_s, self.scheduler.wake_s)
            now_s = min((second for second in times if second is not None), default=None)
            if now_s is None:
                break
            self.clock.now_s = now_s = max(now_s, self.clock.now_s)
            if self.engine.step_end_s is not None and self.engine.step_end_s <= now_s:
                self.engine.end_step()
            self._deliver()
            while self.arrivals and self.arrivals[0][0] <= now_s:
                self._submit(heapq.heappop(self.arrivals)[2], now_s)
            self.scheduler.step()
            self.engine.interrupt()
            while self._deliver():  # between two steps turns leave at once, and others take their place
                self.scheduler.step()
                self.engine.interrupt()
        assert not self.scheduler.queued, "turns that wait although nothing is going to happen"
        assert not self.turns
        return Simulation(
            makespan_s=max((run.done_s for run in self.runs), default=0.0),
            tokens=self.tokens,
            switches=self.engine.switches,
            parks=self.scheduler.parks,
            lost_s=self.engine.lost_s,
            turns=tuple(self.started),
            longest_park_s=self.longest_park_s,
            runs_s=tuple(run.done_s - run.plan.arrives_s for run in self.runs),
            slices_s=tuple(self.engine.slices_s),
        )

    def _arrive(self, run: _Run, at_s: float) -> None:
        if run.next_turn < len(run.plan.turns):
            heapq.heappush(self.arrivals, (at_s + run.plan.turns[run.next_turn].gap_s, run.index, run))

    def _submit(self, run: _Run, now_s: float) -> None:
        asked = run.plan.turns[run.next_turn]
        following = run.plan.turns[run.next_turn + 1 : run.next_turn + 2]
        then = following[0].model if following and self.workload.declared else None
        spec = TurnSpec(asked.model, (0,), asked.answer_tokens, priority=run.plan.priority, then=then)
        number = self.engine.announce(asked)
        turn = Turn(number, f"run {run.index}", "", spec, self._note)
        self.turns[number] = turn, run, now_s
        run.next_turn += 1
        self.scheduler.submit(turn)

    def _note(self, event: Event) -> None:
        if isinstance(event, TurnAdmitted):
            self.started.append(Started(event.model, self.turns[event.turn][2], self.clock.now_s))

    def _deliver(self) -> bool:
        """The engine's events to the scheduler; whether there were any."""
        for number, computed in self.engine.progress():
            self.turns[number][0].computed_tokens = computed
        events = self.engine.poll()
        for event in events:
            turn, run, _ = self.turns[event.turn]
            if isinstance(event, TurnParked):
                self.scheduler.parked_by_engine(turn)
                self.parked_at_s[turn.id] = self.clock.now_s
                continue
            numbers = TurnNumbers(
                turn.id,
                "",
                turn.spec.model,
                prompt_tokens=event.stats.prompt_tokens,
                generated_tokens=event.stats.generated_tokens,
            )
            self.scheduler.end(turn, Completion("", (), "stop", numbers))
            self.tokens += numbers.prompt_tokens + numbers.generated_tokens
            del self.turns[turn.id]
            run.done_s = self.clock.now_s
            self._arrive(run, self.clock.now_s)
        for number in list(self.parked_at_s):
            if number not in self.turns or self.turns[number][0].state != "parked":
                self.longest_park_s = max(self.longest_park_s, self.clock.now_s - self.parked_at_s.pop(number))
        return bool(events)
