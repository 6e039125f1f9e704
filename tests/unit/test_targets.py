"""Arguments of agents and pipelines, from JSON that was recorded or typed: each of its parameter's type again."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from agentmux import Agent, ConfigError, Run, pipeline
from agentmux.targets import arguments_json, arguments_of

if TYPE_CHECKING:
    from nowhere import Nothing


class Colour(enum.Enum):
    RED = "red"


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: datetime.date
    colour: Colour
    pair: tuple[int, str]


@dataclass(frozen=True)
class Point:
    x: int
    tags: frozenset[str] = frozenset()


@pipeline
async def many(
    ctx: Run, one: Strict, *points: Point, price: Decimal = Decimal(1), where: Path | None = None, **rest: Colour
) -> None:
    """Takes all kinds."""


@given(
    day=st.dates(),
    pair=st.tuples(st.integers(), st.text()),
    points=st.lists(st.builds(Point, st.integers(), st.frozensets(st.text(max_size=3)))),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    where=st.none() | st.just(Path("/a b")),
)
def test_arguments_come_back_as_they_were(
    day: datetime.date, pair: tuple[int, str], points: list[Point], price: Decimal, where: Path | None
) -> None:
    args = (Strict(day=day, colour=Colour.RED, pair=pair), *points)
    kwargs: dict[str, Any] = {"price": price, "where": where, "further": Colour.RED}
    text = arguments_json(args, kwargs)
    assert text is not None
    assert arguments_of(many, text) == (args, kwargs)


class Asks(Agent):
    model = "m"


@pipeline
async def partly(ctx: Run, text: str, nothing: Nothing | None = None) -> None:
    """One of its annotations is there for type checkers only."""


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        (Asks, '[["a", "b"], {}]', r"do not fit any more: too many positional arguments; Asks takes \(prompt: str\)"),
        (Asks, "[[1], {}]", r"Asks takes \(prompt: str\); prompt: Input should be a valid string"),
        (
            many,
            '[[{"day": "2026-01-01", "colour": "blue", "pair": [1, "a"]}], {}]',
            "one: colour: Input should be 'red'",
        ),
        (partly, '[["a", 1], {}]', "the annotation of partly's nothing cannot be read: NameError: name 'Nothing'"),
    ],
)
def test_arguments_that_do_not_fit_any_more(target: Any, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arguments_of(target, text)


def test_an_annotation_that_cannot_be_read_is_in_the_way_of_no_other() -> None:
    assert arguments_of(partly, '[["a"], {}]') == (("a",), {})
