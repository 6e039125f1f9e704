"""What the sandbox reads and compares: examples, plain values through the pipe, equality that minds types."""

from __future__ import annotations

import pytest

from agentmux.agents.sandbox import decode, parse_example, parse_examples, run_examples, same
from agentmux.agents.sandbox_child import NotPlain, encode
from agentmux.errors import ConfigError


@pytest.mark.parametrize(
    "source",
    [
        "",
        "f(1)",
        "f(1) = 1",
        "f(1) == 1 == 1",
        "f(1) != 2",
        "g(1) == 1",
        "f(x) == 1",
        "f(1) == g(1)",
        "f(*[1]) == 1",
        "f(x=1) == 1",
        "1 == f(1)",
        "f(1) == __import__('os').getpid()",
        "f(1) == 1; import os",
        "f(1) == 1 and True",
        "f([].append) == 1",
        "f({[]: 1}) == 1",
        "f(1) == " + "[" * 500 + "]" * 500,
        "f(1) == \0",
        "f(" + "-" * 100_000 + "1) == 1",
    ],
)
async def test_malformed_example_is_one_clear_error(source: str) -> None:
    with pytest.raises(ConfigError, match=r"not of the form f\(\[1, 2\]\) == 3"):
        parse_example(source)
    with pytest.raises(ConfigError) as caught:
        await run_examples("raise SystemExit", ["f(1) == 1", source])
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_no_examples_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one example"):
        parse_examples([])


def test_example_is_brought_to_its_normal_form() -> None:
    example = parse_example(" f( [1,2] , -1.5 )==  'a' ")
    assert example.expression == "f([1, 2], -1.5) == 'a'"
    assert example.expected == "a"


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**70), 1.5, float("inf"), 1 - 2j, "a\n\ud800", b"\x00\xff"),
        *([1, [2]], (1,), {1, 2}, frozenset({"a"}), {}, {(1, 2): {"x": [None]}}),
    ],
)
def test_plain_values_survive_the_pipe(value: object) -> None:
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)
    assert same(back, value)


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        (2.0, 2, True),
        (True, 1, False),
        (1, True, False),
        ([1, 0], [True, False], False),
        ((1, 2), [1, 2], False),
        ({1: "a"}, {True: "a"}, False),
        ({"a": 1}, {"a": True}, False),
        ({1}, {True}, False),
        ({1}, frozenset({1}), False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        ("1", 1, False),
        (None, 0, False),
        (float("nan"), float("nan"), False),
    ],
)
def test_equality_minds_types(value: object, expected: object, equal: bool) -> None:
    assert same(value, expected) is equal


@pytest.mark.parametrize("value", [object(), len, range(3), type, [object()], ...])
def test_other_objects_do_not_cross(value: object) -> None:
    with pytest.raises(NotPlain):
        encode(value)
