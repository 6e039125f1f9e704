"""Each slot has a stretch of the KV cache of its own: what the others hold or do changes nothing, not even where slots
between two that decode are given tokens that are taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agentmux.engine.base import LoadSpec, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine

from . import random_models
from .conftest import BATCH_TOKENS, endings, events, run

MakeEngine = Callable[..., NativeEngine]
Tokens = tuple[int, ...]
Outcome = tuple[Tokens, int]

random_models.MODELS |= {
    "gpt2-300": random_models._common("gpt2", context_length=300, attention__layer_norm_epsilon=1e-5),
}

SLOTS = 6
CONTEXT_TOKENS = 256


def _load(engine: NativeEngine, path: Path, slots: int = SLOTS) -> None:
    engine.load(LoadSpec("m", str(path), CONTEXT_TOKENS, slots, BATCH_TOKENS))


def _prompt(session: int, n_tokens: int = 20) -> Tokens:
    return tuple((token + 7 * session) % 256 for token in random_models.prompt(n_tokens + session))


def _turn(turn: int, session: int, prompt: Tokens, max_tokens: int = 8) -> TurnRequest:
    return TurnRequest(turn, "m", prompt, max_tokens=max_tokens, ignore_eos=True, session=f"s{session}")


def _outcome(end: TurnFinished) -> Outcome:
    return end.tokens, end.stats.logits_crc32


def _first_turns(engine: NativeEngine) -> list[Tokens]:
    """[session] all that was said: each turn fills one more slot."""
    said = []
    for session in range(SLOTS):
        prompt = _prompt(session)
        said.append(prompt + run(engine, _turn(session, session, prompt))[0].tokens)
    return said


@pytest.mark.parametrize("name", ["llama", "qwen3moe"])
def test_sessions_beside_two_that_decode_stay_as_they_were(
    name: str, model_folder: Path, make_engine: MakeEngine
) -> None:
    """The first and the last slot decode together; the kept sessions between them go on exactly as if they had not."""
    path = random_models.write(name, model_folder)
    outcomes: list[list[Outcome]] = []
    for apart in (False, True):
        engine = make_engine(None)
        _load(engine, path)
        said = _first_turns(engine)
        outer = [_turn(10 + s, s, said[s] + (3,), 40) for s in (0, SLOTS - 1)]
        ends = [run(engine, turn)[0] for turn in outer] if apart else run(engine, *outer)
        assert [end.stats.reused_tokens for end in ends] == [len(said[0]) - 1, len(said[-1]) - 1]
        got = []
        for session in range(1, SLOTS - 1):
            end = run(engine, _turn(20 + session, session, said[session] + (5,)))[0]
            assert end.stats.reused_tokens == len(said[session]) - 1
            got.append(_outcome(end))
        outcomes.append(got)
    assert outcomes[0] == outcomes[1]


def test_a_full_slot_between_two_that_decode_is_left_alone(model_folder: Path, make_engine: MakeEngine) -> None:
    path = random_models.write("llama", model_folder)
    outcomes = []
    for together in (True, False):
        engine = make_engine(None)
        _load(engine, path, 3)
        said = []
        for session, n_prompt in enumerate((20, CONTEXT_TOKENS - 2, 20)):
            end = run(engine, _turn(session, session, _prompt(session, n_prompt - session), CONTEXT_TOKENS))[0]
            assert end.reason == "length"
            said.append(_prompt(session, n_prompt - session) + end.tokens)
            if session != 1:
                engine.forget("m", f"s{session}")
        outer = [_turn(10 + s, s, _prompt(s), 30) for s in (0, 2)]
        ends = run(engine, *outer) if together else [run(engine, turn)[0] for turn in outer]
        assert all(len(end.tokens) == 30 for end in ends)
        # A prefix of the full session goes on from its slot.
        back = run(engine, _turn(20, 1, (*said[1][:200], 9)))[0]
        assert back.stats.reused_tokens == 200
        outcomes.append(_outcome(back))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("small", [False, True])
def test_a_turn_gives_the_same_whatever_slot_it_is_in(small: bool, model_folder: Path, make_engine: MakeEngine) -> None:
    """Alone in the first slot, and in the last one with kept sessions in all others."""
    path = random_models.write("llama", model_folder)
    probe = make_engine(None)
    least = probe.load(LoadSpec("m", str(path), CONTEXT_TOKENS, SLOTS, BATCH_TOKENS)).min_arena_bytes
    outcomes = set()
    for n_before in (0, SLOTS - 1):
        engine = make_engine(least if small else None)
        _load(engine, path)
        for session in range(n_before):
            run(engine, _turn(session, session, _prompt(session, 100)))
        outcomes.add(_outcome(run(engine, _turn(50, 50, _prompt(1, 70), 20))[0]))
    assert len(outcomes) == 1


def test_a_fork_is_a_copy_from_slot_to_slot(model_folder: Path, make_engine: MakeEngine) -> None:
    """Of a kept session and of one that decodes right now; what it was taken from goes on unchanged."""
    path = random_models.write("llama", model_folder)
    engine = make_engine(None)
    _load(engine, path)
    prompt = _prompt(0, 40)
    said = prompt + run(engine, _turn(0, 0, prompt))[0].tokens
    fresh = make_engine(None)
    _load(fresh, path)
    expected = _outcome(run(fresh, _turn(1, 1, (*said, 4, 5)))[0])[0]
    forked = replace(_turn(2, 2, (*said, 4, 5)), fork="s0")
    end = run(engine, forked)[0]
    assert end.stats.reused_tokens == len(said) - 1
    assert end.tokens == expected
    engine.submit(_turn(3, 0, (*said, 4, 5), 60))
    engine.submit(replace(_turn(4, 4, (*said, 4, 5)), fork="s0"))
    both = endings(engine, {3, 4})
    assert isinstance(both[3], TurnFinished)
    assert isinstance(both[4], TurnFinished)
    assert both[3].tokens[: len(expected)] == both[4].tokens == expected


def test_no_token_is_put_beyond_learnt_positions(model_folder: Path, make_engine: MakeEngine) -> None:
    """300 of them, which llama.cpp rounds up to 512 cells; the slot in between is full."""
    path = random_models.write("gpt2-300", model_folder)
    engine = make_engine(None)
    engine.load(LoadSpec("m", str(path), 300, 3, BATCH_TOKENS))
    said = []
    for session, n_prompt in enumerate((10, 290, 10)):
        end = run(engine, _turn(session, session, _prompt(0, n_prompt), 500 if session == 1 else 2))[0]
        assert end.reason == "length"
        said.append(_prompt(0, n_prompt) + end.tokens)
    assert len(said[1]) > 300
    ends = run(engine, *(_turn(10 + s, s, said[s] + (1,), 5) for s in (0, 2)))
    assert [len(end.tokens) for end in ends] == [5, 5]


@pytest.mark.parametrize("prompts", [(7,), (5, 7)])
@pytest.mark.parametrize("decoding", [(0, 2, 4, 6), (0, 1, 2, 3)])
def test_a_prompt_leaves_room_for_the_gaps_between_slots(
    decoding: tuple[int, ...], prompts: tuple[int, ...], model_folder: Path, make_engine: MakeEngine
) -> None:
    """With the least arena each graph brings all weights once more: two of them a step, the decoding slots' and the
    prompt's, however these slots lie."""
    path = random_models.write("llama", model_folder)
    load = LoadSpec("m", str(path), 1024, 8, BATCH_TOKENS)
    footprint = make_engine(None).load(load)
    engine = make_engine(footprint.min_arena_bytes, oversize="stream")
    engine.load(load)
    for session in range(8):
        run(engine, _turn(session, session, _prompt(session, 8), 2))
    for session in decoding:
        engine.submit(_turn(20 + session, session, (*_prompt(session, 8), 1, 2), 600))
    while engine.stats().models[0].slots_active < len(decoding):
        events(engine)
    before = engine.stats()
    for slot in prompts:
        engine.submit(_turn(90 + slot, slot, _prompt(slot, 8) + random_models.prompt(850), 1))
    ended = endings(engine, {90 + slot for slot in prompts})
    assert all(isinstance(end, TurnFinished) for end in ended.values())
    after = engine.stats()
    weights = (after.uploaded_bytes - before.uploaded_bytes) / sum(footprint.unit_bytes)
    assert weights / (after.steps - before.steps) < 2.6
