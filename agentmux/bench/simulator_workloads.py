"""Workloads for the simulator: models, runs and when they come. Made by name and seed, or read from a JSON file."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agentmux.errors import ConfigError

GB = 1_000_000_000


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SimulatedModel(_Value):
    """What a model costs. The defaults are those of an 8 B model at four bits on a small GPU."""

    weight_bytes: int = Field(default=4_500_000_000, gt=0)
    prefill_tokens_per_s: float = Field(default=1500.0, gt=0)
    step_s: float = Field(default=0.023, gt=0, description="a step with one decoding slot")
    slot_s: float = Field(default=0.001, ge=0, description="added by each further slot")
    slots: int = Field(default=4, ge=1)


class SimulatedTurn(_Value):
    """One model call of a run."""

    model: str
    prompt_tokens: int = Field(default=512, ge=1)
    answer_tokens: int = Field(default=128, ge=1)
    gap_s: float = Field(default=0.0, ge=0, description="between the end of the turn before it and its submission")


class SimulatedRun(_Value):
    """Turns one after the other."""

    arrives_s: float = Field(default=0.0, ge=0)
    turns: tuple[SimulatedTurn, ...] = Field(min_length=1)
    priority: int = 0


class SimulatedWorkload(_Value):
    """Everything that happens, and on what."""

    name: str
    models: dict[str, SimulatedModel]
    runs: tuple[SimulatedRun, ...]
    arena_bytes: int = Field(default=7 * GB, gt=0)
    link_bytes_per_s: float = Field(default=12e9, gt=0)
    declared: bool = Field(default=False, description="runs say which model they use next")

    @model_validator(mode="after")
    def _models_exist(self) -> SimulatedWorkload:
        unknown = {turn.model for run in self.runs for turn in run.turns} - self.models.keys()
        if unknown:
            raise ValueError(f"turns use models that are not among `models`: {', '.join(sorted(unknown))}")
        return self


def read_workload(path: Path) -> SimulatedWorkload:
    """A workload from a JSON file. Raises ConfigError that names the file and what is wrong."""
    try:
        return SimulatedWorkload.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the workload {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} is no workload: {where + ': ' if where else ''}{first['msg']}") from error


def _three(slots: int = 4) -> dict[str, SimulatedModel]:
    return {name: SimulatedModel(slots=slots) for name in ("planner", "coder", "critic")}


def _turn(draw: random.Random, model: str, answer_tokens: int = 128) -> SimulatedTurn:
    prompt = draw.randint(200, 800)
    return SimulatedTurn(
        model=model, prompt_tokens=prompt, answer_tokens=draw.randint(answer_tokens // 2, answer_tokens)
    )


def _loops(draw: random.Random) -> SimulatedWorkload:
    """Six runs that plan once, then code and criticise by turns."""
    runs = []
    for _ in range(6):
        models = ["planner", *["coder", "critic"] * draw.randint(1, 3)]
        turns = tuple(_turn(draw, model) for model in models)
        runs.append(SimulatedRun(arrives_s=draw.uniform(0, 10), turns=turns))
    return SimulatedWorkload(name="loops", models=_three(), runs=tuple(runs), declared=True)


def _uneven(draw: random.Random) -> SimulatedWorkload:
    """Of 60 single turns, 80 in 100 want one model, 15 another, 5 the third."""
    names = draw.choices(("planner", "coder", "critic"), (80, 15, 5), k=60)
    runs = [SimulatedRun(arrives_s=draw.uniform(0, 60), turns=(_turn(draw, name),)) for name in names]
    return SimulatedWorkload(name="uneven", models=_three(), runs=tuple(runs))


def _bursts(draw: random.Random) -> SimulatedWorkload:
    """Four bursts of twelve turns on random models."""
    runs = [
        SimulatedRun(arrives_s=20.0 * burst + draw.uniform(0, 0.5), turns=(_turn(draw, draw.choice(list(_three()))),))
        for burst in range(4)
        for _ in range(12)
    ]
    return SimulatedWorkload(name="bursts", models=_three(), runs=tuple(runs))


def _long(draw: random.Random) -> SimulatedWorkload:
    """An answer of 4,000 tokens, and short turns of all models meanwhile."""
    long = SimulatedTurn(model="coder", answer_tokens=4000)
    runs = [SimulatedRun(turns=(long,))]
    for _ in range(20):
        turn = _turn(draw, draw.choice(list(_three())), 64)
        runs.append(SimulatedRun(arrives_s=draw.uniform(1, 80), turns=(turn,)))
    return SimulatedWorkload(name="long", models=_three(), runs=tuple(runs))


def _agents(draw: random.Random) -> SimulatedWorkload:
    """Twelve agents, four on each of three models, five turns each, with pauses for their tools."""
    runs = []
    for agent in range(12):
        model = list(_three())[agent % 3]
        turns = [_turn(draw, model).model_copy(update={"gap_s": draw.uniform(0, 2)}) for _ in range(5)]
        runs.append(SimulatedRun(arrives_s=draw.uniform(0, 3), turns=tuple(turns)))
    return SimulatedWorkload(name="agents", models=_three(), runs=tuple(runs))


def _adversarial(draw: random.Random) -> SimulatedWorkload:
    """ABCABC, a turn every fifth of a second, so that first come, first served switches each time."""
    names = list(_three())
    runs = [SimulatedRun(arrives_s=0.2 * i, turns=(_turn(draw, names[i % 3], 32),)) for i in range(45)]
    return SimulatedWorkload(name="adversarial", models=_three(1), runs=tuple(runs))


def _three_agents(draw: random.Random) -> SimulatedWorkload:
    """Three agents on three models, in parallel, with room for one and a half of these."""
    runs = [SimulatedRun(turns=tuple(_turn(draw, name, 64) for _ in range(3))) for name in _three()]
    return SimulatedWorkload(name="three", models=_three(1), runs=tuple(runs), arena_bytes=6_750_000_000)


def _pipelines(draw: random.Random) -> SimulatedWorkload:
    """Three runs of planner, coder, critic at once, small enough for the offline optimum."""
    turns = tuple(_turn(draw, name, 64) for name in _three())
    runs = tuple(SimulatedRun(turns=turns) for _ in range(3))
    return SimulatedWorkload(name="pipelines", models=_three(1), runs=runs, arena_bytes=6_750_000_000, declared=True)


WORKLOADS: Mapping[str, Callable[[random.Random], SimulatedWorkload]] = MappingProxyType(
    {
        "three": _three_agents,
        "pipelines": _pipelines,
        "loops": _loops,
        "uneven": _uneven,
        "bursts": _bursts,
        "long": _long,
        "agents": _agents,
        "adversarial": _adversarial,
    }
)
"""[name] how it is made."""


def make_workload(name: str, seed: int) -> SimulatedWorkload:
    """The workload of that name, always the same for a seed. Raises ConfigError with the names that there are."""
    if name not in WORKLOADS:
        raise ConfigError(f"no workload named {name!r}; there are {', '.join(WORKLOADS)}, or give a JSON file")
    return WORKLOADS[name](random.Random(seed))
