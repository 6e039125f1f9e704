"""Sampling through the real engine, on the logits of a random model and against numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from agentmux import errors
from agentmux.engine.base import EngineConfig, TextDelta, TurnFailed, TurnFinished, TurnRequest, TurnStarted
from agentmux.engine.native import NativeEngine
from agentmux.sampling import SamplingParams

from . import random_models
from .conftest import BATCH_TOKENS, CONTEXT_TOKENS, SLOTS, THREADS, endings, events, run, spec
from .reference import Reference
from .sampling_reference import adjusted, chi_square, chi_square_limit, probabilities

MakeEngine = Callable[..., NativeEngine]

PROMPT = random_models.prompt(9)
LIKELY = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
"""Nothing but the softmax."""


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Path:
    return random_models.write("llama", model_folder)


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[NativeEngine]:
    """Shared: a turn leaves nothing behind, and many tests need only one."""
    engine = NativeEngine(EngineConfig(device="cpu", threads=THREADS))
    engine.load(spec(model))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(model: Path) -> Iterator[Reference]:
    sizes = {"context_tokens": CONTEXT_TOKENS, "slots": SLOTS, "batch_tokens": BATCH_TOKENS}
    reference = Reference(model, threads=THREADS, **sizes)
    yield reference
    reference.close()


def _answer(engine: NativeEngine, sampling: SamplingParams, max_tokens: int = 40) -> tuple[int, ...]:
    request = TurnRequest(1, "m", PROMPT, max_tokens=max_tokens, sampling=sampling, ignore_eos=True)
    return run(engine, request)[0].tokens


PARAMETERS = {
    "softmax": LIKELY,
    "temperature": replace(LIKELY, temperature=0.4),
    "high temperature": replace(LIKELY, temperature=5.0),
    "top-k": replace(LIKELY, top_k=7),
    "top-p": replace(LIKELY, top_p=0.5),
    "min-p": replace(LIKELY, min_p=0.2),
    "typical-p": replace(LIKELY, typical_p=0.3),
    "typical-p of top-k": replace(LIKELY, typical_p=0.5, top_k=30),
    "bias": replace(LIKELY, top_k=20, logit_bias={3: 4.0, 5: 6.0, 500: -math.inf}),
    "penalties": replace(LIKELY, top_k=20, repeat_penalty=1.3, frequency_penalty=0.4, presence_penalty=0.3),
    "the usual": SamplingParams(temperature=0.8),
    "all": SamplingParams(0.9, 30, 0.9, 0.02, 1.1, 0, 0.2, 0.1, 5, {7: 3.0, 8: -math.inf}, 0.9),
}


@pytest.mark.parametrize("params", PARAMETERS.values(), ids=PARAMETERS.keys())
def test_tokens_come_as_often_as_they_should(
    params: SamplingParams, engine: NativeEngine, reference: Reference
) -> None:
    """The first token of many turns, each with a seed of its own: a chi-square test against the exact distribution."""
    n = 1500
    expected = n * probabilities(reference.logits(list(PROMPT)), params, list(PROMPT))
    requests = [
        TurnRequest(seed, "m", PROMPT, max_tokens=1, sampling=replace(params, seed=seed), ignore_eos=True)
        for seed in range(n)
    ]
    chosen = [end.tokens[0] for end in run(engine, *requests)]
    counts = np.bincount(chosen, minlength=len(expected))
    assert set(np.flatnonzero(counts)) <= set(np.flatnonzero(expected)), "a token that was filtered out"
    statistic, freedom = chi_square(counts, expected)
    assert statistic < chi_square_limit(freedom), f"chi-square {statistic:.1f} with {freedom} degrees of freedom"


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(repeat_penalty=1.4),
        SamplingParams(repeat_penalty=1.4, repeat_last_n=5),
        SamplingParams(frequency_penalty=0.7),
        SamplingParams(presence_penalty=1.5, repeat_last_n=-1),
        SamplingParams(repeat_penalty=0.8, frequency_penalty=-0.5, presence_penalty=2, repeat_last_n=20),
        SamplingParams(logit_bias={17: 3.0, 400: -math.inf, 3: 1.0}),
    ],
    ids=repr,
)
def test_greedy_answers_follow_the_changed_logits(
    params: SamplingParams, engine: NativeEngine, reference: Reference
) -> None:
    """Forty tokens, each the largest of the logits that bias and penalties, over prompt and answer, leave."""
    expected = list(PROMPT)
    while len(expected) < len(PROMPT) + 40:
        expected.append(int(adjusted(reference.logits(expected), params, expected).argmax()))
    assert _answer(engine, params) == tuple(expected[len(PROMPT) :])
    assert _answer(engine, params) != _answer(engine, SamplingParams()), "the parameters should matter here"


def test_penalties_over_no_window_are_off(engine: NativeEngine) -> None:
    off = SamplingParams(repeat_penalty=2.0, frequency_penalty=2.0, presence_penalty=2.0, repeat_last_n=0)
    assert _answer(engine, off) == _answer(engine, SamplingParams())


def test_the_prompt_counts_for_penalties(engine: NativeEngine, reference: Reference) -> None:
    first = int(reference.logits(list(PROMPT)).argmax())
    heavy = SamplingParams(presence_penalty=100.0, repeat_last_n=-1)
    answers = run(
        engine,
        TurnRequest(1, "m", PROMPT, max_tokens=1, sampling=heavy, ignore_eos=True),
        TurnRequest(2, "m", (first, *PROMPT), max_tokens=1, sampling=heavy, ignore_eos=True),
    )
    assert answers[1].tokens[0] not in (first, *PROMPT)


def test_a_seed_gives_a_text_and_another_seed_another(engine: NativeEngine) -> None:
    params = SamplingParams(temperature=1.0, seed=7)
    assert _answer(engine, params) == _answer(engine, params)
    answers = {_answer(engine, replace(params, seed=seed)) for seed in range(20)}
    assert len(answers) == 20


def test_the_same_batch_gives_the_same_texts(model: Path, model_folder: Path, make_engine: MakeEngine) -> None:
    """Two turns side by side, each with a seed: the same in two engines. Another model's turn holds the engine until
    both are there, so that they begin in the same step."""
    blocker = random_models.write("qwen3", model_folder)
    texts = []
    for _ in range(2):
        engine = make_engine(max(make_engine(None).load(spec(path)).weight_bytes for path in (model, blocker)))
        engine.load(spec(model))
        engine.load(spec(blocker, "blocker"))
        engine.submit(TurnRequest(0, "blocker", random_models.prompt(10), max_tokens=100, ignore_eos=True))
        while not any(isinstance(event, TurnStarted) for event in events(engine)):
            pass
        requests = [
            TurnRequest(turn, "m", PROMPT, max_tokens=30, sampling=replace(LIKELY, seed=turn), ignore_eos=True)
            for turn in (1, 2)
        ]
        for request in requests:
            engine.submit(request)
        ended = endings(engine, {0, 1, 2})
        texts.append([ended[turn].tokens for turn in (1, 2)])  # type: ignore[union-attr]
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[0][1]


def test_a_tiny_temperature_is_greedy(engine: NativeEngine) -> None:
    assert _answer(engine, SamplingParams(temperature=1e-30)) == _answer(engine, SamplingParams())


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(temperature=1.2, seed=3)], ids=["greedy", "1.2"])
@pytest.mark.parametrize("wanted", [0, 1, 5, 20])
def test_log_probabilities_are_those_of_the_models_logits(
    wanted: int, sampling: SamplingParams, engine: NativeEngine, reference: Reference
) -> None:
    """Before bias and temperature, and beside each token."""
    sampling = replace(sampling, logit_bias={4: 8.0}, presence_penalty=1.0)
    request = TurnRequest(1, "m", PROMPT, max_tokens=12, sampling=sampling, ignore_eos=True, logprobs=wanted)
    end = run(engine, request)[0]
    assert tuple(one.token for one in end.logprobs) == end.tokens
    before = list(PROMPT)
    for one in end.logprobs:
        logits = reference.logits(before).astype(np.float64)
        logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        likeliest = np.argsort(-logits, kind="stable")[:wanted]
        assert one.logprob == pytest.approx(logprobs[one.token], abs=1e-3)  # prefill and decoding differ a little
        assert [token for token, _ in one.top] == likeliest.tolist()
        assert [logprob for _, logprob in one.top] == pytest.approx(logprobs[likeliest].tolist(), abs=1e-3)
        before.append(one.token)


def test_nothing_is_reported_unless_asked_for(engine: NativeEngine) -> None:
    assert run(engine, TurnRequest(1, "m", PROMPT, max_tokens=3, ignore_eos=True))[0].logprobs == ()


def test_a_biased_token_outside_the_vocabulary(engine: NativeEngine) -> None:
    for token in (512, 2**31 - 1):
        request = TurnRequest(1, "m", PROMPT, sampling=SamplingParams(logit_bias={token: 1.0}))
        with pytest.raises(errors.RequestInvalid, match=f"token id {token} is outside the vocabulary of 512"):
            engine.submit(request)


def test_a_ban_of_every_token_fails_the_turn(engine: NativeEngine) -> None:
    nothing = SamplingParams(logit_bias=dict.fromkeys(range(512), -math.inf))
    engine.submit(TurnRequest(1, "m", PROMPT, sampling=nothing))
    failed = endings(engine, {1})[1]
    assert isinstance(failed, TurnFailed)
    assert failed.error_code == "request_invalid"
    assert "leaves no token" in failed.message
    assert len(_answer(engine, SamplingParams(), max_tokens=3)) == 3


def test_deltas_carry_their_tokens_logprobs(make_engine: MakeEngine) -> None:
    critic = make_engine(None)
    critic.load(spec(Path(str(files("agentmux.agents") / "models" / "critic.gguf"))))
    critic.submit(TurnRequest(1, "m", "Hello there", max_tokens=30, ignore_eos=True, logprobs=2))
    seen: list[TextDelta | TurnFinished] = []
    while not seen or not isinstance(seen[-1], TurnFinished):
        seen += [event for event in events(critic) if isinstance(event, TextDelta | TurnFinished)]
    *deltas, end = seen
    assert len(deltas) > 3
    for delta in deltas:
        assert tuple(one.token for one in delta.logprobs) == delta.tokens
    together = tuple(one for delta in deltas for one in delta.logprobs)
    assert together == end.logprobs[: len(together)]
    assert tuple(one.token for one in end.logprobs) == end.tokens
