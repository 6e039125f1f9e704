"""Output types: the grammar is one that llama.cpp reads, and whatever it admits validates."""

from __future__ import annotations

import datetime
import enum
import json
import random
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, create_model

from agentmux.errors import ConfigError
from agentmux.gbnf import UnsupportedSchema, schema_to_gbnf
from agentmux.schema import AnswerRejected, OutputSchemas, output_schema

from .gbnf_texts import Grammar, llama_reads, matches


class Colour(enum.Enum):
    RED = "red"
    QUOTED = 'say "hi" \\ \n'


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class With_Underscore(BaseModel):
    again: With_Underscore | None = None
    value: int


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = "Rex"


class Zoo(BaseModel):
    first: Annotated[Cat | Dog, Field(discriminator="kind")]
    all: dict[str, Cat | Dog] = {}
    root: Tree | None = None
    anything: Any = None


class Empty(BaseModel):
    pass


class Aliased(BaseModel):
    value: int = Field(alias='the "value"', default=0)
    size: float = Field(ge=0)


SCALARS: list[Any] = [
    str, int, float, bool, type(None), Any, datetime.time, uuid.UUID, Colour, Literal["a", 'b"\\', 3, None],
    Annotated[str, Field(min_length=2, max_length=4)], Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0)],
    bytes, Tree, With_Underscore, Cat, Dog, Zoo, Empty, Aliased,
]  # fmt: skip


def combine(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def model(fields: list[tuple[str, Any, bool]]) -> Any:
        declared = {name: (kind, ...) if needed else (kind | None, None) for name, kind, needed in fields}
        return create_model("Made", **declared)  # type: ignore[call-overload]

    names = st.sampled_from(["a", "b_c", "root", "string", "space", "x1", "ws"])
    return st.one_of(
        inner.map(lambda kind: list[kind]),
        st.tuples(inner, st.integers(0, 3), st.integers(0, 3)).map(
            lambda drawn: Annotated[list[drawn[0]], Field(min_length=drawn[1], max_length=drawn[1] + drawn[2])]
        ),
        inner.map(lambda kind: dict[str, kind]),
        inner.map(lambda kind: Optional[kind]),  # noqa: UP045
        st.tuples(inner, inner).map(lambda kinds: tuple[kinds[0], kinds[1]]),
        st.tuples(inner, inner).map(lambda kinds: kinds[0] | kinds[1] if kinds[0] is not kinds[1] else kinds[0]),
        st.lists(st.tuples(names, inner, st.booleans()), max_size=4, unique_by=lambda field: field[0]).map(model),
    )


output_types = st.recursive(st.sampled_from(SCALARS), combine, max_leaves=5)


@given(st.sampled_from(SCALARS), st.integers(0, 2**32))
def test_whatever_the_grammar_of_a_plain_type_admits_validates(kind: Any, seed: int) -> None:
    check(kind, seed)


@given(st.data(), st.integers(0, 2**32))
def test_whatever_the_grammar_of_a_composed_type_admits_validates(data: st.DataObject, seed: int) -> None:
    try:
        kind = data.draw(output_types)
    except TypeError:  # a union of things that Python cannot join, such as two literals' values
        return
    check(kind, seed)


def check(kind: Any, seed: int) -> None:
    schema = output_schema(kind)
    if kind is str:
        assert schema.grammar is None
        return
    assert schema.grammar is not None
    assert llama_reads(schema.grammar), schema.grammar
    text = Grammar(schema.grammar, random.Random(seed)).draw()
    text.encode()
    schema.parse(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "42"),
        (int, "-7"),
        (float, "-1.5e-3"),
        (list[int], "[1, 2,3]"),
        (dict[str, int], '{"a": 1, "b":2}'),
        (Tree, '{"name": "a", "children": [{"name": "b"}]}'),
        (Tree, '{\n  "name": "a",\n  "children": [\n    {"name": "b"}\n  ]\n}'),
        (Zoo, '{"first": {"kind": "dog"}, "anything": [1, {"x": null}]}'),
        (Aliased, '{"the \\"value\\"": 3, "size": 0.5}'),
        (datetime.date, '"2024-02-29"'),
        (datetime.datetime, '"2024-02-29T23:59:59.123+01:00"'),
        (Colour, '"red"'),
        (int | None, "null"),
    ],
)
def test_answers_as_models_write_them_are_admitted(kind: Any, text: str) -> None:
    grammar = output_schema(kind).grammar
    assert grammar is not None
    assert matches(grammar, text), grammar
    TypeAdapter(kind).validate_json(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "4.5"),
        (int, "042"),
        (int, " 4"),
        (Annotated[int, Field(ge=0)], "-4"),
        (list[int], "[1,]"),
        (list[int], "[" + " " * 5 + "1]"),
        (list[int], "[\n" + " " * 21 + "1]"),
        (list[str], '["tab\there"]'),
        (list[str], '["\\ud800"]'),
        (Cat, '{"lives": 9, "kind": "cat"}'),
        (Cat, '{"kind": "cat"}'),
        (Cat, '{"kind": "cat", "lives": 9, "more": 1}'),
        (Annotated[list[int], Field(max_length=2)], "[1,2,3]"),
        (Annotated[list[int], Field(min_length=2)], "[1]"),
    ],
)
def test_what_is_not_meant_is_not_admitted(kind: Any, text: str) -> None:
    grammar = output_schema(kind).grammar
    assert grammar is not None
    assert not matches(grammar, text), grammar


