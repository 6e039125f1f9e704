"""On a real GPU: exactness, and memory as the driver reports it within the budget. Skipped where ggml sees no GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import llama_cpp
import pytest

from agentmux.engine.base import EngineConfig, LoadSpec, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine
from agentmux.errors import NeverFits
from tests.engine import architecture_check, architectures, random_models
from tests.engine.conftest import endings, events, run
from tests.engine.reference import Greedy, Reference, silence_llama_log

CONTEXT_TOKENS = 512
BATCH_TOKENS = 128
ANSWER_TOKENS = 32
PROMPTS_TOKENS = (1, 7, BATCH_TOKENS, 300)
MIB = 1 << 20


def _has_gpu() -> bool:
    return bool(llama_cpp.llama_supports_gpu_offload())


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not _has_gpu(), reason="this llama.cpp build sees no GPU"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu-models")


def _spec(path: Path, model: str) -> LoadSpec:
    return LoadSpec(model, str(path), CONTEXT_TOKENS, slots=1, batch_tokens=BATCH_TOKENS)


def _turn(turn: int, n_prompt: int, model: str) -> TurnRequest:
    return TurnRequest(turn, model, random_models.prompt(n_prompt), max_tokens=ANSWER_TOKENS, ignore_eos=True)


def _expected(path: Path) -> list[Greedy]:
    reference = Reference(
        path, context_tokens=CONTEXT_TOKENS, slots=1, batch_tokens=BATCH_TOKENS, threads=4, on_gpu=True
    )
    silence_llama_log()
    expected = [reference.greedy(list(random_models.prompt(n)), ANSWER_TOKENS) for n in PROMPTS_TOKENS]
    reference.close()
    return expected


def _engine(device_bytes: int | None, arena_bytes: int | None = None) -> NativeEngine:
    """Streams what does not fit: the CPU's sums differ from the GPU's in their last bits."""
    config = EngineConfig(device_bytes=device_bytes, arena_bytes=arena_bytes, threads=4, oversize="stream")
    return NativeEngine(replace(config, debug_poison=True, debug_hash_logits=True))


def _budget_for(paths: dict[str, Path], share: float) -> int:
    """What the engine needs besides the arena, and this share of all units (or the least that it can do with)."""
    engine = _engine(None)
    footprints = [engine.load(_spec(path, name)) for name, path in paths.items()]
    stats = engine.stats()
    engine.close()
    contexts = sum(f.context_bytes for f in footprints)
    fixed = stats.device_used_bytes - stats.arena_bytes - stats.context_bytes + contexts
    units = max(int(share * sum(f.weight_bytes for f in footprints)), max(f.min_arena_bytes for f in footprints))
    return fixed + units + 128 * MIB


@pytest.mark.parametrize("name", random_models.TINY)
@pytest.mark.parametrize("ftype", [None, llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0])
def test_output_is_llama_cpps_to_the_bit(name: str, ftype: int | None, folder: Path) -> None:
    path = random_models.write(name, folder) if ftype is None else random_models.write_quantised(name, folder, ftype)
    expected = _expected(path)
    engine = _engine(None)
    footprint = engine.load(_spec(path, "m"))
    engine.close()
    engine = _engine(None, arena_bytes=footprint.min_arena_bytes)
    engine.load(_spec(path, "m"))
    for i, (n, e) in enumerate(zip(PROMPTS_TOKENS, expected, strict=True)):
        got = run(engine, _turn(i, n, "m"))[0]
        assert (got.tokens, got.stats.logits_crc32) == (e.tokens, e.logits_crc32), n
    assert engine.stats().evicted_units > 0
    engine.close()


def test_two_models_in_a_budget_for_one(folder: Path) -> None:
    """Real sizes: 0.8 GB each, held to 60 % of both; the driver's figure never exceeds the budget."""
    paths = {f"m{seed}": random_models.write("llama-wide", folder, seed=seed) for seed in (1, 2)}
    expected = {name: _expected(path) for name, path in paths.items()}
    budget = _budget_for(paths, 0.6)
    engine = _engine(budget)
    footprints = {name: engine.load(_spec(path, name)) for name, path in paths.items()}
    turn = 0
    for _ in range(3):
        for name, other in (("m1", "m2"), ("m2", "m1")):
            for n, e in zip(PROMPTS_TOKENS, expected[name], strict=True):
                engine.submit(_turn(turn, n, name))
                engine.prefetch(other)
                got = endings(engine, {turn})[turn]
                assert (got.tokens, got.stats.logits_crc32) == (e.tokens, e.logits_crc32)  # type: ignore[union-attr]
                assert engine.stats().device_used_bytes <= budget
                turn += 1
    stats = engine.stats()
    assert stats.arena_bytes < sum(f.weight_bytes for f in footprints.values())
    assert stats.evicted_units > 0
    assert stats.prefetched_bytes > 0
    engine.close()


def test_a_budget_smaller_than_one_unit_never_fits(folder: Path) -> None:
    path = random_models.write("llama-wide", folder)
    engine = _engine(1 * MIB)
    with pytest.raises(NeverFits) as refused:
        engine.load(_spec(path, "m"))
    assert refused.value.budget_bytes == 1 * MIB
    assert refused.value.needed_bytes > refused.value.budget_bytes
    engine.close()


