"""The offline optimum of small workloads: what could be done by someone who knows everything beforehand.

Both are exact, by dynamic programming over how far each run is and which model is resident. They hold where no two
models fit into the arena together. Switches: no order of the turns, whatever its times, needs fewer. Makespan: turns
one after the other, whole, each switch at its least cost (all that there was room for was uploaded ahead, and what was
missing arrived under the first chunk of the prompt); for models with one slot, and runs that are all there from the
start and make no pauses, nothing is faster.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from agentmux.bench.simulator_engine import BATCH_TOKENS
from agentmux.bench.simulator_workloads import SimulatedTurn, SimulatedWorkload

MOST_STATES = 200_000

_State: TypeAlias = tuple[tuple[int, ...], str | None]
"""How many turns of each run are done, and the resident model."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The least that can be reached; not necessarily by one order of turns."""

    switches: int | None
    """None where it is not computed: models fit together, or there are too many states."""
    makespan_s: float | None
    """None where it does not hold, besides."""


def optimum(workload: SimulatedWorkload) -> Optimum:
    """The offline optimum of a small workload."""
    states = len(workload.models)
    for run in workload.runs:
        states *= len(run.turns) + 1
    weights = sorted(model.weight_bytes for model in workload.models.values())
    if states > MOST_STATES or sum(weights[:2]) <= workload.arena_bytes:
        return Optimum(None, None)
    one_slot = all(model.slots == 1 for model in workload.models.values())
    whole = all(model.weight_bytes <= workload.arena_bytes for model in workload.models.values())
    at_once = all(not run.arrives_s and not turn.gap_s for run in workload.runs for turn in run.turns)
    return Optimum(_switches(workload), _makespan_s(workload) if one_slot and whole and at_once else None)


def _switches(workload: SimulatedWorkload) -> int:
    start: _State = (tuple(0 for _ in workload.runs), None)
    seen, steps = {start}, deque([(start, 0)])
    while steps:
        (done, resident), switches = steps.popleft()
        if all(count == len(run.turns) for count, run in zip(done, workload.runs, strict=True)):
            return switches
        for model in workload.models:
            if model == resident:
                continue
            state = _worked_off(workload, done, model), model
            if state[0] != done and state not in seen:
                seen.add(state)
                steps.append((state, switches + (resident is not None)))
    raise AssertionError("some turn can always be done")


def _worked_off(workload: SimulatedWorkload, done: tuple[int, ...], model: str) -> tuple[int, ...]:
    """All that ``model`` can do before another one must: doing it at once never costs a switch."""
    after = []
    for count, run in zip(done, workload.runs, strict=True):
        while count < len(run.turns) and run.turns[count].model == model:
            count += 1
        after.append(count)
    return tuple(after)


def _makespan_s(workload: SimulatedWorkload) -> float:
    best: dict[_State, float] = {(tuple(0 for _ in workload.runs), None): 0.0}
    for _ in range(sum(len(run.turns) for run in workload.runs)):
        following: dict[_State, float] = {}
        for (done, resident), time_s in best.items():
            for index, run in enumerate(workload.runs):
                if done[index] == len(run.turns):
                    continue
                turn = run.turns[done[index]]
                state = (*done[:index], done[index] + 1, *done[index + 1 :]), turn.model
                then_s = time_s + _turn_s(workload, turn) + _switch_s(workload, turn, resident)
                following[state] = min(then_s, following.get(state, then_s))
        best = following
    return min(best.values())


def _turn_s(workload: SimulatedWorkload, turn: SimulatedTurn) -> float:
    costs = workload.models[turn.model]
    return turn.prompt_tokens / costs.prefill_tokens_per_s + (turn.answer_tokens - 1) * costs.step_s


def _switch_s(workload: SimulatedWorkload, turn: SimulatedTurn, resident: str | None) -> float:
    if resident == turn.model:
        return 0.0
    costs = workload.models[turn.model]
    ahead = 0 if resident is None else workload.arena_bytes - workload.models[resident].weight_bytes
    missing_s = max(0.0, costs.weight_bytes - ahead) / workload.link_bytes_per_s
    return max(0.0, missing_s - min(BATCH_TOKENS, turn.prompt_tokens) / costs.prefill_tokens_per_s)
