"""llama.cpp's own ``llama-bench`` and ``llama-batched-bench``, each as a process of its own that measures one model.

Device, batch and threads are the engine's; everything else is as the programs have it by themselves, except that on the
CPU weights are not repacked, as the engine's are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agentmux.bench.binaries import Said, checked, quoted, said_by
from agentmux.bench.paging_report import Single, ToolRun
from agentmux.bench.workload import Shape
from agentmux.errors import ConfigError, EngineError

LLAMA_BENCH, LLAMA_BATCHED_BENCH = "llama-bench", "llama-batched-bench"
_EVERY_LAYER = "999"
_KV_UNIFIED = re.compile(r"\bkv_unified\s*=\s*(true|false)\b")
_INFO = "4"
"""The verbosity with which llama-batched-bench says what context it made, once."""


class Wanted(Protocol):
    """The settings that matter here."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def repetitions(self) -> int: ...


class Chosen(Protocol):
    """What a user may name."""

    @property
    def llama_bench(self) -> str | None: ...

    @property
    def llama_batched_bench(self) -> str | None: ...

    @property
    def single_slots(self) -> tuple[int, ...]: ...


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Test(_Row):
    """One of llama-bench's tests: a prompt or an answer, after ``n_depth`` tokens."""

    n_prompt: int = Field(ge=0)
    n_gen: int = Field(ge=0)
    n_depth: int = Field(ge=0)
    samples_ns: tuple[int, ...] = Field(min_length=1)

    @property
    def kind(self) -> tuple[str, int]:
        return "decode" if self.n_gen else "prefill", self.n_depth

    def rates(self) -> list[float]:
        return [1e9 * (self.n_prompt + self.n_gen) / max(1, sample) for sample in self.samples_ns]


class _Batched(_Row):
    """One run of llama-batched-bench: prompts of ``pp`` tokens in ``pl`` slots, and ``tg`` tokens of each answer."""

    pp: int
    tg: int
    pl: int
    speed_pp: float = Field(gt=0)
    speed_tg: float = Field(gt=0)


_TESTS = TypeAdapter(tuple[_Test, ...])


def check(settings: Chosen) -> None:
    """Raises ConfigError for a file that cannot be run, or that would have nothing to measure."""
    if settings.llama_bench is not None:
        checked(settings.llama_bench, LLAMA_BENCH)
        if 1 not in settings.single_slots:
            raise ConfigError(f"{LLAMA_BENCH} measures a model alone in one slot; ask for that, too (--alone 1)")
    if settings.llama_batched_bench is not None:
        checked(settings.llama_batched_bench, LLAMA_BATCHED_BENCH)
        if max(settings.single_slots, default=1) < 2:
            raise ConfigError(
                f"{LLAMA_BATCHED_BENCH} measures a model alone in several slots; ask for these (--alone 8)"
            )


def llama_bench(
    binary: str, path: str, settings: Wanted, shape: Shape, device: str, version: str | None
) -> tuple[list[Single], ToolRun]:
    """Prefill, and decode from an empty context and after the prompt, in one slot.

    Raises ConfigError where the file cannot be run, EngineError where it fails or says something else.
    """
    # Separated by commas: further values. There is no way to name a file that has one.
    if "," in path:
        raise ConfigError(f"{path}: {LLAMA_BENCH} takes no model whose name has a comma")
    command = [
        *(checked(binary, LLAMA_BENCH), "-m", path),
        *("-p", str(settings.prompt_tokens), "-n", str(settings.tokens), "-d", f"0,{settings.prompt_tokens}"),
        *("-b", str(shape.batch_tokens), "-ub", str(shape.batch_tokens), "-t", str(shape.threads)),
        *("-r", str(settings.repetitions)),
        *(("-dev", "none", "--repack", "0") if device == "CPU" else ("-dev", device, "-ngl", _EVERY_LAYER)),
        *("-o", "json"),
    ]
    said = said_by(command)
    try:
        tests = _TESTS.validate_json(said.output)
    except ValidationError:
        raise _unexpected(command[0], LLAMA_BENCH, said) from None
    expected = {("prefill", 0), ("decode", 0), ("decode", settings.prompt_tokens)}
    if not expected <= {test.kind for test in tests}:
        raise _unexpected(command[0], LLAMA_BENCH, said)
    singles = [_single(LLAMA_BENCH, *test.kind, 1, test.rates()) for test in tests]
    return singles, ToolRun(tool=LLAMA_BENCH, slots=1, version=version, command=tuple(command), unified_kv=None)


def llama_batched_bench(
    binary: str, path: str, settings: Wanted, shape: Shape, depth: int, device: str, version: str | None
) -> tuple[list[Single], ToolRun]:
    """Prefill of whole prompts, and decode after ``depth`` tokens and after whole prompts, in ``shape.slots`` slots.

    One run of each goes before and is not counted. Raises what ``llama_bench`` does.
    """
    slots, lengths = shape.slots, sorted({depth, settings.prompt_tokens})
    command = [
        *(checked(binary, LLAMA_BATCHED_BENCH), "-m", path),
        *("-npp", ",".join(map(str, lengths)), "-ntg", str(settings.tokens)),
        *("-npl", ",".join([str(slots)] * (settings.repetitions + 1)), "-c", str(shape.context_tokens * slots)),
        *("-b", str(shape.batch_tokens), "-ub", str(shape.batch_tokens), "-t", str(shape.threads)),
        *(("--device", "none", "--no-repack") if device == "CPU" else ("--device", device, "-ngl", _EVERY_LAYER)),
        *("-lv", _INFO, "--output-format", "jsonl"),
    ]
    said = said_by(command)
    lines = [line for line in said.output.splitlines() if line.startswith("{")]
    try:
        rows = [_Batched.model_validate_json(line) for line in lines]
    except ValidationError:
        raise _unexpected(command[0], LLAMA_BATCHED_BENCH, said) from None
    expected = [(pp, settings.tokens, slots) for pp in lengths for _ in range(settings.repetitions + 1)]
    if [(row.pp, row.tg, row.pl) for row in rows] != expected:
        raise _unexpected(command[0], LLAMA_BATCHED_BENCH, said)
    runs = _grouped(rows, settings.repetitions + 1)
    singles = [_single(LLAMA_BATCHED_BENCH, "prefill", 0, slots, [row.speed_pp for row in runs[-1][1:]])]
    for run in runs:
        singles.append(_single(LLAMA_BATCHED_BENCH, "decode", run[0].pp, slots, [row.speed_tg for row in run[1:]]))
    found = _KV_UNIFIED.search(said.errors + said.output)
    unified = None if found is None else found[1] == "true"
    tool = LLAMA_BATCHED_BENCH
    return singles, ToolRun(tool=tool, slots=slots, version=version, command=tuple(command), unified_kv=unified)


Item = TypeVar("Item")


def _grouped(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _unexpected(binary: str, program: str, said: Said) -> EngineError:
    last = quoted(said.output) or quoted(said.errors)
    return EngineError(f"{binary}: not what this version of {program} should print{last or '; it said nothing'}")


def _single(contender: str, phase: str, depth: int, slots: int, rates: list[float]) -> Single:
    return Single(
        contender=contender,
        phase=phase,
        slots=slots,
        depth_tokens=depth,
        tokens_per_s=median(rates),
        all_tokens_per_s=tuple(rates),
    )