def test_cancellation_on_the_gpu(folder: Path) -> None:
    path = random_models.write("llama-wide", folder)
    engine = _engine(None)
    engine.load(_spec(path, "m"))
    engine.submit(TurnRequest(1, "m", random_models.prompt(300), max_tokens=200, ignore_eos=True))
    events(engine)
    engine.cancel(1)
    assert endings(engine, {1})[1].reason == "cancelled"  # type: ignore[union-attr]
    engine.close()


NOT_REPEATABLE = {
    "grovemoe": "two of a token's experts may share one chunk expert; ggml's CUDA kernel then leaves a row unwritten",
}
"""Architectures whose results on CUDA depend on what lay in memory before."""


@pytest.mark.parametrize("name", sorted(set(architectures.MODELS) - set(NOT_REPEATABLE)))
def test_every_architecture(name: str, tmp_path: Path) -> None:
    """In the smallest arena, or 30 %."""
    row = architecture_check.check(name, tmp_path, on_gpu=True, shares=(0.3,))
    assert row.paged
    assert row.exact


@pytest.mark.parametrize("host_bytes", [None, 1])
def test_pageable_weights_go_through_staging(host_bytes: int | None, folder: Path) -> None:
    """With no budget for page-locked memory, uploads read the mapped file; the output is the same."""
    path = random_models.write("llama", folder)
    expected = _expected(path)
    config = EngineConfig(arena_bytes=MIB, threads=4, host_bytes=host_bytes, oversize="stream")
    engine = NativeEngine(replace(config, debug_poison=True, debug_hash_logits=True))
    footprint = engine.load(_spec(path, "m"))
    locked = engine.stats().page_locked_bytes
    assert locked == 0 if host_bytes else locked >= 0.9 * footprint.weight_bytes
    for i, (n, e) in enumerate(zip(PROMPTS_TOKENS, expected, strict=True)):
        got = run(engine, _turn(i, n, "m"))[0]
        assert (got.tokens, got.stats.logits_crc32) == (e.tokens, e.logits_crc32), n
    engine.close()


@pytest.mark.parametrize("oversize", ["auto", "host", "stream"])
def test_a_model_larger_than_the_arena(oversize: str, folder: Path) -> None:
    """The CPU's sums differ in their last bits, so first tokens are compared here; exactness is shown on the CPU. The
    driver's figure stays within the budget."""
    path = random_models.write("llama-wide", folder)
    expected = _expected(path)
    budget = _budget_for({"m": path}, 0.5)
    engine = NativeEngine(EngineConfig(device_bytes=budget, threads=8, oversize=oversize, debug_hash_logits=True))  # type: ignore[arg-type]
    engine.load(_spec(path, "m"))
    states = set()
    for i, (n, e) in enumerate(zip(PROMPTS_TOKENS, expected, strict=True)):
        got = run(engine, _turn(i, n, "m"))[0]
        states |= set(engine.stats().models[0].unit_states)
        assert got.tokens[0] == e.tokens[0]
        assert oversize != "stream" or got.stats.logits_crc32 == e.logits_crc32
        assert engine.stats().device_used_bytes <= budget
    assert oversize == "auto" or ("h" in states) == (oversize == "host")
    engine.close()


def test_sessions_go_to_host_memory_and_back(folder: Path) -> None:
    """Two models, one context at a time: to the bit as if all had stayed."""
    paths = {name: random_models.write(name, folder) for name in ("llama", "falcon-h1")}
    outcomes = []
    for contexts in (None, 1):
        engine = NativeEngine(EngineConfig(contexts=contexts, threads=4, debug_hash_logits=True))
        for name, path in paths.items():
            engine.load(_spec(path, name))
        prompts = {name: random_models.prompt(80) for name in paths}
        got = []
        for turn in range(6):
            name = ("llama", "falcon-h1")[turn % 2]
            request = TurnRequest(turn, name, prompts[name], max_tokens=10, ignore_eos=True, session="s")
            (end,) = run(engine, request)
            assert end.stats.reused_tokens == (0 if turn < 2 else len(prompts[name]) - 20 - 1)
            prompts[name] = prompts[name] + end.tokens + random_models.prompt(20)
            got.append((end.tokens, end.stats.logits_crc32))
        assert (engine.stats().session_bytes_restored > 0) == (contexts == 1)
        outcomes.append(got)
        engine.close()
    assert outcomes[0] == outcomes[1]


def test_two_engines_on_one_device(folder: Path) -> None:
    path = random_models.write("llama", folder)
    expected = _expected(path)[-1]
    engines = [_engine(None, arena_bytes=2 * MIB) for _ in range(2)]
    for engine in engines:
        engine.load(_spec(path, "m"))
        engine.submit(_turn(1, PROMPTS_TOKENS[-1], "m"))
    for engine in engines:
        end = endings(engine, {1})[1]
        assert isinstance(end, TurnFinished)
        assert end.tokens == expected.tokens
        engine.close()
