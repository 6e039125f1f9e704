"""Whether an architecture computes the same paged as plain, measured on a tiny random model of it.

``python -m tests.engine.architecture_check > docs/architectures.md`` writes the table of all of them.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import llama_cpp
import numpy as np

from agentmux.engine.base import EngineConfig, EngineStats, Footprint, LoadSpec, TurnRequest
from agentmux.engine.native import NativeEngine

from . import architectures
from .conftest import run
from .reference import Greedy, Reference, silence_llama_log

BATCH_TOKENS = 32
PROMPTS_TOKENS = (1, 5, BATCH_TOKENS, 140)
ANSWER_TOKENS = 12
CONTEXT_TOKENS = 192
SLOTS = 2
THREADS = 1
ARENA_SHARES = (0.3, 0.6)
"""Room for one unit or two, and for about half of them, so that uploads run ahead."""


@dataclass(frozen=True)
class Row:
    """What was seen of one model."""

    name: str
    kind: str
    units: int
    weight_bytes: int
    min_arena_bytes: int
    paged: bool
    """In each arena: it was smaller than the model, and units were evicted."""
    same_tokens: bool
    same_logits: bool

    @property
    def exact(self) -> bool:
        return self.same_tokens and self.same_logits


class _Watched(Reference):
    """Fails on logits that would prove nothing: NaN, all alike, or the same at every step."""

    before = b""

    def _logits(self, crc: int) -> tuple[int, int]:
        row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), shape=(self._n_vocab,))
        chosen_from = row[np.isfinite(row)]
        assert not np.isnan(row).any(), "NaN in the logits"
        assert len(chosen_from) > 100, "hardly a token to choose from"
        assert chosen_from.std() > 0.01, "all logits alike"
        assert row.tobytes() != self.before, "the same logits at two steps"
        self.before = row.tobytes()
        return super()._logits(crc)

    def kind(self, *, experts: bool) -> str:
        kinds = ["experts" if experts else "dense"]
        if llama_cpp.llama_model_is_recurrent(self._model):
            kinds.append("recurrent")
        if llama_cpp.llama_model_is_hybrid(self._model):
            kinds.append("hybrid")
        if llama_cpp.llama_model_n_swa(self._model) > 0:
            kinds.append("sliding window")
        return ", ".join(kinds)


def prompt(n_tokens: int) -> tuple[int, ...]:
    """Token ids that wander over the vocabulary."""
    return tuple((i * 7919 + 13) % (architectures.VOCABULARY_TOKENS - 6) for i in range(n_tokens))


def _plain(name: str, path: Path, *, on_gpu: bool) -> tuple[str, list[Greedy]]:
    reference = _Watched(
        path,
        context_tokens=CONTEXT_TOKENS,
        slots=SLOTS,
        batch_tokens=BATCH_TOKENS,
        threads=THREADS,
        on_gpu=on_gpu,
    )
    silence_llama_log()
    try:
        kind = reference.kind(experts=architectures.has_experts(name))
        return kind, [reference.greedy(list(prompt(n)), ANSWER_TOKENS) for n in PROMPTS_TOKENS]
    finally:
        reference.close()


def _spec(path: Path) -> LoadSpec:
    return LoadSpec("m", str(path), CONTEXT_TOKENS, SLOTS, BATCH_TOKENS)


def _footprint(path: Path, device: str) -> Footprint:
    engine = NativeEngine(EngineConfig(device=device, threads=THREADS))
    try:
        return engine.load(_spec(path))
    finally:
        engine.close()


def _paged(path: Path, device: str, arena_bytes: int) -> tuple[list[Greedy], EngineStats]:
    # To the bit only if all of it is computed on one device.
    config = EngineConfig(device, arena_bytes=arena_bytes, threads=THREADS, oversize="stream")
    engine = NativeEngine(replace(config, debug_poison=True, debug_hash_logits=True))
    try:
        engine.load(_spec(path))
        answers = []
        for turn, n in enumerate(PROMPTS_TOKENS):
            end = run(engine, TurnRequest(turn, "m", prompt(n), max_tokens=ANSWER_TOKENS, ignore_eos=True))[0]
            answers.append(Greedy(end.tokens, end.stats.logits_crc32 or 0))
        return answers, engine.stats()
    finally:
        engine.close()


def check(name: str, folder: Path, *, on_gpu: bool = False, shares: tuple[float, ...] = ARENA_SHARES) -> Row:
    """Writes the model, computes with both, and removes it."""
    device = "auto" if on_gpu else "cpu"
    path = architectures.write(name, folder)
    try:
        kind, expected = _plain(name, path, on_gpu=on_gpu)
        footprint = _footprint(path, device)
        arenas = [max(int(footprint.weight_bytes * share), footprint.min_arena_bytes) for share in shares]
        runs = [_paged(path, device, arena) for arena in arenas]
    finally:
        path.unlink()
    return Row(
        name=name,
        kind=kind,
        units=len(footprint.unit_bytes),
        weight_bytes=footprint.weight_bytes,
        min_arena_bytes=footprint.min_arena_bytes,
        paged=all(
            stats.evicted_units > 0 and stats.arena_used_bytes <= stats.arena_bytes < footprint.weight_bytes
            for _, stats in runs
        ),
        same_tokens=all([g.tokens for g in got] == [e.tokens for e in expected] for got, _ in runs),
        same_logits=all([g.logits_crc32 for g in got] == [e.logits_crc32 for e in expected] for got, _ in runs),
    )


def line(row: Row) -> str:
    """The row of the table."""
    smallest = f"{row.min_arena_bytes / row.weight_bytes:.0%}"
    exact = "yes" if row.exact and row.paged else "no"
    remark = architectures.REMARKS.get(row.name, "")
    return f"| {row.name} | {row.kind} | {row.units} | {smallest} | {exact} | {remark} |"


def document(rows: list[Row]) -> str:
    """``docs/architectures.md``."""
    names = {architectures.architecture(row.name) for row in rows if row.exact and row.paged}
    head = _HEAD.format(exact=len(names), generating=len({architectures.architecture(row.name) for row in rows}))
    others = [f"| {name} | {reason} |" for name, reason in architectures.NOT_GENERATING.items()]
    return "\n".join([head, *map(line, rows), _OTHERS, *others]) + "\n"


_HEAD = f"""\
# Architectures

Of the {{generating}} architectures that this llama.cpp (llama-cpp-python 0.3.36) generates with, {{exact}} compute the
same to the bit when paged. Each line is a tiny model of random weights, of 1 to 14 MB. Its greedy answers
({ANSWER_TOKENS} tokens each, to prompts of {", ".join(map(str, PROMPTS_TOKENS))} tokens, {BATCH_TOKENS} in a batch) and
the checksum of all logits are compared with plain llama.cpp's, on the CPU, with an arena for
{" and for ".join(f"{share:.0%}" for share in ARENA_SHARES)} of its units and evicted memory overwritten.
`tests/engine/test_architectures.py` does that again, and `tests/gpu` does it for a few of them on a GPU.
`python -m tests.engine.architecture_check > docs/architectures.md` writes this page.

*Smallest arena* is what one node of the graph needs at once, as a share of all units: a real model has more layers, and
needs less. After a `+` stands what differs from the architecture's plain form.

| architecture | kind | units | smallest arena | exact when paged | remarks |
|---|---|---|---|---|---|"""

_OTHERS = """
## Without text

| architecture | why |
|---|---|"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [check(name, Path(folder)) for name in architectures.MODELS]
    sys.stdout.write(document(rows))


if __name__ == "__main__":
    main()
