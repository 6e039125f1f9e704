"""Who has which bytes: files held once, models larger than the arena, contexts, and what loading says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmux import errors
from agentmux.engine.base import EngineConfig, LoadProgress, LoadSpec, Oversize, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine

from . import random_models
from .conftest import BATCH_TOKENS, CONTEXT_TOKENS, SLOTS, THREADS, endings, run, spec
from .reference import Greedy, Reference, silence_llama_log

MakeEngine = Callable[..., NativeEngine]
PROMPTS_TOKENS = (1, 3, 5, BATCH_TOKENS, 150)
ANSWER_TOKENS = 12


def _turn(turn: int, n_prompt: int, model: str = "m") -> TurnRequest:
    return TurnRequest(turn, model, random_models.prompt(n_prompt), max_tokens=ANSWER_TOKENS, ignore_eos=True)


def _expected(path: Path) -> list[Greedy]:
    reference = Reference(path, context_tokens=CONTEXT_TOKENS, slots=SLOTS, batch_tokens=BATCH_TOKENS, threads=THREADS)
    silence_llama_log()
    expected = [reference.greedy(list(random_models.prompt(n)), ANSWER_TOKENS) for n in PROMPTS_TOKENS]
    reference.close()
    return expected


def _agree(end: TurnFinished, expected: Greedy) -> None:
    assert (end.tokens, end.stats.logits_crc32) == (expected.tokens, expected.logits_crc32)


@pytest.mark.parametrize("oversize", ["auto", "stream", "host"])
@pytest.mark.parametrize("name", ["llama", "qwen3moe", "falcon-h1", "gemma3"])
def test_a_model_larger_than_the_arena(
    name: str, oversize: Oversize, model_folder: Path, make_engine: MakeEngine
) -> None:
    """What does not fit is computed where it lies, or streamed; on the CPU the two are the same to the bit."""
    path = random_models.write(name, model_folder)
    footprint = make_engine(None).load(spec(path))
    engine = make_engine(max(footprint.weight_bytes // 2, footprint.min_arena_bytes), oversize=oversize)
    engine.load(spec(path))
    states = set()
    for round_ in range(2):
        for i, (n, expected) in enumerate(zip(PROMPTS_TOKENS, _expected(path), strict=True)):
            _agree(run(engine, _turn(10 * round_ + i, n))[0], expected)
            states |= set(engine.stats().models[0].unit_states)
    if oversize != "auto":
        assert ("h" in states) == (oversize == "host")
    assert engine.stats().arena_used_bytes <= engine.stats().arena_bytes


def test_what_the_cpu_computed_is_paged_again_when_the_arena_grows(model_folder: Path, make_engine: MakeEngine) -> None:
    """The arena is as large as all models together, up to the budget: a second model makes room for the first."""
    path, other = random_models.write("llama", model_folder), random_models.write("qwen3", model_folder)
    footprint = make_engine(None).load(spec(path))
    engine = make_engine(footprint.weight_bytes // 2, oversize="host")
    engine.load(spec(path))
    (first,) = run(engine, _turn(1, 40))
    assert "h" in engine.stats().models[0].unit_states
    engine.load(spec(other, "other"))
    run(engine, _turn(2, 40, "other"))
    engine.unload("other")
    (second,) = run(engine, _turn(3, 40))
    assert (first.tokens, first.stats.logits_crc32) == (second.tokens, second.stats.logits_crc32)


def test_a_file_loaded_twice_is_held_once(model_folder: Path, tmp_path: Path, make_engine: MakeEngine) -> None:
    path = random_models.write("llama", model_folder)
    expected = _expected(path)[3]
    engine = make_engine(10**9)
    footprint = engine.load(LoadSpec("one", str(path), 256, 1, BATCH_TOKENS))
    link = tmp_path / "link.gguf"
    link.symlink_to(path)
    engine.load(LoadSpec("two", str(link), CONTEXT_TOKENS, SLOTS, BATCH_TOKENS))
    stats = engine.stats()
    assert stats.host_weight_bytes == footprint.host_bytes
    assert stats.arena_bytes == footprint.weight_bytes
    ends = run(engine, _turn(1, BATCH_TOKENS, "one"), _turn(2, BATCH_TOKENS, "two"))
    _agree(ends[1], expected)
    assert ends[0].tokens == ends[1].tokens
    assert engine.stats().uploaded_bytes == footprint.weight_bytes, "units are shared too"
    engine.unload("one")
    _agree(run(engine, _turn(3, BATCH_TOKENS, "two"))[0], expected)
    copy = shutil.copy(path, tmp_path / "copy.gguf")
    engine.load(LoadSpec("copy", str(copy), 256, 1, BATCH_TOKENS))
    assert engine.stats().host_weight_bytes == 2 * footprint.host_bytes


def test_a_file_that_was_replaced_is_another_file(tmp_path: Path, model_folder: Path, make_engine: MakeEngine) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(random_models.write("llama", model_folder, seed=1), path)
    engine = make_engine(None)
    engine.load(spec(path, "before"))
    path.unlink()
    shutil.copy(random_models.write("llama", model_folder, seed=2), path)
    engine.load(spec(path, "after"))
    before, after = run(engine, _turn(1, 40, "before"), _turn(2, 40, "after"))
    assert before.stats.logits_crc32 != after.stats.logits_crc32
    assert engine.stats().host_weight_bytes > engine.load(spec(path, "again")).host_bytes


def test_a_shared_file_in_the_smallest_arena(model_folder: Path, make_engine: MakeEngine) -> None:
    """Two models on one file, with contexts that come and go, units left to the CPU by one and wanted by the other."""
    path = random_models.write("falcon-h1", model_folder)
    expected = _expected(path)
    footprint = make_engine(None).load(spec(path))
    for oversize in ("stream", "host"):
        engine = make_engine(footprint.min_arena_bytes, contexts=1, oversize=oversize)
        for model in ("one", "two"):
            engine.load(spec(path, model))
        for i, (n, e) in enumerate(zip(PROMPTS_TOKENS, expected, strict=True)):
            for j, model in enumerate(("one", "two")):
                _agree(run(engine, _turn(10 * i + j, n, model))[0], e)


def test_loading_says_how_far_it_is(model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write("llama", model_folder)
    engine = make_engine(None)
    engine.load(spec(path))
    progress = [event for event in engine.poll() if isinstance(event, LoadProgress)]
    done = [event.done_bytes for event in progress]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == progress[-1].total_bytes == path.stat().st_size


def test_failed_loads_leave_the_others_running(model_folder: Path, make_engine: MakeEngine, tmp_path: Path) -> None:
    """Turns go on across a load that succeeds and loads that fail, to the bit."""
    path = random_models.write("llama", model_folder)
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(path.read_bytes()[:5000])
    engine = make_engine(_smallest(path, make_engine))
    engine.load(spec(path))
    request = TurnRequest(1, "m", random_models.prompt(100), max_tokens=300, ignore_eos=True)
    (expected,) = run(engine, request)
    engine.submit(TurnRequest(2, "m", request.prompt, max_tokens=300, ignore_eos=True))
    with pytest.raises(errors.ModelCorrupt):
        engine.load(spec(bad, "bad"))
    with pytest.raises(errors.NeverFits):
        engine.load(spec(random_models.write("llama-wide", model_folder), "wide"))
    end = endings(engine, {2})[2]
    assert isinstance(end, TurnFinished)
    assert (end.tokens, end.stats.logits_crc32) == (expected.tokens, expected.stats.logits_crc32)
    assert [model.model for model in engine.stats().models] == ["m"]


def _smallest(path: Path, make_engine: MakeEngine) -> int:
    return make_engine(None).load(spec(path)).min_arena_bytes


def test_a_resident_model_is_not_watched_and_a_paged_one_is_exact(model_folder: Path, make_engine: MakeEngine) -> None:
    """The context is made anew when a second model no longer fits beside the first, and when it has gone again; a
    session survives both."""
    path, other = random_models.write("llama", model_folder), random_models.write("qwen3", model_folder)
    expected = _expected(path)[3]
    footprint = make_engine(None).load(spec(path))
    engine = make_engine(footprint.weight_bytes)
    engine.load(spec(path))
    _agree(run(engine, _turn(1, BATCH_TOKENS))[0], expected)
    prompt = random_models.prompt(60)
    (kept,) = run(engine, TurnRequest(2, "m", prompt, max_tokens=5, ignore_eos=True, session="s"))
    for turn in (10, 20):
        if turn == 10:
            engine.load(spec(other, "other"))
        else:
            engine.unload("other")
        _agree(run(engine, _turn(turn, BATCH_TOKENS))[0], expected)
        (again,) = run(engine, TurnRequest(turn + 1, "m", (*prompt, *kept.tokens), 5, ignore_eos=True, session="s"))
        assert again.stats.reused_tokens == 64


def test_without_a_budget_models_are_computed_where_they_lie(model_folder: Path, make_engine: MakeEngine) -> None:
    """On the CPU: nothing is copied, and no layer is watched."""
    path = random_models.write("qwen3moe", model_folder)
    engine = make_engine(None)
    footprint = engine.load(spec(path))
    for i, (n, expected) in enumerate(zip(PROMPTS_TOKENS, _expected(path), strict=True)):
        _agree(run(engine, _turn(i, n))[0], expected)
    stats = engine.stats()
    assert stats.uploaded_bytes == 0
    assert stats.models[0].unit_states == "h" * len(footprint.unit_bytes)
    assert stats.arena_bytes == stats.arena_used_bytes == footprint.weight_bytes


def test_a_context_is_no_longer_than_the_model_was_trained_on(model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write("llama", model_folder)  # trained on 1024
    engine = make_engine(None)
    assert engine.load(LoadSpec("default", str(path))).context_tokens == 1024
    assert engine.load(LoadSpec("shorter", str(path), 100)).context_tokens == 100
    assert engine.load(LoadSpec("stretched", str(path), 2000)).context_tokens == 2000
    with pytest.raises(errors.ContextOverflow, match="1024"):
        engine.submit(TurnRequest(1, "default", random_models.prompt(1024)))


def test_negative_limits_are_refused() -> None:
    for field in ("device_bytes", "arena_bytes", "host_bytes", "contexts", "threads", "link_bytes_per_s"):
        with pytest.raises(errors.ConfigError, match=field):
            NativeEngine(EngineConfig(device="cpu", **{field: -1}))
