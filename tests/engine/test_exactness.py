"""Greedy output of a paged model equals plain llama.cpp's to the bit, with evicted memory overwritten."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import llama_cpp
import pytest

from agentmux.engine.base import EngineConfig, Footprint, LoadSpec, TurnFinished, TurnRequest, TurnStarted
from agentmux.engine.native import NativeEngine

from . import random_models
from .conftest import BATCH_TOKENS, CONTEXT_TOKENS, SLOTS, THREADS, endings, events, run, spec
from .reference import Greedy, Reference, silence_llama_log

MakeEngine = Callable[..., NativeEngine]
PROMPTS_TOKENS = (1, 5, BATCH_TOKENS, 150)
ANSWER_TOKENS = 20
Outcome = tuple[tuple[int, ...], int]


def _turn(turn: int, n_prompt: int, model: str = "m", max_tokens: int = ANSWER_TOKENS) -> TurnRequest:
    return TurnRequest(turn, model, random_models.prompt(n_prompt), max_tokens=max_tokens, ignore_eos=True)


def _reference(path: Path) -> Reference:
    reference = Reference(path, context_tokens=CONTEXT_TOKENS, slots=SLOTS, batch_tokens=BATCH_TOKENS, threads=THREADS)
    silence_llama_log()
    return reference


def _expected(path: Path, prompts_tokens: tuple[int, ...] = PROMPTS_TOKENS) -> list[Greedy]:
    reference = _reference(path)
    expected = [reference.greedy(list(random_models.prompt(n)), ANSWER_TOKENS) for n in prompts_tokens]
    reference.close()
    return expected


def _footprint(path: Path) -> Footprint:
    engine = NativeEngine(EngineConfig(device="cpu", threads=THREADS))
    footprint = engine.load(spec(path))
    engine.close()
    return footprint


@pytest.mark.parametrize("name", random_models.TINY)
def test_paged_output_is_llama_cpps_to_the_bit(name: str, model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write(name, model_folder)
    expected = _expected(path)
    footprint = _footprint(path)
    for share in (1.0, 0.5, 0.3, 0.0):
        arena = max(int(footprint.weight_bytes * share), footprint.min_arena_bytes)
        engine = make_engine(arena)
        engine.load(spec(path))
        got = [run(engine, _turn(i, n))[0] for i, n in enumerate(PROMPTS_TOKENS)]
        assert [g.tokens for g in got] == [e.tokens for e in expected], f"arena at {share}"
        assert [g.stats.logits_crc32 for g in got] == [e.logits_crc32 for e in expected], f"arena at {share}"
        stats = engine.stats()
        assert (stats.evicted_units > 0) == (arena < footprint.weight_bytes)
        assert stats.arena_used_bytes <= stats.arena_bytes <= arena


def test_the_demonstration_models_in_two_fifths_of_their_size(make_engine: MakeEngine) -> None:
    """As the demo runs them: all three loaded, real prompts, each ending where the model ends."""
    folder = files("agentmux.agents") / "models"
    paths = {name: Path(str(folder / f"{name}.gguf")) for name in ("planner", "coder", "critic")}
    tasks = json.loads((files("agentmux.agents") / "tasks.json").read_text())
    texts = [f"<|user|>\n{task['description']}<|end|>\n<|assistant|>\n" for task in tasks[:4]]
    engine = make_engine(sum(path.stat().st_size for path in paths.values()) * 2 // 5)
    for name, path in paths.items():
        engine.load(spec(path, name))
    turn = 0
    for name, path in paths.items():
        reference = _reference(path)
        for text in texts:
            prompt = reference.tokenize(text)
            expected = reference.greedy(prompt, 100, stop_at_end=True)
            got = run(engine, TurnRequest(turn, name, text, max_tokens=100))[0]
            assert got.stats.prompt_tokens == len(prompt)
            assert (got.tokens, got.stats.logits_crc32) == (expected.tokens, expected.logits_crc32), (name, text)
            turn += 1
        reference.close()
    stats = engine.stats()
    assert stats.evicted_units > 0
    assert stats.switches == 2


@pytest.mark.parametrize("ftype", [llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0])
@pytest.mark.parametrize("name", ["llama", "qwen3moe"])
def test_quantised_weights(name: str, ftype: int, model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write_quantised(name, model_folder, ftype)
    expected = _expected(path)
    engine = make_engine(_footprint(path).min_arena_bytes)
    engine.load(spec(path))
    for i, (n, e) in enumerate(zip(PROMPTS_TOKENS, expected, strict=True)):
        got = run(engine, _turn(i, n))[0]
        assert (got.tokens, got.stats.logits_crc32) == (e.tokens, e.logits_crc32)


def test_two_models_alternating_in_an_arena_for_one(model_folder: Path, make_engine: MakeEngine) -> None:
    paths = {name: random_models.write(name, model_folder) for name in ("llama", "qwen3moe")}
    expected = {name: _expected(path, (40, 90)) for name, path in paths.items()}
    engine = make_engine(max(_footprint(path).weight_bytes for path in paths.values()))
    for name, path in paths.items():
        engine.load(spec(path, name))
    for round_ in range(3):
        for name, other in (("llama", "qwen3moe"), ("qwen3moe", "llama")):
            engine.prefetch(other)
            got = run(engine, _turn(round_ * 4, 40, name), _turn(round_ * 4 + 1, 90, name))
            assert [g.tokens for g in got] == [e.tokens for e in expected[name]]
    stats = engine.stats()
    assert stats.switches == 5
    assert stats.prefetched_bytes > 0


@pytest.mark.parametrize("share", [0.6, 0.85])
def test_a_whole_successor_comes_in_while_nobody_has_work(
    share: float, model_folder: Path, make_engine: MakeEngine
) -> None:
    """While a model has turns only what fits beside it; when these have ended, all of its successor, and for the
    successor's turn nothing is left to be uploaded."""
    paths = {name: random_models.write(name, model_folder) for name in ("llama", "qwen3")}
    engine = make_engine(int(share * sum(_footprint(path).weight_bytes for path in paths.values())))
    for name, path in paths.items():
        engine.load(spec(path, name))
    for turn, (name, other) in enumerate((("llama", "qwen3"), ("qwen3", "llama"), ("llama", "qwen3"))):
        end = run(engine, _turn(turn, 40, name))[0]
        assert end.tokens == _expected(paths[name], (40,))[0].tokens
        assert end.stats.uploaded_bytes == 0 or turn == 0
        engine.prefetch(other)
        deadline = time.monotonic() + 60
        states = ""
        while set(states) != {"r"}:
            assert time.monotonic() < deadline, f"{other}: {states}"
            states = next(model.unit_states for model in engine.stats().models if model.model == other)


