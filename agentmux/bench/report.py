"""The document of ``agentmux bench engine --json``. Fields may be added, those here stay."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from pydantic import BaseModel, ConfigDict, Field

from agentmux.bench.machine import Machine, Versions
from agentmux.bench.workload import Phase

PLAIN = "plain"
"""Name of the contender that is plain llama.cpp."""
RESIDENT = "resident"
PAGED = "paged"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measurement(_Value):
    """One run of one workload by one contender."""

    model: str
    contender: str = Field(description="plain (llama.cpp in a loop), resident or paged (the engine)")
    slots: int
    phase: Phase
    repetition: int = Field(description="from 0; each contender ran once in each, one after another")
    prompt_tokens: int = Field(description="of each slot")
    tokens: int = Field(description="of the phase, all slots")
    whole_s: float = Field(description="the phase as the caller saw it")
    compute_s: float = Field(description="part of it within llama_decode; for a paged model with its waits")
    cpu_s: float = Field(description="CPU time of the whole process, all threads, prefill included")
    same_output: bool = Field(description="the answers were token for token those of plain llama.cpp")
    uploaded_bytes: int
    upload_wait_s: float

    @property
    def tokens_per_s(self) -> float:
        """Of the whole phase."""
        return self.tokens / self.whole_s


class Ratio(_Value):
    """Plain llama.cpp's time over the contender's, within each repetition: 1 is as fast, less is slower."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, ratios: Iterable[float]) -> Ratio:
        """Of the repetitions' ratios, at least one."""
        every = sorted(ratios)
        return cls(median=median(every), min=every[0], max=every[-1])


class Comparison(_Value):
    """What the measurements of one contender in one workload come to."""

    model: str
    contender: str
    slots: int
    phase: Phase
    tokens_per_s: float = Field(description="median, of the whole phase")
    plain_tokens_per_s: float = Field(description="the same of plain llama.cpp")
    whole: Ratio = Field(description="of whole_s")
    compute: Ratio = Field(description="of compute_s")
    cpu: Ratio = Field(description="of cpu_s")
    same_output: bool = Field(description="in every repetition")


class ModelSetting(_Value):
    """A model and what the engine had for it."""

    model: str
    file_bytes: int
    weight_bytes: int = Field(description="all units; the resident contender's arena")
    paged_arena_bytes: int = Field(description="the paged contender's arena")


class Report(_Value):
    """The whole document."""

    command: tuple[str, ...] = Field(description="the command line, without the program's name")
    began: str = Field(description="date and time, ISO 8601, UTC")
    machine: Machine
    versions: Versions
    threads: int = Field(description="CPU threads that each contender computed with")
    batch_tokens: int = Field(description="tokens in one llama_decode at most")
    context_tokens: int = Field(description="context of each slot")
    models: tuple[ModelSetting, ...]
    comparisons: tuple[Comparison, ...]
    measurements: tuple[Measurement, ...]


def compared(measurements: Iterable[Measurement]) -> tuple[Comparison, ...]:
    """Each contender beside plain llama.cpp, in the order in which they were measured first."""
    groups: dict[tuple[str, int, Phase, str], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.model, one.slots, one.phase, one.contender), []).append(one)
    result = []
    for (model, slots, phase, contender), own in groups.items():
        if contender == PLAIN:
            continue
        plain = groups[model, slots, phase, PLAIN]
        pairs = list(zip(plain, own, strict=True))
        result.append(
            Comparison(
                model=model,
                contender=contender,
                slots=slots,
                phase=phase,
                tokens_per_s=median(one.tokens_per_s for one in own),
                plain_tokens_per_s=median(one.tokens_per_s for one in plain),
                whole=Ratio.of(p.whole_s / o.whole_s for p, o in pairs),
                compute=Ratio.of(p.compute_s / o.compute_s for p, o in pairs),
                cpu=Ratio.of(p.cpu_s / o.cpu_s for p, o in pairs),
                same_output=all(one.same_output for one in own),
            )
        )
    return tuple(result)
