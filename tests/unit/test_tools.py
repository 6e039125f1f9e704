"""Tools: schemas out of signatures, values out of JSON, and calls."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import functools
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field

from agentmux import Agent, ConfigError, LimitExceeded, ToolError, pipeline
from agentmux import Run as TheRun
from agentmux.tools import ModelRetry, Tool, Toolsets, described, tool, toolset

if TYPE_CHECKING:
    from agentmux import Run


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    tags: list[Colour] = []


@dataclass
class Size:
    width: float


def google(city: str, days: Annotated[int, Field(ge=1, le=9)] = 3, *, unit: Literal["C", "F"] = "C") -> str:
    """Tells the weather.

    At length.

    Args:
        city: name of the city,
            in English.
        days (int): how far ahead.
        unit: the unit.

    Returns:
        what it is like.
    """
    return f"{city} {days} {unit}"


def numpy(city: str, days: int = 3, *, unit: str = "C") -> str:
    """Tells the weather.

    At length.

    Parameters
    ----------
    city : str
        name of the city,
        in English.
    days
        how far ahead.
    unit : str, optional
        the unit.

    Returns
    -------
    str
        what it is like.
    """
    return city


def rest(city: str, days: int = 3, *, unit: str = "C") -> str:
    """Tells the weather.

    At length.

    :param city: name of the city,
        in English.
    :param int days: how far ahead.
    :param unit: the unit.
    :returns: what it is like.
    """
    return city


@pytest.mark.parametrize("function", [google, numpy, rest])
def test_docstrings_of_the_usual_styles_are_read(function: Any) -> None:
    made = Tool.of(function)
    assert made.description == "Tells the weather.\n\nAt length."
    texts = [made.parameters["properties"][name]["description"] for name in ("city", "days", "unit")]
    assert texts == ["name of the city, in English.", "how far ahead.", "the unit."]


def test_the_schema_is_the_signature() -> None:
    made = Tool.of(google)
    assert made.name == "google"
    assert made.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "name of the city, in English."},
            "days": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3, "description": "how far ahead."},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C", "description": "the unit."},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert described([made]) == [
        {
            "type": "function",
            "function": {"name": "google", "description": made.description, "parameters": made.parameters},
        }
    ]


def all_kinds(
    first: int,
    /,
    point: Point,
    size: Size,
    schema: Literal["a", 1] = "a",
    model_config: bool = True,
    *,
    copy: Any = None,
) -> dict[str, Any]:
    """Names that mean something to pydantic are names like any other."""
    return {"first": first, "point": point, "size": size, "schema": schema, "model_config": model_config, "copy": copy}


async def test_arguments_become_values_of_their_types() -> None:
    made = Tool.of(all_kinds)
    text = '{"first": 1, "point": {"x": 2, "tags": ["red"]}, "size": {"width": 3}, "copy": [null]}'
    values = made.validate(text)
    assert values == {"first": 1, "point": Point(x=2, tags=[Colour.RED]), "size": Size(3.0), "copy": [None]}
    expected = {**values, "schema": "a", "model_config": True}
    assert await made.call(values) == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('{"days": 3}', "google was not run: city: Field required"),
        ('{"city": 3}', "city: Input should be a valid string"),
        ('{"city": "a", "days": 10}', "days: Input should be less than or equal to 9"),
        ('{"city": "a", "unit": "K"}', "unit: Input should be 'C' or 'F'"),
        ('{"city": "a", "town": "b"}', "town: Extra inputs are not permitted"),
        ("[]", "arguments: "),
        ('{"city"', "arguments: Invalid JSON"),
    ],
)
def test_wrong_arguments_are_told_to_the_model(arguments: str, says: str) -> None:
    with pytest.raises(ModelRetry) as caught:
        Tool.of(google).validate(arguments)
    assert says in str(caught.value)
    assert "pydantic" not in str(caught.value)


def _even(value: int) -> int:
    if value % 2:
        raise KeyError(value)
    return value


def checked(value: Annotated[int, AfterValidator(_even)]) -> int:
    """Takes even numbers."""
    return value


async def test_an_argument_by_position_that_is_left_out_is_its_default() -> None:
    def area(width: int = 2, height: int = 3, /) -> str:
        """An area."""
        return f"{width} x {height}"

    made = Tool.of(area)
    assert await made.call(made.validate('{"height": 5}')) == "2 x 5"
    assert await made.call(made.validate("{}")) == "2 x 3"


def test_validators_of_the_users_own_may_raise_anything() -> None:
    with pytest.raises(ModelRetry, match="KeyError: 3"):
        Tool.of(checked).validate('{"value": 3}')


def no_type(a: int, b) -> None:  # type: ignore[no-untyped-def]
    """."""


def stars(*names: str) -> None:
    """."""


def keywords(**names: str) -> None:
    """."""


def unknown(a: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """."""


def not_json(good: int, bad: threading.Lock) -> None:  # type: ignore[valid-type]
    """."""


def field_as_default(a: int = Field(default=3)) -> None:
    """."""


def generator() -> Iterator[int]:
    """."""
    yield 1


async def async_generator() -> AsyncIterator[int]:
    """."""
    yield 1


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (no_type, "tool no_type: parameter b has no type"),
        (stars, r"tool stars: parameter names: \*names has no schema"),
        (keywords, r"tool keywords: parameter names: \*\*names has no schema"),
        (unknown, "tool unknown: the type of parameter a, 'Nowhere', cannot be read"),
        (not_json, "tool not_json: parameter bad cannot be described as JSON"),
        (field_as_default, "tool field_as_default: parameter a: write Annotated"),
        (generator, "tool generator is a generator"),
        (async_generator, "tool async_generator is a generator"),
        (lambda: 1, "'<lambda>' is no name for a tool"),
        (3, "3 cannot be a tool"),
        (Point, "cannot be a tool"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_by_name(thing: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Tool.of(thing)


@pytest.mark.parametrize(
    "settings",
    [{"name": "a b"}, {"name": "9"}, {"name": "x" * 65}, {"name": ""}, {"timeout_s": 0}, {"retries": -1}, {"no": 1}],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tool(**settings)(google)


def test_two_tools_of_one_name() -> None:
    with pytest.raises(ConfigError, match="two tools are called google"):
        toolset([google, tool(name="google")(functools.partial(numpy, "x"))])


def test_a_decorated_function_stays_a_function() -> None:
    @tool
    def plain(a: int) -> int:
        """Plain."""
        return a

    @tool(name="renamed", idempotent=True, approval=True, timeout_s=2, retries=5)
    def settled(a: int) -> int:
        """Settled."""
        return a + 1

    assert (plain(3), settled(3)) == (3, 4)
    made = Tool.of(settled)
    assert (made.name, made.idempotent, made.approval, made.timeout_s, made.retries) == ("renamed", True, True, 2, 5)
    assert Tool.of(made) is made
    assert Tool.of(plain).retries == 2
    with pytest.raises(ConfigError, match="not 3"):
        tool(3)  # type: ignore[call-overload]


class Shelf:
    def __init__(self) -> None:
        self.taken: list[str] = []

    @tool(idempotent=True)
    def take(self, what: str) -> int:
        """Takes something off.

        Args:
            what: the thing
        """
        self.taken.append(what)
        return len(self.taken)

    async def __call__(self, what: str) -> str:
        """Not what describes the object."""
        return what


async def test_methods_partials_and_callable_objects() -> None:
    shelf = Shelf()
    method = Tool.of(shelf.take)
    assert (method.name, method.idempotent, list(method.parameters["properties"])) == ("take", True, ["what"])
    assert await method.call(method.validate('{"what": "book"}')) == 1
    assert shelf.taken == ["book"]
    bound = Tool.of(functools.partial(google, unit="F"))
    assert bound.name == "google"
    assert list(bound.parameters["properties"]) == ["city", "days"]
    assert await bound.call(bound.validate('{"city": "Bonn"}')) == "Bonn 3 F"
    first = Tool.of(functools.partial(google, "Bonn"))
    assert await first.call(first.validate('{"days": 1}')) == "Bonn 1 C"
    called = Tool.of(shelf)
    assert called.name == "Shelf"
    assert await called.call(called.validate('{"what": "x"}')) == "x"


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")


async def test_plain_functions_run_in_a_thread_with_the_callers_context() -> None:
    def where() -> tuple[bool, str]:
        """."""
        return threading.current_thread() is threading.main_thread(), VARIABLE.get()

    VARIABLE.set("here")
    assert await Tool.of(where).call({}) == (False, "here")


async def takes_ctx(ctx: TheRun, a: int) -> tuple[Any, int]:
    """."""
    return ctx, a


async def takes_ctx_for_checkers(context: Run, a: int) -> tuple[Any, int]:
    """Run is imported for type checkers only."""
    return context, a


@pytest.mark.parametrize("function", [takes_ctx, takes_ctx_for_checkers])
async def test_a_first_parameter_of_type_run_gets_the_ctx(function: Any) -> None:
    made = Tool.of(function)
    assert list(made.parameters["properties"]) == ["a"]
    ctx = object()
    assert await made.call(made.validate('{"a": 1}'), ctx) == (ctx, 1)
    with pytest.raises(ConfigError, match="needs the ctx of a run"):
        await made.call({"a": 1})


class Asks(Agent):
    """Answers questions.

    Args:
        prompt: not looked for here.
    """

    model = "m"


class Undocumented(Agent):
    model = "m"

    async def run(self, ctx: TheRun, code: str, times: int = 1) -> str:
        """Reviews.

        Args:
            code: what to review.
        """
        return code


@pipeline
async def both(ctx: TheRun, task: str, *, fast: bool = False) -> str:
    """Does both."""
    return task


class FakeRun:
    async def run(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        return target, args, kwargs


async def test_agents_and_pipelines_as_tools() -> None:
    agent = Undocumented()
    cases: list[tuple[Any, str, str, str, tuple[Any, ...], dict[str, Any]]] = [
        (Asks, "Asks", "Answers questions.", '{"prompt": "why"}', ("why",), {}),
        (agent, "Undocumented", "", '{"code": "x"}', (), {"code": "x"}),
        (both, "both", "Does both.", '{"task": "t", "fast": true}', (), {"task": "t", "fast": True}),
    ]
    for target, name, description, arguments, args, kwargs in cases:
        made = Tool.of(target)
        assert (made.name, made.description) == (name, description)
        assert await made.call(made.validate(arguments), FakeRun()) == (target, args, kwargs)
    assert Tool.of(agent).parameters["properties"]["code"]["description"] == "what to review."
    assert Tool.of(tool(name="reviewer")(Undocumented)).name == "reviewer"


async def test_what_a_tool_raises() -> None:
    async def raising(kind: str) -> str:
        """."""
        raise {"retry": ModelRetry("no"), "limit": LimitExceeded("full"), "own": KeyError("k"), "time": TimeoutError()}[
            kind
        ]

    made = Tool.of(raising)
    with pytest.raises(ModelRetry, match="no"):
        await made.call({"kind": "retry"})
    with pytest.raises(LimitExceeded):
        await made.call({"kind": "limit"})
    with pytest.raises(ToolError, match="tool raising failed: KeyError: 'k'") as caught:
        await made.call({"kind": "own"})
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ToolError, match="failed: TimeoutError"):
        await made.call({"kind": "time"})


async def test_a_thread_may_raise_what_futures_cannot_carry() -> None:
    def stops() -> int:
        """."""
        return next(iter(()))

    with pytest.raises(ToolError, match="StopIteration"):
        await Tool.of(stops).call({})


async def test_a_call_that_takes_too_long() -> None:
    @tool(timeout_s=0.001)
    async def waits() -> None:
        """."""
        await asyncio.Event().wait()

    with pytest.raises(ToolError, match=r"tool waits took longer than 0\.001 s"):
        await Tool.of(waits).call({})


async def test_cancelling_a_call_cancels_the_function() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        """."""
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(Tool.of(waits).call({}))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Point(x=1, tags=[Colour.RED]), '{"x":1,"tags":["red"]}'),
        (Size(1.5), '{"width":1.5}'),
        (None, "null"),
        (b"\xff", "_w=="),
        ("half \ud800 a pair", "half ? a pair"),
    ],
)
def test_what_the_model_is_shown(result: Any, text: str) -> None:
    assert Tool.of(google).text(result) == text


def test_results_that_cannot_be_shown() -> None:
    with pytest.raises(ToolError, match="cannot be shown as JSON"):
        Tool.of(google).text(object())


def test_toolsets_are_remembered() -> None:
    toolsets = Toolsets()
    assert toolsets.of([google, numpy]) is toolsets.of((google, numpy))
    unhashable: list[Any] = [functools.partial(google, unit="F")]
    assert [one.name for one in toolsets.of(unhashable)] == ["google"]


@given(st.builds(Point, x=st.integers(-9, 9), tags=st.lists(st.just(Colour.RED))), st.floats(allow_nan=False))
def test_values_survive_the_way_through_json(point: Point, width: float) -> None:
    arguments = json.dumps({"first": 1, "point": point.model_dump(mode="json"), "size": {"width": width}})
    if width in (float("inf"), float("-inf")):
        return
    assert Tool.of(all_kinds).validate(arguments) == {"first": 1, "point": point, "size": Size(width)}