def test_two_models_that_fit_together_take_turns_step_by_step(model_folder: Path, make_engine: MakeEngine) -> None:
    paths = {name: random_models.write(name, model_folder) for name in ("llama", "qwen3")}
    engine = make_engine(sum(_footprint(path).weight_bytes for path in paths.values()))
    for name, path in paths.items():
        engine.load(spec(path, name))
    got = run(engine, _turn(1, 40, "llama"), _turn(2, 40, "qwen3"))
    for (_, path), end in zip(paths.items(), got, strict=True):
        assert end.tokens == _expected(path, (40,))[0].tokens
    assert engine.stats().switches > ANSWER_TOKENS // 2


def test_cancellation_in_between_leaves_others_exact(model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write("lfm2", model_folder)
    expected = _expected(path, (90,))[0]
    engine = make_engine(_footprint(path).min_arena_bytes)
    engine.load(spec(path))
    for i in range(5):
        engine.submit(_turn(100 + i, 150, max_tokens=300))
        engine.cancel(100 + i)
        assert endings(engine, {100 + i})[100 + i].reason == "cancelled"  # type: ignore[union-attr]
        got = run(engine, _turn(i, 90))[0]
        assert (got.tokens, got.stats.logits_crc32) == (expected.tokens, expected.logits_crc32)


def _together(make_engine: MakeEngine, path: Path, blocker: Path, arena_bytes: int) -> tuple[list[Outcome], int]:
    """Two turns that start in the same step: a turn of another model holds the engine while they are submitted."""
    engine = make_engine(arena_bytes)
    engine.load(spec(path))
    engine.load(spec(blocker, "blocker"))
    engine.submit(_turn(0, 10, "blocker", max_tokens=150))
    while not any(isinstance(event, TurnStarted) for event in events(engine)):
        pass
    engine.submit(_turn(1, 20))
    engine.submit(_turn(2, 33))
    ended = endings(engine, {0, 1, 2})
    outcomes = []
    for turn in (1, 2):
        end = ended[turn]
        assert isinstance(end, TurnFinished), end
        outcomes.append((end.tokens, end.stats.logits_crc32))
    return outcomes, engine.stats().repeated_passes


@pytest.mark.parametrize("name", ["llama", "qwen3moe", "lfm2", "falcon-h1", "gemma3"])
def test_two_slots_in_one_batch_are_exact(name: str, model_folder: Path, make_engine: MakeEngine) -> None:
    """Against the same engine with the whole model resident, in the same batch.

    Prompts of two lengths make llama.cpp cut a hybrid's batch into several graphs: nothing at load resembled that, so
    the pass must be found void where a unit is missing, taken back, and done again.
    """
    path = random_models.write(name, model_folder)
    blocker = random_models.write("qwen3", model_folder)
    small = max(_footprint(path).min_arena_bytes, _footprint(blocker).min_arena_bytes)
    # Room for each alone and not for both, so that the blocker holds the engine here too.
    expected, _ = _together(make_engine, path, blocker, max(_footprint(p).weight_bytes for p in (path, blocker)))
    for arena_bytes in (small, 2 * small):
        got, repeated = _together(make_engine, path, blocker, arena_bytes)
        assert got == expected
        assert (repeated > 0) == (name in ("lfm2", "falcon-h1"))


def _eight_together(make_engine: MakeEngine, path: Path, blocker: Path, arena_bytes: int) -> list[Outcome]:
    """Eight turns of different lengths that start in the same step, some of them longer than a chunk."""
    engine = make_engine(arena_bytes, oversize="stream")
    engine.load(LoadSpec("m", str(path), CONTEXT_TOKENS // 2, 8, BATCH_TOKENS))
    engine.load(spec(blocker, "blocker"))
    engine.submit(_turn(0, 10, "blocker", max_tokens=300))
    while not any(isinstance(event, TurnStarted) for event in events(engine)):
        pass
    turns = range(1, 9)
    for turn in turns:
        engine.submit(_turn(turn, 12 * turn))
    ended = endings(engine, {0, *turns})
    outcomes = []
    for turn in turns:
        end = ended[turn]
        assert isinstance(end, TurnFinished), end
        assert len(end.tokens) == ANSWER_TOKENS
        outcomes.append((end.tokens, end.stats.logits_crc32))
    return outcomes


@pytest.mark.parametrize("name", ["llama", "qwen3moe", "falcon-h1", "gemma3"])
def test_eight_slots_are_exact(name: str, model_folder: Path, make_engine: MakeEngine) -> None:
    """Against the same engine with the model resident: decoding slots and chunks of prompts share each step."""
    path, blocker = random_models.write(name, model_folder), random_models.write("qwen3", model_folder)
    sizes = [_footprint(p) for p in (path, blocker)]
    resident = max(footprint.weight_bytes for footprint in sizes)
    expected = _eight_together(make_engine, path, blocker, resident)
    assert len(set(expected)) == 8
    assert (
        _eight_together(make_engine, path, blocker, max(footprint.min_arena_bytes for footprint in sizes)) == expected
    )