def test_str_is_plain_text() -> None:
    schema = output_schema(str)
    assert (schema.grammar, schema.schema_text, schema.parse("anything { ")) == (None, None, "anything { ")


def test_the_schema_is_shown_as_json() -> None:
    assert json.loads(output_schema(Cat).schema_text or "")["required"] == ["kind", "lives"]


def test_a_rejected_answer_says_where_and_why() -> None:
    with pytest.raises(AnswerRejected, match="lives: Input should be a valid integer"):
        output_schema(Cat).parse('{"kind": "cat", "lives": "many"}')


def test_what_a_grammar_cannot_say_is_checked_afterwards() -> None:
    schema = output_schema(Annotated[str, Field(pattern="^[0-9]+$")])
    assert schema.parse('"12"') == "12"
    with pytest.raises(AnswerRejected):
        schema.parse('"x"')
    assert output_schema(Decimal).parse('"1.50"') == Decimal("1.50")


@pytest.mark.parametrize("kind", [Callable[[], int], object(), random.Random])
def test_a_type_that_cannot_be_generated_is_named(kind: Any) -> None:
    with pytest.raises(ConfigError, match="output type"):
        output_schema(kind)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/x"},
        {"$ref": "#/$defs/none"},
        {"type": "planet"},
        {"anyOf": []},
        {"type": "array", "items": False, "minItems": 1},
    ],
)
def test_unsupported_schemas(schema: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedSchema):
        schema_to_gbnf(schema)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": ["integer", "null"]}, "null"),
        ({"properties": {"a": {"type": "integer"}}}, '{"a": 1}'),
        ({"allOf": [{"properties": {"a": {"type": "null"}}}, {"required": ["a"], "type": "object"}]}, '{"a": null}'),
        ({"patternProperties": {"^x": {"type": "integer"}}}, '{"x1": 1}'),
        ({"additionalProperties": False}, "{}"),
        ({"type": "array"}, '[1, "a"]'),
        ({"type": "array", "maxItems": 0}, "[]"),
        ({"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "null"}}, '{"a": null}'),
        ({"type": "string", "maxLength": 100_000}, '"abc"'),
        (True, "[1]"),
    ],
)
def test_parts_of_json_schema_that_pydantic_seldom_uses(schema: Any, text: str) -> None:
    grammar = schema_to_gbnf(schema)
    assert llama_reads(grammar)
    assert matches(grammar, text), grammar


def test_schemas_are_remembered_by_type_and_instance() -> None:
    schemas = OutputSchemas()
    assert schemas.of(Cat) is schemas.of(Cat)
    assert OutputSchemas().of(Cat) is not schemas.of(Cat)
    unhashable = Annotated[int, Field(json_schema_extra={"x": []})]
    assert schemas.of(unhashable).parse("3") == 3


def test_the_grammar_of_many_optional_members_is_as_long_as_they_are() -> None:
    def size(members: int) -> int:
        fields: dict[str, Any] = {f"field{number:04}": (int | None, None) for number in range(members)}
        return len(output_schema(create_model("Many", **fields)).grammar or "")

    assert size(400) < 2.2 * size(200)
