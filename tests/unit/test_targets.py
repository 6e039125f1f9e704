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

from agentmux import Agent, ConfigError, EngineError, Run, Runtime, pipeline
from agentmux.targets import arguments_json, arguments_of, find, name_of
from agentmux.testing import Failure, ScriptedEngine
from tests.unit import held_engine as helper

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


class Translator(Agent):
    model = "m"

    def __init__(self, language: str = "en") -> None:
        self.language = language


FRENCH = Translator("fr")


def test_an_agent_with_settings_of_its_own_is_not_taken_for_another_of_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spanish = Translator("es")
    monkeypatch.setattr(helper, "SPANISH", spanish, raising=False)  # another module may hold it than its class's
    assert find(name_of(spanish)) is spanish
    assert find(name_of(FRENCH)) is FRENCH
    assert find(name_of(Asks())) is Asks
    name = name_of(Translator("de"))
    assert name.endswith(":<Translator with settings of its own>")
    with pytest.raises(ConfigError, match="was made within a program and has no name to find it by"):
        find(name)


async def test_a_run_of_such_an_agent_is_resumed_only_by_who_has_it(tmp_path: Path) -> None:
    class Speaks(Translator):
        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            return await ctx.ask(f"{self.language} {args[0]}")

    german = Speaks("de")
    engine = ScriptedEngine({"m": [Failure(), "Guten Tag"]})
    async with Runtime(models=engine.models, engine=engine, journal=tmp_path / "journal.db") as mux:
        with pytest.raises(EngineError) as caught:
            await mux.run(german, "Hello")
        run = caught.value.partial.run
        with pytest.raises(ConfigError, match="resume it from there"):
            await mux.resume(run)
        assert (await mux.resume(run, german, "Hello")).output == "Guten Tag"
