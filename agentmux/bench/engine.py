"""The engine beside plain llama.cpp: prefill and decode, one slot and many, resident and paged.

All contenders have their model loaded, and in each repetition they run one after another on the same prompts, so that
whatever else slows the machine down meets all of them. One run of each goes before and is not counted.
"""

from __future__ import annotations

import ctypes
import os
import select
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import llama_cpp
from llama_cpp import _ggml

from agentmux.bench import random_models
from agentmux.bench.machine import Versions, these_versions, this_machine, usable_cores
from agentmux.bench.plain_llama import PlainLlama
from agentmux.bench.report import PAGED, PLAIN, RESIDENT, Measurement, ModelSetting, Report, compared
from agentmux.bench.workload import Contender, Shape, Timing, Workload
from agentmux.engine.base import (
    EngineConfig,
    Footprint,
    LoadSpec,
    PrefillProgress,
    TurnFailed,
    TurnFinished,
    TurnRequest,
)
from agentmux.engine.native import NativeEngine
from agentmux.errors import ConfigError, EngineError, from_code
from agentmux.models import expanded, named
from agentmux.sampling import SamplingParams

_GREEDY = SamplingParams(temperature=0)
_MODEL = "m"
_SILENCE_S = 300.0
"""An engine that says nothing for so long has stopped."""
_PAUSE_S = 0.05
"""Between two runs: threads of the one that ended go on spinning for a while."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure. Raises ConfigError for what cannot be measured."""

    models: tuple[str, ...]
    """GGUF files, bundled models' names, or ``random:NAME``."""
    prompt_tokens: int = 512
    tokens: int = 128
    """Of an answer that is decoded, at least 2."""
    slots: tuple[int, ...] = (1, 8)
    repetitions: int = 3
    arena_share: float = 0.5
    """Arena of the paged contender, as a share of the model's units; at least what the model can decode in."""
    device_bytes: int | None = None
    """Budget of the paged contender, in place of ``arena_share``."""
    device: str = "auto"
    threads: int | None = None
    batch_tokens: int = 256
    mapped: bool = True
    """Plain llama.cpp computes from the mapped file, its default; or else from a copy in memory."""

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise ConfigError("an answer of one token has nothing to decode; ask for at least 2 tokens")
        if max(self.slots) > self.batch_tokens:
            raise ConfigError(f"{max(self.slots)} slots do not go into one batch of {self.batch_tokens} tokens")

    @property
    def context_tokens(self) -> int:
        """Of each slot; llama.cpp rounds contexts up to 256 tokens."""
        return -(-(self.prompt_tokens + self.tokens) // 256) * 256

    def shape(self, slots: int) -> Shape:
        """The context for so many slots."""
        return Shape(self.context_tokens, slots, self.batch_tokens, self.threads or usable_cores())

    def workloads(self, slots: int) -> tuple[Workload, ...]:
        """What is run with so many slots."""
        decode = Workload.decode(slots, self.prompt_tokens, self.tokens, self.batch_tokens)
        return Workload.prefill(slots, self.prompt_tokens), decode


class EngineContender:
    """The engine with one model. Close it when done; ``footprint`` is the model's, ``device`` the engine's."""

    def __init__(self, path: str, shape: Shape, config: EngineConfig) -> None:
        self._engine = NativeEngine(config)
        try:
            spec = LoadSpec(_MODEL, path, shape.context_tokens, shape.slots, shape.batch_tokens)
            self.footprint: Footprint = self._engine.load(spec)
        except BaseException:
            self._engine.close()
            raise
        stats = self._engine.stats()
        self.device, self.arena_bytes = stats.device, stats.arena_bytes
        self._turns = 0

    def run(self, workload: Workload, prompts: list[tuple[int, ...]]) -> Timing:
        """See ``Contender.run``."""
        turns = range(self._turns, self._turns + len(prompts))
        self._turns += len(prompts)
        begin, cpu = time.perf_counter(), time.process_time()
        for turn, prompt in zip(turns, prompts, strict=True):
            request = TurnRequest(turn, _MODEL, prompt, workload.max_tokens, _GREEDY, ignore_eos=True)
            self._engine.submit(request)
        ended, prefilled, last = self._ends(len(prompts))
        end, cpu_s = time.perf_counter(), time.process_time() - cpu
        stats = [ended[turn].stats for turn in turns]
        prefill = workload.phase == "prefill"
        compute_s = sum(one.prefill_s for one in stats) if prefill or workload.from_prompt else 0.0
        return Timing(
            whole_s=end - (begin if prefill or workload.from_prompt else prefilled),
            compute_s=compute_s + (0.0 if prefill else ended[last].stats.decode_s),
            cpu_s=cpu_s,
            answers=tuple(ended[turn].tokens for turn in turns),
            uploaded_bytes=max(one.uploaded_bytes for one in stats),
            upload_wait_s=max(one.upload_wait_s for one in stats),
        )

    def _ends(self, n_turns: int) -> tuple[dict[int, TurnFinished], float, int]:
        """All turns' ends; when the last prompt was in, and which turn's that was."""
        ended: dict[int, TurnFinished] = {}
        prefilled, last = 0.0, -1
        while len(ended) < n_turns:
            if not select.select([self._engine.fileno()], [], [], _SILENCE_S)[0]:
                raise EngineError(f"the engine has said nothing for {_SILENCE_S:.0f} s")
            for event in self._engine.poll():
                if isinstance(event, PrefillProgress) and event.done_tokens == event.total_tokens:
                    prefilled, last = time.perf_counter(), event.turn
                elif isinstance(event, TurnFinished):
                    ended[event.turn] = event
                elif isinstance(event, TurnFailed):
                    raise from_code(event.error_code, event.message, event.numbers)
        return ended, prefilled, last

    def close(self) -> None:
        """Free everything."""
        self._engine.close()


def bench_engine(
    settings: Settings, command: Sequence[str] = (), tell: Callable[[str], None] = lambda _: None
) -> Report:
    """Measure all that ``settings`` ask for. ``tell`` gets a line now and then about what is being done.

    Raises ModelError, ConfigError, NeverFits, EngineError.
    """
    began = datetime.now(UTC).isoformat(timespec="seconds")
    measurements: list[Measurement] = []
    models: list[ModelSetting] = []
    device = ""
    for model in settings.models:
        tell(f"{model}: getting it ready")
        with _file(model) as path:
            for slots in settings.slots:
                with _contenders(path, settings, slots) as (contenders, resident, paged):
                    device = resident.device
                    measurements += _measure(model, settings, slots, contenders, tell)
            models.append(
                ModelSetting(
                    model=model,
                    file_bytes=os.stat(path).st_size,
                    weight_bytes=resident.footprint.weight_bytes,
                    paged_arena_bytes=paged.arena_bytes,
                )
            )
    return Report(
        command=tuple(command),
        began=began,
        machine=this_machine(device),
        versions=loaded_versions(),
        threads=settings.shape(1).threads,
        batch_tokens=settings.batch_tokens,
        context_tokens=settings.context_tokens,
        models=tuple(models),
        comparisons=compared(measurements),
        measurements=tuple(measurements),
    )


def loaded_versions() -> Versions:
    """The software's versions, of the libraries as they are loaded."""
    ggml = ctypes.CDLL(_ggml.libggml._name)
    ggml.ggml_version.restype = ggml.ggml_commit.restype = ctypes.c_char_p
    return these_versions(
        llama_cpp=llama_cpp.llama_version().decode(),
        ggml=f"{ggml.ggml_version().decode()} ({ggml.ggml_commit().decode()})",
    )


@contextmanager
def _file(model: str) -> Iterator[str]:
    """The model's file; a random one lives as long as it is measured."""
    if model.startswith(random_models.PREFIX):
        with tempfile.TemporaryDirectory(prefix="agentmux-bench-") as folder:
            yield str(random_models.write(model, Path(folder)))
    else:
        yield expanded(named(model))


@contextmanager
def _contenders(
    path: str, settings: Settings, slots: int
) -> Iterator[tuple[dict[str, Contender], EngineContender, EngineContender]]:
    """All three with the model loaded. The engine goes first, because it checks the file."""
    shape = settings.shape(slots)
    with ExitStack() as stack:
        resident = EngineContender(path, shape, EngineConfig(settings.device, threads=shape.threads))
        stack.callback(resident.close)
        footprint = resident.footprint
        if resident.arena_bytes < footprint.weight_bytes:
            raise EngineError(
                f"{path} is never resident: {footprint.weight_bytes} bytes of units, {resident.arena_bytes} for them"
            )
        share = max(footprint.min_arena_bytes, int(footprint.weight_bytes * settings.arena_share))
        budget = EngineConfig(
            resident.device if resident.device != "CPU" else "cpu",
            device_bytes=settings.device_bytes,
            arena_bytes=None if settings.device_bytes else share,
            threads=shape.threads,
        )
        plain = PlainLlama(path, shape, resident.device, mapped=settings.mapped)
        stack.callback(plain.close)
        paged = EngineContender(path, shape, budget)
        stack.callback(paged.close)
        yield {PLAIN: plain, RESIDENT: resident, PAGED: paged}, resident, paged


def _measure(
    model: str, settings: Settings, slots: int, contenders: dict[str, Contender], tell: Callable[[str], None]
) -> Iterator[Measurement]:
    plain = contenders[PLAIN]
    assert isinstance(plain, PlainLlama)
    for workload in settings.workloads(slots):
        tell(f"{model}: {workload.phase}, {slots} slot(s)")
        for repetition in range(-1, settings.repetitions):
            prompts = workload.prompts(repetition + 1, plain.n_vocabulary)
            timings = {name: _paused(contender, workload, prompts) for name, contender in contenders.items()}
            if repetition < 0:
                continue
            for name, timing in timings.items():
                yield Measurement(
                    model=model,
                    contender=name,
                    slots=slots,
                    phase=workload.phase,
                    repetition=repetition,
                    prompt_tokens=workload.prompt_tokens,
                    tokens=workload.tokens,
                    whole_s=timing.whole_s,
                    compute_s=timing.compute_s,
                    cpu_s=timing.cpu_s,
                    same_output=timing.answers == timings[PLAIN].answers,
                    uploaded_bytes=timing.uploaded_bytes,
                    upload_wait_s=timing.upload_wait_s,
                )


def _paused(contender: Contender, workload: Workload, prompts: list[tuple[int, ...]]) -> Timing:
    time.sleep(_PAUSE_S)
    return contender.run(workload, prompts)
