"""``agentmux bench scheduler``: the policy beside simpler ones, in simulation, and its document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from statistics import fmean
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from agentmux import admission
from agentmux.admission import Admit, Request
from agentmux.bench.machine import Machine, Versions, these_versions, this_machine
from agentmux.bench.simulator import Simulation, simulate
from agentmux.bench.simulator_optimum import optimum
from agentmux.bench.simulator_workloads import SimulatedWorkload
from agentmux.policy import Decision, Policy, Snapshot, plan
from agentmux.scheduler import Decide

NEVER_S = 1e9
AGENTMUX = "agentmux"


def first_come_first_served(snapshot: Snapshot, now_s: float, policy: Policy) -> Decision:
    """The baseline: strictly by arrival; a turn that cannot start holds back all that came later."""
    waiting = [(entry.order, model, entry) for model, queue in snapshot.waiting.items() for entry in queue]
    capacity, admitted = snapshot.capacity, []
    for _, model, entry in sorted(waiting):
        if not isinstance(admission.decide(capacity, Request(model, in_queue=True)), Admit):
            break
        admitted.append(entry.turn)
        capacity = capacity.with_turn(model)
    return Decision(admit=tuple(admitted))


POLICIES: Mapping[str, tuple[Policy, Decide]] = MappingProxyType(
    {
        # All turns count as overdue, so that those which came first are among what the decision sees.
        "fifo": (Policy(max_wait_s=-1.0), first_come_first_served),
        "collate": (Policy(max_wait_s=NEVER_S, min_residency_s=NEVER_S), plan),
        AGENTMUX: (Policy(), plan),
    }
)
"""[name] settings and decision. ``collate``: turns of the resident model first, without any bound."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SchedulerResult(_Value):
    """One workload under one policy."""

    workload: str
    policy: str = Field(description="fifo, collate (the resident model first, without a bound) or agentmux")
    turns: int
    makespan_s: float
    tokens_per_s: float = Field(description="of prompts and answers, over the makespan")
    switches: int = Field(description="a model became resident after another")
    optimum_switches: int | None = Field(description="the fewest possible; null where it was not computed")
    optimum_makespan_s: float | None = Field(description="the least possible; null where it was not computed")
    parks: int = Field(description="turns that made way for another model")
    lost_share: float = Field(description="of the makespan, in which computing stood still for uploads")
    mean_wait_s: float = Field(description="of a turn, from arrival to admission")
    longest_wait_s: float
    longest_park_s: float = Field(description="longest time that a turn was parked at a stretch")
    mean_run_s: float = Field(description="of a run, from its arrival to its end")


class SchedulerReport(_Value):
    """The document of ``agentmux bench scheduler``. Fields may be added, those here stay."""

    command: tuple[str, ...] = Field(description="the command line, without the program's name")
    began: str = Field(description="date and time, ISO 8601, UTC")
    machine: Machine = Field(description="that simulated; the results do not depend on it")
    versions: Versions
    seed: int
    workloads: tuple[SimulatedWorkload, ...] = Field(description="as they were simulated, all costs included")
    results: tuple[SchedulerResult, ...]


def bench_scheduler(workloads: Iterable[SimulatedWorkload], seed: int, command: Iterable[str]) -> SchedulerReport:
    """Each workload under each policy."""
    began, every = datetime.now(UTC), tuple(workloads)
    results = [result for workload in every for result in _compared(workload)]
    return SchedulerReport(
        command=tuple(command),
        began=began.isoformat(timespec="seconds"),
        machine=this_machine("none: simulated"),
        versions=these_versions("", ""),
        seed=seed,
        workloads=every,
        results=tuple(results),
    )


def _compared(workload: SimulatedWorkload) -> list[SchedulerResult]:
    best = optimum(workload)
    results = []
    for name, (policy, decide) in POLICIES.items():
        done: Simulation = simulate(workload, policy, decide)
        results.append(
            SchedulerResult(
                workload=workload.name,
                policy=name,
                turns=len(done.waits_s),
                makespan_s=done.makespan_s,
                tokens_per_s=done.tokens / done.makespan_s if done.makespan_s else 0.0,
                switches=done.switches,
                optimum_switches=best.switches,
                optimum_makespan_s=best.makespan_s,
                parks=done.parks,
                lost_share=done.lost_share,
                mean_wait_s=fmean(done.waits_s) if done.waits_s else 0.0,
                longest_wait_s=done.longest_wait_s,
                longest_park_s=done.longest_park_s,
                mean_run_s=done.mean_run_s,
            )
        )
    return results
