"""Conversations keep their KV cache: between turns, in host memory, forked, parked; their output does not show it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agentmux import errors
from agentmux.engine.base import (
    LoadSpec,
    TurnFinished,
    TurnParked,
    TurnRequest,
    TurnResumed,
    TurnStarted,
)
from agentmux.engine.native import NativeEngine

from . import random_models
from .conftest import BATCH_TOKENS, CONTEXT_TOKENS, endings, events, run, spec

MakeEngine = Callable[..., NativeEngine]
Tokens = tuple[int, ...]
Outcome = tuple[Tokens, int]

CANNOT_BE_CUT = ("lfm2", "mamba2", "gemma3", "falcon-h1")
"""Recurrent, hybrid, sliding window: a kept state can be continued, but not cut at a prefix."""


def _turn(turn: int, prompt: Tokens, model: str = "m", *, max_tokens: int = 10, **more: str) -> TurnRequest:
    return TurnRequest(turn, model, prompt, max_tokens=max_tokens, ignore_eos=True, **more)  # type: ignore[arg-type]


def _outcome(end: TurnFinished) -> Outcome:
    return end.tokens, end.stats.logits_crc32


def _follow_up(prompt: Tokens, answer: Tokens) -> Tokens:
    """The next turn's prompt: the conversation so far, and something new."""
    return prompt + answer + tuple(token + 1 for token in random_models.prompt(20))


def _small_arena(path: Path, make_engine: MakeEngine) -> int:
    return make_engine(None).load(spec(path)).min_arena_bytes


@pytest.mark.parametrize("name", ["llama", "qwen3moe", "lfm2", "mamba2", "gemma3", "falcon-h1"])
def test_a_conversation_computes_only_what_is_new(name: str, model_folder: Path, make_engine: MakeEngine) -> None:
    """The same tokens as when each turn is computed from the beginning, and as with the whole model resident."""
    path = random_models.write(name, model_folder)
    outcomes = []
    for arena in (None, _small_arena(path, make_engine)):
        engine = make_engine(arena)
        engine.load(spec(path))
        prompt = random_models.prompt(70)
        ends: list[TurnFinished] = []
        for turn in range(3):
            (end,) = run(engine, _turn(turn, prompt, session="s"))
            (fresh,) = run(engine, _turn(100 + turn, prompt))
            assert end.tokens == fresh.tokens
            assert fresh.stats.reused_tokens == 0
            ends.append(end)
            prompt = _follow_up(prompt, end.tokens)
        # The last token of an answer was sampled and never computed.
        reused = [end.stats.reused_tokens for end in ends]
        assert reused == [0, 70 + 9, 70 + 10 + 20 + 9]
        outcomes.append([_outcome(end) for end in ends])
        stats = engine.stats()
        assert (stats.session_hits, stats.session_tokens_reused) == (2, sum(reused))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["llama", *CANNOT_BE_CUT])
def test_a_conversation_that_took_another_way(name: str, model_folder: Path, make_engine: MakeEngine) -> None:
    """What differs is computed again; from the beginning where a memory cannot be cut."""
    path = random_models.write(name, model_folder)
    engine = make_engine(None)
    engine.load(spec(path))
    prompt = random_models.prompt(70)
    run(engine, _turn(1, prompt, session="s"))
    other = prompt[:50] + tuple(token + 2 for token in prompt[50:])
    (end,) = run(engine, _turn(2, other, session="s"))
    (fresh,) = run(engine, _turn(3, other))
    assert end.tokens == fresh.tokens
    assert end.stats.reused_tokens == (0 if name in CANNOT_BE_CUT else 50)
    (again,) = run(engine, _turn(4, other[:30], session="s"))
    assert again.tokens == run(engine, _turn(5, other[:30]))[0].tokens
    assert again.stats.reused_tokens == (0 if name in CANNOT_BE_CUT else 29)


