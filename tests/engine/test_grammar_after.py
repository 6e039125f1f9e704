"""A grammar that begins behind a marker, with a real vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import gguf
import pytest

from agentmux import errors
from agentmux.engine.base import EngineConfig, LoadSpec, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine
from agentmux.sampling import SamplingParams

from .conftest import BATCH_TOKENS, CONTEXT_TOKENS, run

MODEL = Path(str(files("agentmux.agents") / "models" / "critic.gguf"))
N_TURNS = 60


@pytest.fixture(scope="module")
def engine() -> Iterator[NativeEngine]:
    engine = NativeEngine(EngineConfig(device="cpu", threads=1))
    # One slot: turns that share batches would differ in their last bits with when each of them came.
    engine.load(LoadSpec("m", str(MODEL), CONTEXT_TOKENS, 1, BATCH_TOKENS))
    yield engine
    engine.close()


def _hot_turns(engine: NativeEngine, **asked: object) -> list[TurnFinished]:
    """Answers that wander over the vocabulary, so that markers come in all cuts."""
    requests = [
        TurnRequest(
            seed,
            "m",
            "Review: x = 1",
            max_tokens=40,
            sampling=SamplingParams(temperature=8.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed),
            **asked,  # type: ignore[arg-type]
        )
        for seed in range(N_TURNS)
    ]
    return run(engine, *requests)


@pytest.mark.parametrize(
    ("marker", "gbnf", "whole", "part"),
    [
        ("a", 'root ::= [b-z]+ "."', r"[b-z]+\.", r"[b-z]*"),
        ("er", 'root ::= " " [a-z ]{3,9} "!"', r" [a-z ]{3,9}!", r"( [a-z ]{0,9})?"),
        ("i", 'root ::= "n" [0-9]+ "\\n"', r"n[0-9]+\n", r"(n[0-9]*)?"),
    ],
)
def test_what_follows_the_marker_keeps_to_the_grammar(
    marker: str, gbnf: str, whole: str, part: str, engine: NativeEngine
) -> None:
    """In whatever tokens the marker comes, those included that go past it."""
    ends = _hot_turns(engine, grammar=gbnf, grammar_after=marker)
    answers = [(end.reason, end.text.partition(marker)[2]) for end in ends if marker in end.text]
    assert len(answers) > N_TURNS / 10, "the marker should come now and then"
    assert any(end.text.partition(marker)[0] for end in ends if marker in end.text), "free before the marker"
    for reason, rest in answers:
        assert re.fullmatch(whole if reason == "stop" else f"{whole}|{part}", rest), (reason, rest)
    assert any(reason == "stop" for reason, _ in answers)


def test_without_the_marker_the_answer_is_free(engine: NativeEngine) -> None:
    free = _hot_turns(engine)
    awaiting = _hot_turns(engine, grammar='root ::= "never"', grammar_after="<<no such text>>")
    assert [end.tokens for end in awaiting] == [end.tokens for end in free]
    assert [end.reason for end in awaiting] == [end.reason for end in free]


def test_the_end_comes_only_when_the_grammar_is_satisfied(engine: NativeEngine) -> None:
    """A model that wants nothing but to end."""
    end_token = int(gguf.GGUFReader(str(MODEL)).fields["tokenizer.ggml.eos_token_id"].contents())
    biased = SamplingParams(logit_bias={end_token: 500.0})
    request = TurnRequest(1, "m", "Review: x = 1", sampling=biased, grammar="root ::= [a]", grammar_after="x")
    assert (run(engine, request)[0].reason, run(engine, request)[0].tokens) == ("stop", ())
    request = TurnRequest(1, "m", "Review: x = 1", sampling=biased, grammar='root ::= "abc" [0-9]{5}')
    end = run(engine, request)[0]
    assert end.reason == "stop"
    assert re.fullmatch(r"abc[0-9]{5}", end.text)


def test_a_marker_needs_a_grammar() -> None:
    for asked in ({"grammar_after": "x"}, {"grammar": "root ::= [a]", "grammar_after": ""}):
        with pytest.raises(errors.RequestInvalid, match="grammar_after"):
            TurnRequest(1, "m", "x", **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gbnf", "says"),
    [
        ('root ::= "a', "end of a string"),
        ('root ::= "a"{5,3}', "at least 5 and at most 3"),
        ('root ::= "a"{99999999999}', "times"),
        ("root ::= x", "no rule `x`"),
        ('main ::= "a"', "no rule `root`"),
        ('root ::= root "a" | "b"', "left-recursive"),
        ('root ::= e root\ne ::= f\nf ::= ""', "left-recursive"),
        ('root ::= e root "x"\ne ::= f\nf ::= "y"?', "left-recursive"),
        ("root ::= " + "(" * 300 + '"a"' + ")" * 300, "200 groups"),
        ("".join(f"r{i} ::= r{i + 1}\n" for i in range(5000)) + 'r5000 ::= "a"\nroot ::= r0', "200 rules"),
        ('root ::= "\\q"', "escape"),
    ],
)
def test_grammars_that_cannot_be_followed(gbnf: str, says: str, engine: NativeEngine) -> None:
    with pytest.raises(errors.RequestInvalid, match=says):
        engine.submit(TurnRequest(1, "m", "x", grammar=gbnf))
    assert run(engine, TurnRequest(2, "m", "x", max_tokens=2))
