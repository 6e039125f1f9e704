"""One model alone and resident: the engine, llama.cpp in a loop, and llama.cpp's own benches where there are any."""

from __future__ import annotations

from contextlib import closing
from statistics import median
from typing import Protocol

from agentmux.bench import llama_tools
from agentmux.bench.apart import Tell, run_apart
from agentmux.bench.binaries import version_of
from agentmux.bench.engine import EngineContender
from agentmux.bench.machine import usable_cores
from agentmux.bench.paging_report import Single, ToolRun
from agentmux.bench.plain_llama import PlainLlama
from agentmux.bench.workload import Shape, Workload
from agentmux.engine.base import EngineConfig

_ROUND_UP = 256


class Wanted(llama_tools.Wanted, llama_tools.Chosen, Protocol):
    """The settings that matter here."""

    @property
    def batch_tokens(self) -> int: ...

    @property
    def threads(self) -> int | None: ...


class Alone:
    """The measurements of a model alone, each in a process of its own. Raises ConfigError for a file that is no
    program."""

    def __init__(self, settings: Wanted, tell: Tell) -> None:
        self._settings, self._tell = settings, tell
        one, several = settings.llama_bench, settings.llama_batched_bench
        self._versions = (
            None if one is None else version_of(one, llama_tools.LLAMA_BENCH),
            None if several is None else version_of(several, llama_tools.LLAMA_BATCHED_BENCH),
        )

    def measured(self, path: str, device: str) -> tuple[list[Single], list[ToolRun]]:
        """With each of ``single_slots``: the engine, plain llama.cpp, and the program that is made for so many."""
        found: list[Single] = []
        runs: list[ToolRun] = []
        for slots in self._settings.single_slots:
            for measure in (engine, plain):
                found += run_apart(measure, path, self._settings, slots, device, tell=self._tell)
            singles, tools = self._tool(path, slots, device)
            found += singles
            runs += tools
        return found, runs

    def _tool(self, path: str, slots: int, device: str) -> tuple[list[Single], list[ToolRun]]:
        settings, shape = self._settings, _shape(self._settings, slots)
        binary = settings.llama_bench if slots == 1 else settings.llama_batched_bench
        if binary is None:
            return [], []
        self._tell(f"{path} in {binary}, {slots} slot(s)")
        if slots == 1:
            singles, run = llama_tools.llama_bench(binary, path, settings, shape, device, self._versions[0])
        else:
            depth = _decode(settings, slots).prompt_tokens
            version = self._versions[1]
            singles, run = llama_tools.llama_batched_bench(binary, path, settings, shape, depth, device, version)
        return singles, [run]


def engine(path: str, settings: Wanted, slots: int, device: str, tell: Tell) -> list[Single]:
    """Prefill of the engine with so many slots, and decode from an empty context and after the prompts.

    One run of each goes before and is not counted.
    """
    tell(f"{path} alone, {slots} slot(s)")
    shape = _shape(settings, slots)
    workloads = (
        (0, Workload.prefill(slots, settings.prompt_tokens)),
        (0, Workload.from_empty(slots, settings.tokens)),
        (_decode(settings, slots).prompt_tokens, _decode(settings, slots)),
    )
    config = EngineConfig(device if device != "CPU" else "cpu", threads=shape.threads)
    found = []
    with closing(EngineContender(path, shape, config)) as contender:
        for depth, workload in workloads:
            rates = []
            for repetition in range(settings.repetitions + 1):
                timing = contender.run(workload, workload.prompts(repetition, _IDS))
                rates.append(workload.tokens / timing.whole_s)
            found.append(_single("engine", workload.phase, slots, depth, rates[1:]))
    return found


def plain(path: str, settings: Wanted, slots: int, device: str, tell: Tell) -> list[Single]:
    """The same of plain llama.cpp, sampling nothing, and decoding from an empty context as well."""
    tell(f"{path} in plain llama.cpp, {slots} slot(s)")
    decode = _decode(settings, slots)
    found, prefill = [], []
    with closing(PlainLlama(path, _shape(settings, slots), device)) as contender:
        for depth in (0, decode.prompt_tokens):
            rates = []
            for _ in range(settings.repetitions + 1):
                rates.append(slots * settings.tokens / contender.bare(slots, depth, settings.tokens)[1])
            found.append(_single("plain", "decode", slots, depth, rates[1:]))
        for _ in range(settings.repetitions + 1):
            prefill.append(slots * settings.prompt_tokens / contender.bare(slots, settings.prompt_tokens, 0)[0])
    return [_single("plain", "prefill", slots, 0, prefill[1:]), *found]


def _decode(settings: Wanted, slots: int) -> Workload:
    return Workload.decode(slots, settings.prompt_tokens, settings.tokens, settings.batch_tokens)


def _shape(settings: Wanted, slots: int) -> Shape:
    tokens = -(-(settings.prompt_tokens + settings.tokens) // _ROUND_UP) * _ROUND_UP
    return Shape(tokens, slots, min(settings.batch_tokens, tokens * slots), settings.threads or usable_cores())


def _single(contender: str, phase: str, slots: int, depth: int, rates: list[float]) -> Single:
    return Single(
        contender=contender,
        phase=phase,
        slots=slots,
        depth_tokens=depth,
        tokens_per_s=median(rates),
        all_tokens_per_s=tuple(rates),
    )


_IDS = 512
"""Token ids used with any model: each has at least so many."""