def _conversations(engine: NativeEngine, models: tuple[str, ...], names: tuple[str, ...]) -> dict[str, list[Outcome]]:
    """Three rounds in which each session of each model has a turn."""
    outcomes: dict[str, list[Outcome]] = {}
    prompts = {(m, s): random_models.prompt(40 + 7 * i) for m in models for i, s in enumerate(names)}
    turn = 0
    for round_ in range(3):
        for (model, session), prompt in prompts.items():
            (end,) = run(engine, _turn(turn, prompt, model, session=session))
            assert (end.stats.reused_tokens > 0) == (round_ > 0), (model, session)
            outcomes.setdefault(f"{model} {session}", []).append(_outcome(end))
            prompts[model, session] = _follow_up(prompt, end.tokens)
            turn += 1
    return outcomes


def _two_models(name: str, folder: Path, make_engine: MakeEngine, slots: tuple[int, int]) -> list[NativeEngine]:
    """One engine with room for all, and one with the smallest arena and one context, so that all goes and comes."""
    paths = {"m": random_models.write(name, folder), "n": random_models.write("qwen3", folder)}
    engines = [make_engine(None), make_engine(max(_small_arena(p, make_engine) for p in paths.values()), contexts=1)]
    for engine, n_slots in zip(engines, slots, strict=True):
        for model, path in paths.items():
            engine.load(LoadSpec(model, str(path), CONTEXT_TOKENS, n_slots, BATCH_TOKENS))
    return engines


@pytest.mark.parametrize("name", ["llama", "falcon-h1", "gemma3"])
def test_a_session_that_went_to_host_memory_and_back(name: str, model_folder: Path, make_engine: MakeEngine) -> None:
    """To the bit as if it had stayed."""
    roomy, tight = _two_models(name, model_folder, make_engine, (1, 1))
    assert _conversations(tight, ("m", "n"), ("a",)) == _conversations(roomy, ("m", "n"), ("a",))
    stats = tight.stats()
    assert stats.session_bytes_restored > 0
    assert stats.sessions_in_host == 1
    assert stats.session_host_bytes > 0
    assert [m.has_context for m in stats.models] == [False, True]
    assert roomy.stats().session_bytes_saved == 0
    assert {m.sessions_on_device for m in roomy.stats().models} == {1}


CLOSE = 0.02
"""Of log-probabilities. Sessions that share a context lie in its cells in another order, so that sums (of halves, on
the CPU) differ in their last bits."""


def _same_but_for_rounding(one: TurnFinished, other: TurnFinished) -> None:
    for a, b in zip(one.logprobs, other.logprobs, strict=True):
        if a.token != b.token:
            assert abs(a.top[0][1] - a.top[1][1]) < CLOSE, "a choice that was not close"
            return
        assert abs(a.logprob - b.logprob) < CLOSE


@pytest.mark.parametrize("name", ["llama", "falcon-h1", "gemma3"])
def test_more_sessions_than_slots(name: str, model_folder: Path, make_engine: MakeEngine) -> None:
    roomy, tight = _two_models(name, model_folder, make_engine, (5, 2))
    prompts = {(m, s): random_models.prompt(40 + 7 * i) for m in ("m", "n") for i, s in enumerate("abcde")}
    turn = 0
    for _ in range(3):
        for (model, session), prompt in prompts.items():
            request = replace(_turn(turn, prompt, model, session=session), logprobs=2)
            ends = [run(engine, request)[0] for engine in (roomy, tight)]
            _same_but_for_rounding(*ends)
            # What cannot be cut is computed again where the two went different ways.
            assert ends[1].stats.reused_tokens > 0 or turn < len(prompts) or name in CANNOT_BE_CUT
            prompts[model, session] = _follow_up(prompt, ends[0].tokens)
            turn += 1
    assert tight.stats().sessions_in_host > len(prompts) // 2
    assert roomy.stats().sessions_in_host == 0


