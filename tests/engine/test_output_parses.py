"""Whatever the model: what the engine generates by a type's grammar, and ends, is of that type.

The model has random weights and a real vocabulary, so that it wants nothing and may write anything.
"""

from __future__ import annotations

import datetime
import enum
import json
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from agentmux.engine import _native
from agentmux.engine.base import EngineConfig, LoadSpec, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine
from agentmux.sampling import SamplingParams
from agentmux.schema import output_schema

from . import gguf_files, random_models
from .conftest import run

VOCABULARY = Path(str(files("agentmux.agents") / "models" / "critic.gguf"))
N_SCHEMAS = 200
TURNS = 3
MAX_TOKENS = 300
CONTEXT_TOKENS = 384

BEYOND_GRAMMARS = frozenset(
    {
        "greater_than", "greater_than_equal", "less_than_equal",  # ranges of fractions
        "multiple_of",
        "too_short",  # of sets, whose equal members count once
    }
)  # fmt: skip
"""Types of pydantic's errors that a grammar cannot prevent; all others would be a mistake of ours."""


class Colour(enum.Enum):
    RED = "red"
    ODD = 'say "hi" \\ \n é'
    NUMBER = 7


class Tree(BaseModel):
    label: Annotated[str, Field(max_length=3)]
    children: Annotated[list[Tree], Field(max_length=2)] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(pattern="^[A-Z][a-z]{1,8}$")] = "Rex"


class Pair(NamedTuple):
    left: int
    right: bool = False


@dataclass
class Data:
    when: datetime.date
    more: Annotated[dict[Annotated[str, Field(max_length=3)], int], Field(max_length=2)] = field(default_factory=dict)


SCALARS: list[Any] = [
    int, float, bool, type(None), Colour, Cat, Dog, Pair, Data, Tree, uuid.UUID, Decimal, complex,
    Literal["a", 'b"\\', 3, None, True],
    Annotated[int, Field(ge=-12, lt=1_000)], Annotated[int, Field(gt=10**17)],
    Annotated[str, Field(max_length=12)], Annotated[str, Field(min_length=2, max_length=4)],
    Annotated[str, Field(pattern=r"^\d{3}-[a-f]+(\.|x{2,3})?$", max_length=12)],
    Annotated[str, Field(pattern=r"[aeiou]\w", max_length=8)],
    Annotated[bytes, Field(max_length=6)],
    datetime.date, datetime.time, datetime.datetime, datetime.timedelta,
    Annotated[Cat | Dog, Field(discriminator="kind")],
]  # fmt: skip
KEYS: list[Any] = [
    int, Annotated[int, Field(ge=3, le=17)], uuid.UUID, datetime.date, Literal["k", "l"], bool, float, Decimal, Colour,
    Annotated[str, Field(pattern="^x{1,3}$")], Annotated[str, Field(min_length=1, max_length=5)],
]  # fmt: skip


BEYOND: list[tuple[Any, Any]] = [
    (Annotated[int, Field(multiple_of=3)], int),
    (Annotated[float, Field(ge=0)], float),
    (Annotated[float, Field(gt=-3.5, le=10)], float),
]
"""(type, the same without what a grammar cannot say)"""
PLAIN: list[tuple[Any, Any]] = [*((kind, kind) for kind in SCALARS), *BEYOND]

Kinds = tuple[Any, Any]
"""A type, and the same without what a grammar cannot say."""


def _model(fields: list[tuple[Kinds, bool]], which: int) -> Any:
    declared = {
        name: (pair[which], ...) if needed else (pair[which] | None, None)
        for name, (pair, needed) in zip(("root", "b_c", "string", "ws"), fields, strict=False)
    }
    return create_model("Made", **declared)  # type: ignore[call-overload]


def _composed(inner: st.SearchStrategy[Kinds]) -> st.SearchStrategy[Kinds]:
    def both(strategy: st.SearchStrategy[Any], make: Callable[[Any, int], Any]) -> st.SearchStrategy[Kinds]:
        return strategy.map(lambda drawn: (make(drawn, 0), make(drawn, 1)))

    fields = st.lists(st.tuples(inner, st.booleans()), max_size=4)
    sizes = st.tuples(st.integers(0, 2), st.integers(0, 3)).map(
        lambda d: Field(min_length=d[0], max_length=d[0] + d[1])
    )
    return st.one_of(
        both(st.tuples(inner, sizes), lambda d, i: Annotated[list[d[0][i]], d[1]]),
        both(sizes, lambda d, i: set[int] if i else Annotated[set[int], d]),
        both(st.tuples(st.sampled_from(KEYS), inner), lambda d, i: Annotated[dict[d[0], d[1][i]], Field(max_length=3)]),
        both(st.tuples(inner, inner), lambda d, i: tuple[d[0][i], d[1][i]]),
        both(inner, lambda d, i: Annotated[tuple[d[i], ...], Field(max_length=3)]),
        both(st.tuples(inner, inner), lambda d, i: Union[d[0][i], d[1][i]]),  # noqa: UP007
        both(fields, _model),
    )


