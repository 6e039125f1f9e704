"""One model alone and resident: the engine beside llama.cpp as llama-bench and llama-batched-bench run it."""

from __future__ import annotations

from contextlib import closing
from statistics import median
from typing import Protocol

from agentmux.bench.apart import Tell
from agentmux.bench.engine import EngineContender
from agentmux.bench.machine import usable_cores
from agentmux.bench.paging_report import Single
from agentmux.bench.plain_llama import PlainLlama
from agentmux.bench.workload import Shape, Workload
from agentmux.engine.base import EngineConfig

_ROUND_UP = 256


class Wanted(Protocol):
    """The settings that matter here."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def repetitions(self) -> int: ...

    @property
    def single_slots(self) -> tuple[int, ...]: ...

    @property
    def batch_tokens(self) -> int: ...

    @property
    def threads(self) -> int | None: ...


def engine(path: str, settings: Wanted, slots: int, device: str, tell: Tell) -> list[Single]:
    """Prefill and decode of the engine with so many slots; one run of each goes before and is not counted."""
    tell(f"{path} alone, {slots} slot(s)")
    shape = _shape(settings, slots)
    decode = Workload.decode(slots, settings.prompt_tokens, settings.tokens, settings.batch_tokens)
    config = EngineConfig(device if device != "CPU" else "cpu", threads=shape.threads)
    found = []
    with closing(EngineContender(path, shape, config)) as contender:
        for workload in (Workload.prefill(slots, settings.prompt_tokens), decode):
            rates = []
            for repetition in range(settings.repetitions + 1):
                timing = contender.run(workload, workload.prompts(repetition, _IDS))
                rates.append(workload.tokens / timing.whole_s)
            depth = 0 if workload.phase == "prefill" else workload.prompt_tokens
            found.append(_single("engine", workload.phase, slots, depth, rates[1:]))
    return found


def plain(path: str, settings: Wanted, slots: int, device: str, tell: Tell) -> list[Single]:
    """The same of plain llama.cpp, sampling nothing, and decoding from an empty context as well."""
    tell(f"{path} in plain llama.cpp, {slots} slot(s)")
    decode = Workload.decode(slots, settings.prompt_tokens, settings.tokens, settings.batch_tokens)
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