def test_a_host_budget_drops_what_was_used_longest_ago(model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write("llama", model_folder)
    engine = make_engine(None, host_bytes=300_000)
    footprint = engine.load(LoadSpec("m", str(path), CONTEXT_TOKENS, 1, BATCH_TOKENS))
    assert footprint.kv_bytes_per_token > 0
    prompt = random_models.prompt(100)
    for turn in range(6):
        run(engine, _turn(turn, (turn, *prompt), session=f"s{turn}"))
    stats = engine.stats()
    assert stats.sessions_dropped > 0
    assert 0 < stats.session_host_bytes <= 300_000
    (kept,) = run(engine, _turn(10, (4, *prompt), session="s4"))
    (dropped,) = run(engine, _turn(11, (0, *prompt), session="s0"))
    assert kept.stats.reused_tokens > 0
    assert dropped.stats.reused_tokens == 0
    assert dropped.tokens == run(engine, _turn(12, (0, *prompt)))[0].tokens


def test_memory_for_sessions_is_counted_kept_and_sought_in_advance(model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write("llama", model_folder)
    engine = make_engine(None, host_bytes=4_000_000)
    kv_bytes = engine.load(LoadSpec("m", str(path), CONTEXT_TOKENS, 1, BATCH_TOKENS)).kv_bytes_per_token
    run(engine, _turn(1, random_models.prompt(30), session="small"))
    assert engine.stats().session_memory_bytes == 0
    run(engine, _turn(2, random_models.prompt(300), session="large"))  # "small" has gone
    first = engine.stats()
    assert 0 < first.session_host_bytes <= first.session_memory_bytes
    deadline = time.monotonic() + 60
    while engine.stats().session_memory_bytes < first.session_host_bytes + 300 * kv_bytes:
        assert time.monotonic() < deadline, "no memory for the session that may have to go next"
        time.sleep(0.01)
    held = engine.stats().session_memory_bytes
    assert held <= 4_000_000
    run(engine, _turn(3, random_models.prompt(30), session="small"))
    stats = engine.stats()
    assert stats.session_host_bytes > 300 * kv_bytes
    assert stats.session_memory_bytes == held
    engine.unload("m")
    assert engine.stats().session_memory_bytes == 0


def test_a_forgotten_session_is_gone(model_folder: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(None)
    engine.load(LoadSpec("m", str(random_models.write("llama", model_folder)), CONTEXT_TOKENS, 1, BATCH_TOKENS))
    prompt = random_models.prompt(50)
    for turn, session in enumerate(("in host memory", "in its slot")):
        run(engine, _turn(turn, prompt, session=session))
    assert engine.stats().sessions_in_host == 1
    for session in ("in host memory", "in its slot", "unknown"):
        engine.forget("m", session)
    for turn, session in enumerate(("in host memory", "in its slot")):
        assert run(engine, _turn(10 + turn, prompt, session=session))[0].stats.reused_tokens == 0
    with pytest.raises(errors.ModelNotFound):
        engine.forget("other", "s")


@pytest.mark.parametrize("name", ["llama", "lfm2", "gemma3"])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_fork_goes_its_own_way_without_computing_again(
    name: str, slots: int, model_folder: Path, make_engine: MakeEngine
) -> None:
    """With one slot the session that is forked is in host memory, with three it is beside."""
    engine = make_engine(None)
    path = random_models.write(name, model_folder)
    engine.load(LoadSpec("m", str(path), CONTEXT_TOKENS, slots, BATCH_TOKENS))
    prompt = random_models.prompt(60)
    (first,) = run(engine, _turn(1, prompt, session="trunk"))
    long = _follow_up(prompt, first.tokens)
    forks = [(*long, 3), (*long, 4)]
    for turn, fork in enumerate(forks):
        (end,) = run(engine, _turn(10 + turn, fork, session=f"fork {turn}", fork="trunk"))
        assert end.stats.reused_tokens == 60 + 9
        assert end.tokens == run(engine, _turn(20 + turn, fork))[0].tokens
    (trunk,) = run(engine, _turn(30, long, session="trunk"))
    assert trunk.stats.reused_tokens == 60 + 9
    assert trunk.tokens == run(engine, _turn(31, long))[0].tokens
    (orphan,) = run(engine, _turn(40, long, session="orphan", fork="unknown"))
    assert orphan.stats.reused_tokens == 0
    assert orphan.tokens == trunk.tokens


def test_two_turns_of_one_session_run_one_after_the_other(model_folder: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(None)
    engine.load(spec(random_models.write("llama", model_folder)))
    prompt = random_models.prompt(30)
    for turn in (1, 2):
        engine.submit(_turn(turn, prompt, session="s", max_tokens=40))
    engine.submit(_turn(3, prompt, max_tokens=5))  # overtakes the one that must wait
    order = []
    while len(order) < 3:
        order += [event.turn for event in events(engine) if isinstance(event, TurnFinished)]
    assert order == [3, 1, 2]


@pytest.mark.parametrize("name", ["llama", "falcon-h1"])
@pytest.mark.parametrize("contexts", [None, 1])
def test_a_parked_turn_goes_on_as_if_nothing_had_been(
    name: str, contexts: int | None, model_folder: Path, make_engine: MakeEngine
) -> None:
    path, other = random_models.write(name, model_folder), random_models.write("qwen3", model_folder)
    arena = max(_small_arena(path, make_engine), _small_arena(other, make_engine))
    engine = make_engine(arena, contexts=contexts)
    engine.load(LoadSpec("m", str(path), CONTEXT_TOKENS, 1, BATCH_TOKENS))
    engine.load(spec(other, "other"))
    request = _turn(1, random_models.prompt(100), max_tokens=200)
    (expected,) = run(engine, request)
    for turn, after in ((2, TurnStarted), (3, None)):  # under its prefill or later; before it began
        engine.submit(_turn(turn, random_models.prompt(100), max_tokens=200))
        while after and not any(isinstance(event, after) for event in events(engine)):
            pass
        engine.park(turn)
        seen = []
        while not any(isinstance(event, TurnParked) for event in seen):
            seen += events(engine)
        assert not any(isinstance(event, TurnFinished) for event in seen)
        run(engine, _turn(100 + turn, (5, 6, 7)), _turn(200 + turn, (5, 6, 7), "other"))  # takes its slot
        assert engine.poll() == []
        engine.resume(turn)
        while not any(isinstance(event, TurnResumed) for event in events(engine)):
            pass
        end = endings(engine, {turn})[turn]
        assert isinstance(end, TurnFinished)
        assert _outcome(end) == _outcome(expected)


def test_parked_turns_can_be_cancelled_and_end_with_the_engine(model_folder: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(None)
    engine.load(spec(random_models.write("llama", model_folder)))
    for turn in (1, 2):
        engine.submit(_turn(turn, (1, 2, 3), max_tokens=400))
        while not any(isinstance(event, TurnStarted) for event in events(engine)):
            pass
        engine.park(turn)
        while not any(isinstance(event, TurnParked) for event in events(engine)):
            pass
    engine.cancel(1)
    end = endings(engine, {1})[1]
    assert isinstance(end, TurnFinished)
    assert end.reason == "cancelled"
    assert 0 < len(end.tokens) < 400  # what it had said is not lost
    engine.close()
    (last,) = [event for event in engine.poll() if isinstance(event, TurnFinished)]
    assert (last.turn, last.reason) == (2, "cancelled")


@pytest.mark.parametrize("contexts", [None, 1])
def test_models_that_do_not_fit_together_share_time(
    contexts: int | None, model_folder: Path, make_engine: MakeEngine
) -> None:
    """Long turns of two models in an arena for one, uploads slowed down: neither waits for the other's end, quanta are
    worth several switches, and the output is that of each alone."""
    paths = {name: random_models.write(name, model_folder) for name in ("llama", "falcon-h1")}
    weights = {name: make_engine(None).load(spec(path)).weight_bytes for name, path in paths.items()}
    engine = make_engine(max(weights.values()), contexts=contexts, link_bytes_per_s=50 * max(weights.values()))
    expected = {}
    for name, path in paths.items():
        engine.load(spec(path, name))
        (end,) = run(engine, _turn(0, random_models.prompt(50), name, max_tokens=450))
        expected[name] = _outcome(end)
    before = engine.stats()
    engine.submit(_turn(1, random_models.prompt(50), "llama", max_tokens=450))
    engine.submit(_turn(2, random_models.prompt(50), "falcon-h1", max_tokens=450))
    ended = endings(engine, {1, 2})
    for turn, name in ((1, "llama"), (2, "falcon-h1")):
        end = ended[turn]
        assert isinstance(end, TurnFinished)
        assert _outcome(end) == expected[name]
    after = engine.stats()
    assert after.switches - before.switches >= 2
    assert after.steps - before.steps > 20 * (after.switches - before.switches)


def test_waiting_turns_of_two_models_do_not_block_each_other(model_folder: Path, make_engine: MakeEngine) -> None:
    """A second turn of the running model waits before the other model's, and no slot is free for it."""
    paths = {name: random_models.write(name, model_folder) for name in ("llama", "qwen3")}
    weights = [make_engine(None).load(spec(path)).weight_bytes for path in paths.values()]
    engine = make_engine(max(weights), link_bytes_per_s=50 * max(weights))
    for name, path in paths.items():
        engine.load(LoadSpec(name, str(path), CONTEXT_TOKENS, 1, BATCH_TOKENS))
    prompt = random_models.prompt(50)
    engine.submit(_turn(1, prompt, "llama", max_tokens=440))
    engine.submit(_turn(2, prompt, "llama", max_tokens=440))
    engine.submit(_turn(3, prompt, "qwen3", max_tokens=440))
    engine.submit(_turn(4, prompt, "qwen3", max_tokens=440))
    assert all(isinstance(end, TurnFinished) for end in endings(engine, {1, 2, 3, 4}).values())


def test_contexts_that_cannot_be_open_together_are_not_swapped_at_every_step(
    model_folder: Path, make_engine: MakeEngine
) -> None:
    """Weights fit, contexts do not, and there is no host memory for what a context held."""
    paths = {name: random_models.write(name, model_folder) for name in ("llama", "qwen3")}
    engine = make_engine(10**9, contexts=1, host_bytes=1)
    for name, path in paths.items():
        engine.load(spec(path, name))
    for turn, name in enumerate(paths):
        engine.submit(_turn(turn, random_models.prompt(200), name, max_tokens=100))
    assert all(isinstance(end, TurnFinished) for end in endings(engine, {0, 1}).values())
    assert engine.stats().switches < 20


def test_a_parked_turn_keeps_its_own_while_its_session_goes_on(model_folder: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(None)
    engine.load(LoadSpec("m", str(random_models.write("falcon-h1", model_folder)), CONTEXT_TOKENS, 1, BATCH_TOKENS))
    request = _turn(1, random_models.prompt(60), max_tokens=300, session="s")
    (expected,) = run(engine, request)
    engine.forget("m", "s")
    engine.submit(_turn(2, request.prompt, max_tokens=300, session="s"))  # type: ignore[arg-type]
    while not any(isinstance(event, TurnStarted) for event in events(engine)):
        pass
    engine.park(2)
    while not any(isinstance(event, TurnParked) for event in events(engine)):
        pass
    run(engine, _turn(3, (9, 8, 7), session="s"))
    engine.resume(2)
    end = endings(engine, {2})[2]
    assert isinstance(end, TurnFinished)
    assert _outcome(end) == _outcome(expected)
    (after,) = run(engine, _turn(4, _follow_up(random_models.prompt(60), end.tokens), session="s"))
    assert after.stats.reused_tokens == 60 + 299