TYPES = st.recursive(st.sampled_from(PLAIN), _composed, max_leaves=5)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeEngine]:
    folder = tmp_path_factory.mktemp("random")
    vocabulary = gguf_files.read(VOCABULARY)
    n_tokens = len(vocabulary.metadata["tokenizer.ggml.tokens"].data)
    metadata = random_models.MODELS["llama"] | {"llama.vocab_size": n_tokens, "llama.block_count": 2}
    _native.write_random_model(str(folder / "random.gguf"), metadata, 1)
    gguf_files.with_vocabulary(gguf_files.read(folder / "random.gguf"), vocabulary).write(folder / "model.gguf")
    engine = NativeEngine(EngineConfig(device="cpu", threads=1))
    engine.load(LoadSpec("m", str(folder / "model.gguf"), CONTEXT_TOKENS, TURNS, 64))
    yield engine
    engine.close()


def answers(engine: NativeEngine, grammar: str, first_seed: int) -> list[TurnFinished]:
    """Of several turns, each with a seed of its own."""
    hot = SamplingParams(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0)
    requests = [
        TurnRequest(
            turn, "m", "Answer: ", max_tokens=MAX_TOKENS, sampling=replace(hot, seed=first_seed + turn), grammar=grammar
        )
        for turn in range(TURNS)
    ]
    return run(engine, *requests)


def is_no_utf8(text: str) -> bool:
    """Whether the model wrote bytes that are no UTF-8: llama.cpp's grammars take characters in longer forms than they
    have for the characters themselves."""
    return "\ufffd" in text


def check_answer(kind: Any, relaxed: Any, text: str) -> None:
    """It is JSON of the type's shape; if pydantic objects, then to what a grammar cannot say."""
    json.loads(text)
    TypeAdapter(relaxed).validate_json(text)
    found: set[str] = set()
    try:
        TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        found = {problem["type"] for problem in error.errors()}
    # Of a union, errors come from all members.
    assert not found or found & BEYOND_GRAMMARS, (kind, text)


def test_whatever_a_model_ends_parses(engine: NativeEngine) -> None:
    """All strings and lists are bounded, so that nearly all answers end although the model wants nothing."""
    ended: list[bool] = []
    tried: list[Any] = []

    @seed(20)
    @settings(max_examples=N_SCHEMAS, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(TYPES)
    def check(pair: Kinds) -> None:
        kind, relaxed = pair
        grammar = output_schema(kind).grammar
        assert grammar is not None
        tried.append(kind)
        for end in answers(engine, grammar, zlib.crc32(grammar.encode()) // 2):
            ended.append(end.reason == "stop")
            if end.reason == "stop" and not is_no_utf8(end.text):
                check_answer(kind, relaxed, end.text)

    check()
    assert len(tried) >= N_SCHEMAS
    assert sum(ended) > 0.9 * len(ended), "cuts are to be the exception"


@pytest.mark.parametrize(("kind", "relaxed"), PLAIN, ids=[str(kind) for kind, _ in PLAIN])
def test_each_plain_type_parses(kind: Any, relaxed: Any, engine: NativeEngine) -> None:
    grammar = output_schema(kind).grammar
    assert grammar is not None
    ends = answers(engine, grammar, 7)
    for end in ends:
        assert end.reason == "stop" or kind is Tree
        if end.reason == "stop":
            check_answer(kind, relaxed, end.text)


@pytest.mark.parametrize("kind", KEYS, ids=str)
def test_each_type_of_keys_parses(kind: Any, engine: NativeEngine) -> None:
    grammar = output_schema(Annotated[dict[kind, bool], Field(min_length=1, max_length=2)]).grammar
    assert grammar is not None
    for end in answers(engine, grammar, 7):
        TypeAdapter(dict[kind, bool]).validate_json(end.text)


def test_what_is_cut_is_said_to_be(engine: NativeEngine) -> None:
    """An unbounded string of a model that wants nothing does not end; it is not called an answer."""
    grammar = output_schema(list[str]).grammar
    assert grammar is not None
    assert any(end.reason == "length" for end in answers(engine, grammar, 1))
