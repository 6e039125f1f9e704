"""Several models in less device memory than they take, beside what there is instead, in one run.

Each contender runs the same turns alone, in a process of its own: the peak of device memory is measured as well, and
what one of them leaves in the driver would slow down the next. One round over all models goes before and is not
counted; where agents keep sessions, it is a whole repetition, so that the host memory for these is there too. All
prompts are token ids, answers are greedy and end after so many tokens.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from agentmux.bench import binaries, llama_tools, router, shapes
from agentmux.bench.apart import Tell, run_apart
from agentmux.bench.engine import loaded_versions
from agentmux.bench.machine import this_machine, usable_cores
from agentmux.bench.nvml import Nvml, Watch
from agentmux.bench.paging_contenders import Contender, EngineCycle, Reload, Static
from agentmux.bench.paging_plan import Step, bound_first_token_s, missing_bytes, steps
from agentmux.bench.paging_report import (
    ModelSize,
    PagingReport,
    Repetition,
    Sample,
    TurnNumbers,
    beside_engine,
    summarised,
)
from agentmux.bench.random_models import PREFIX
from agentmux.bench.singles import Alone
from agentmux.bench.workload import Shape
from agentmux.engine.base import EngineConfig
from agentmux.errors import ConfigError, EngineError
from agentmux.models import expanded, named

PAGED, RESIDENT, RELOAD, STATIC = "paged", "resident", "reload", "static"
ROUTER, ROUTER_RESIDENT = "router", "router-resident"
CONTENDERS = (PAGED, RESIDENT, RELOAD, STATIC)
"""Those that need nothing else."""
ROUTERS = (ROUTER, ROUTER_RESIDENT)
"""Those that need a llama-server."""
_SLOW = (RELOAD, STATIC, ROUTER)
_ROUND_UP = 256
_DRIVER_BYTES = 600 << 20
"""About what a driver takes for itself; where trying how many layers fit begins."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure. Raises ConfigError for what cannot be measured."""

    models: tuple[str, ...]
    """GGUF files, bundled models' names, or ``random:SHAPE``; the same one twice is two models."""
    device_bytes: int | None
    """Budget of the paged engine."""
    contenders: tuple[str, ...] = ()
    """Empty: ``CONTENDERS``, and ``router`` where there is one."""
    router: str | None = None
    """llama.cpp's ``llama-server``."""
    llama_bench: str | None = None
    """llama.cpp's, for one slot of ``single_slots``."""
    llama_batched_bench: str | None = None
    """llama.cpp's, for several slots of ``single_slots``."""
    prompt_tokens: int = 512
    tokens: int = 128
    turns: int = 9
    """In each repetition."""
    repetitions: int = 3
    baseline_turns: int = 3
    """Of ``reload``, ``static`` and ``router``, in their one repetition: they take many times as long."""
    agents: int = 1
    """Of each model; with more than one, each goes on from what it said before, in a session that is kept."""
    slots: int = 1
    use: tuple[int, ...] = ()
    """[model] share of the turns; empty: equal."""
    single_slots: tuple[int, ...] = ()
    """Also measure the first model alone, resident, with so many slots."""
    link_bytes_per_s: int | None = None
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int = 512
    oversize: str = "auto"
    folder: str | None = None
    """Where random models are written, and stay; None: somewhere, until the end."""
    tokenizer: str | None = None
    """A GGUF file whose tokenizer random models get."""

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise ConfigError("an answer of one token has nothing to decode; ask for at least 2 tokens")
        if unknown := set(self.contenders) - {*CONTENDERS, *ROUTERS}:
            known = ", ".join(CONTENDERS + ROUTERS)
            raise ConfigError(f"no contender {', '.join(sorted(unknown))}; there is: {known}")
        if self.router is not None:
            binaries.checked(self.router, router.LLAMA_SERVER)
        elif needing := set(self.contenders) & set(ROUTERS):
            raise ConfigError(f"contender {', '.join(sorted(needing))}: needs a llama-server; name its file (--router)")
        llama_tools.check(self)
        if self.use and len(self.use) != len(self.models):
            raise ConfigError(f"{len(self.use)} shares for {len(self.models)} models")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The contenders, in the order in which they run."""
        return self.contenders or (CONTENDERS if self.router is None else (*CONTENDERS, ROUTER))

    @property
    def shares(self) -> tuple[int, ...]:
        """[model] share of the turns."""
        return self.use or (1,) * len(self.models)

    @property
    def keeps(self) -> bool:
        """Whether agents go on from what they said before."""
        return self.agents > 1

    def shape(self) -> Shape:
        """The context of each model."""
        rounds = -(-self.turns // self.agents) if self.keeps else 1
        tokens = -(-rounds * (self.prompt_tokens + self.tokens) // _ROUND_UP) * _ROUND_UP
        return Shape(tokens, self.slots, min(self.batch_tokens, tokens), self.threads or usable_cores())

    def plan(self) -> tuple[Step, ...]:
        """The turns of a repetition."""
        return steps(self.turns, self.shares, self.agents)


@dataclass(frozen=True, slots=True)
class _Job:
    """What every contender is told; it goes to other processes."""

    settings: Settings
    names: tuple[str, ...]
    paths: tuple[str, ...]
    base_bytes: int | None


@dataclass(frozen=True, slots=True)
class _Paged:
    """What the paged engine found out."""

    sizes: list[ModelSize]
    device: str
    arena_bytes: int
    upload_bytes_per_s: float
    repetitions: list[Repetition]
    timeline: list[Sample]
    timeline_turns: list[TurnNumbers]


@dataclass(frozen=True, slots=True)
class _Bench(_Job):
    nvml: Nvml
    tell: Tell

    def config(self, contender: str) -> EngineConfig:
        s = self.settings
        paged = contender == PAGED
        return EngineConfig(
            s.device,
            device_bytes=s.device_bytes if paged else None,
            threads=s.shape().threads,
            link_bytes_per_s=s.link_bytes_per_s if paged else None,
            oversize=s.oversize,  # type: ignore[arg-type]
        )

    def engine(self, contender: str) -> EngineCycle:
        return EngineCycle(self.names, self.paths, self.settings.shape(), self.config(contender))


def bench_paging(settings: Settings, command: Sequence[str] = (), tell: Tell = lambda _: None) -> PagingReport:
    """Measure all that ``settings`` ask for. ``tell`` gets a line now and then about what is being done.

    Raises ModelError, ConfigError, NeverFits, EngineError, OSError where there is no room for random models.
    """
    version = None if settings.router is None else binaries.version_of(settings.router, router.LLAMA_SERVER)
    alone, nvml = Alone(settings, tell), Nvml()
    base_bytes, began = nvml.used_bytes(), datetime.now(UTC).isoformat(timespec="seconds")
    with _files(settings, tell) as (names, paths):
        job = _Job(settings, names, paths, base_bytes)
        paged = run_apart(_paged, job, tell=tell)
        repetitions = list(paged.repetitions)
        for name in settings.chosen:
            if name != PAGED:
                repetitions += run_apart(_other, job, name, paged.device, paged.sizes, tell=tell)
        single, tools = alone.measured(paths[0], paged.device)
    sizes, link = paged.sizes, float(settings.link_bytes_per_s or paged.upload_bytes_per_s)
    bounded, decode_s = _bounded(repetitions, settings, sizes, paged.arena_bytes, link)
    return PagingReport(
        command=tuple(command),
        began=began,
        machine=this_machine(paged.device),
        gpu=None if paged.device == "CPU" else nvml.name(),
        versions=loaded_versions(),
        device_bytes=settings.device_bytes,
        arena_bytes=paged.arena_bytes,
        link_bytes_per_s=settings.link_bytes_per_s,
        upload_bytes_per_s=link,
        prompt_tokens=settings.prompt_tokens,
        tokens=settings.tokens,
        agents=settings.agents,
        use=settings.shares,
        router=version,
        models=tuple(sizes),
        summaries=summarised(bounded, decode_s, link),
        singles=beside_engine(single),
        tools=tuple(tools),
        repetitions=tuple(bounded),
        timeline=tuple(paged.timeline),
        timeline_turns=tuple(paged.timeline_turns),
    )


def _paged(job: _Job, tell: Tell) -> _Paged:
    """The paged engine, measured if it is a contender; the others are measured against its sizes."""
    bench = _with_means(job, tell)
    with closing(bench.engine(PAGED)) as engine:
        stats = engine.stats()
        repetitions = _run(bench, PAGED, engine) if PAGED in job.settings.chosen else []
        timeline, turns = _recorded(bench, engine)
        link = engine.stats().upload_bytes_per_s
        return _Paged(engine.sizes, stats.device, stats.arena_bytes, link, repetitions, timeline, turns)


def _other(job: _Job, name: str, device: str, sizes: Sequence[ModelSize], tell: Tell) -> list[Repetition]:
    """Another contender's repetitions."""
    bench = _with_means(job, tell)
    with closing(_contender(bench, name, device, sizes)) as contender:
        return _run(bench, name, contender)


def _with_means(job: _Job, tell: Tell) -> _Bench:
    return _Bench(job.settings, job.names, job.paths, job.base_bytes, Nvml(), tell)


@contextmanager
def _files(settings: Settings, tell: Tell) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names and files of the models; random ones live as long as they are measured, or in a folder that is given."""
    with tempfile.TemporaryDirectory(prefix="agentmux-bench-") as temporary:
        folder = settings.folder or temporary
        names, paths = [], []
        for i, model in enumerate(settings.models):
            names.append(f"{model.removeprefix(PREFIX)}-{i + 1}")
            if not model.startswith(PREFIX):
                paths.append(expanded(named(model)))
                continue
            paths.append(os.path.join(folder, f"{names[-1]}.gguf"))
            if not os.path.exists(paths[-1]):
                tell(f"writing {paths[-1]}")
                _write(model, paths[-1], i + 1, settings)
        if set(settings.chosen) & set(ROUTERS):
            router.vocabularies(paths)  # now, and not when the others have been measured
        yield tuple(names), tuple(paths)


def _write(model: str, path: str, seed: int, settings: Settings) -> None:
    """A whole file or none."""
    shape = model.removeprefix(PREFIX)
    partial = f"{path}.part"
    try:
        shapes.write_shape(shape, partial, seed, settings.tokenizer, named=settings.router is not None)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _contender(bench: _Bench, name: str, device: str, sizes: Sequence[ModelSize]) -> Contender:
    settings = bench.settings
    bench.tell(f"{name}: getting ready")
    if name == RESIDENT:
        made = bench.engine(RESIDENT)
        stats = made.stats()
        if stats.arena_bytes < sum(size.weight_bytes for size in sizes):
            made.close()
            raise EngineError(f"the models are never all resident: {stats.arena_bytes} bytes for them")
        return made
    if name == RELOAD:
        return Reload(bench.names, bench.paths, settings.shape(), device)
    if name in ROUTERS and settings.router is not None:
        loaded = 1 if name == ROUTER else len(bench.names)
        return router.Router(settings.router, bench.names, bench.paths, settings.shape(), device, loaded)
    budget = settings.device_bytes or 0
    layer = max(size.weight_bytes / max(1, size.units) for size in sizes)
    other = sum(size.context_bytes for size in sizes) + (_DRIVER_BYTES if device != "CPU" else 0)
    guess = max(0, int((budget - other) / len(sizes) / layer) + 1)
    most = budget + (bench.base_bytes or 0)
    return Static.largest(bench.names, bench.paths, settings.shape(), device, guess, most)


def _run(bench: _Bench, name: str, contender: Contender) -> list[Repetition]:
    """The repetitions, after what warms up."""
    settings, plan = bench.settings, bench.settings.plan()
    slow = name in _SLOW
    _round(bench, contender, plan[: 1 if slow else len(plan) if settings.keeps else len(bench.names)])
    done = []
    for repetition in range(1 if slow else settings.repetitions):
        bench.tell(f"{name}: repetition {repetition + 1}")
        uploaded = contender.uploaded_bytes()
        with Watch(bench.nvml, bench.base_bytes) as watch:
            turns, whole_s = _round(bench, contender, plan[: settings.baseline_turns] if slow else plan)
        done.append(
            Repetition(
                contender=name,
                repetition=repetition,
                whole_s=whole_s,
                uploaded_bytes=contender.uploaded_bytes() - uploaded,
                peak_device_bytes=watch.peak_bytes,
                energy_j=watch.energy_j,
                turns=tuple(turns),
            )
        )
    return done


def _round(bench: _Bench, contender: Contender, plan: Sequence[Step]) -> tuple[list[TurnNumbers], float]:
    settings = bench.settings
    contender.forget()
    begin = time.perf_counter()
    turns = []
    for step in plan:
        at_s = time.perf_counter() - begin
        if isinstance(contender, EngineCycle):
            turn = contender.turn(step, settings.prompt_tokens, settings.tokens, at_s, keeps=settings.keeps)
        else:
            turn = contender.turn(step, settings.prompt_tokens, settings.tokens, at_s)
        turns.append(turn)
    return turns, time.perf_counter() - begin


def _recorded(bench: _Bench, paged: EngineCycle) -> tuple[list[Sample], list[TurnNumbers]]:
    """One round more, with a look at the engine every few milliseconds."""
    paged.samples = []
    turns, _ = _round(bench, paged, bench.settings.plan()[: 2 * len(bench.names)])
    samples, paged.samples = paged.samples, None
    return samples, turns


def _bounded(
    repetitions: list[Repetition], settings: Settings, sizes: Sequence[ModelSize], arena_bytes: int, link: float
) -> tuple[list[Repetition], dict[str, float]]:
    """The paged engine's turns with the soonest first token that was possible; [model] decoding with all resident."""
    resident = [turn for one in repetitions if one.contender == RESIDENT for turn in one.turns]
    if not resident or settings.keeps:
        return repetitions, {}
    first_s, decode_s = {}, {}
    for size in sizes:
        mine = [turn for turn in resident if turn.model == size.model]
        if not mine:
            return repetitions, {}
        first_s[size.model] = median(turn.first_token_s for turn in mine)
        decode_s[size.model] = median(turn.whole_s - turn.first_token_s for turn in mine)
    weights = {size.model: size.weight_bytes for size in sizes}
    bounded = []
    for one in repetitions:
        if one.contender == PAGED:
            turns, before = [], one.turns[-1].model
            for turn in one.turns:
                previous = None if before == turn.model else weights[before]
                missing = missing_bytes(arena_bytes, weights[turn.model], previous)
                bound = bound_first_token_s(first_s[turn.model], missing, link)
                turns.append(turn.model_copy(update={"bound_first_token_s": bound}))
                before = turn.model
            one = one.model_copy(update={"turns": tuple(turns)})
        bounded.append(one)
    return bounded, decode_s
