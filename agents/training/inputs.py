"""Random arguments for the programs of the trade, and running those programs on them.

Only programs that this package wrote itself are run here, in this process. What a model wrote
is run by `sandbox`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .operations import Use

_WORDS = (
    "apple pear plum fig lemon melon berry grape olive onion carrot potato bean rice bread butter salt sugar "
    "honey milk river lake sea hill stone sand cloud rain snow wind storm sun moon star night day dawn level "
    "noon radar civic kayak cat dog horse mouse bird fish whale tiger sheep goat duck owl bee ant spider otter "
    "raven swan crow wolf bear red blue green yellow purple orange black white grey pink table chair lamp door "
    "window floor roof wall garden tree run walk jump read write sing dance paint cook sleep think learn teach "
    "build open close start stop begin end eve anna otto bob dad mom pop wow tenet rotor solo echo alpha beta "
    "gamma delta omega zebra quick brown lazy jolly code test file line word list data node graph stack queue "
    "heap byte loop index value string number a i to of it"
)
LEXICON = tuple(_WORDS.split())
VALUE_LIMIT = 200
"""Longest ``repr`` of a value in an example, in characters."""


def _int(rng: random.Random, near: Sequence[int]) -> int:
    if near and rng.random() < 0.4:
        return rng.choice(near) + rng.choice((-1, 0, 0, 1))
    return rng.randint(-12, 25) if rng.random() < 0.85 else rng.randint(-60, 130)


def _word(rng: random.Random, letters: Sequence[str]) -> str:
    word = rng.choice(LEXICON)
    if letters and rng.random() < 0.45:
        letter = rng.choice(letters)
        word = rng.choice((letter + word, word + letter, word[:2] + letter + word[2:], letter * 2 + word[:2]))
    case = rng.random()
    return word.upper() if case < 0.06 else word.capitalize() if case < 0.15 else word


def _text(rng: random.Random, letters: Sequence[str], separators: Sequence[str]) -> str:
    words = [_word(rng, letters) for _ in range(rng.choice((0, 1, 1, 2, 3, 3, 4)))]
    words = [str(rng.randint(0, 99)) if rng.random() < 0.12 else word for word in words]
    if rng.random() < 0.1:
        words = [words[0] + words[0][::-1]] if words else []
    return rng.choice(separators).join(words)


def make_input(uses: Sequence[Use], rng: random.Random) -> object:
    """Return one argument that suits the first of `uses` and lies near the parameters of all."""
    near = [value for use in uses for _, value in use.args if isinstance(value, int)]
    letters = [value for use in uses for key, value in use.args if isinstance(value, str) and key in "abc"]
    kind = uses[0].op.takes
    if kind == "int":
        return _int(rng, near) if rng.random() < 0.6 else rng.randint(0, 60)
    if kind == "ints":
        size = rng.choice((0, 1, 2, 3, 4, 5, 6, 6, 7, 8))
        values = [_int(rng, near) for _ in range(size)]
        return [rng.choice(values) if rng.random() < 0.2 else value for value in values]
    if kind == "strs":
        size = rng.choice((0, 1, 2, 3, 4, 5, 6, 6, 7))
        words = [_word(rng, letters) for _ in range(size)]
        return [rng.choice(words) if rng.random() < 0.2 else word for word in words]
    if kind == "dict":
        return {_word(rng, letters): _int(rng, near) for _ in range(rng.choice((0, 1, 2, 3, 4, 5)))}
    separators = [" ", " ", " "] + [
        str(value) for use in uses for key, value in use.args if use.op.family == "split"
    ] * 3
    return _text(rng, letters, separators)


def load(source: str) -> Callable[..., object]:
    """Return the function that `source` defines. Only for programs written by this package."""
    namespace: dict[str, object] = {}
    exec(compile(source, "<program>", "exec"), namespace)
    function = namespace["f"]
    assert callable(function)
    return function


@dataclass(frozen=True)
class Example:
    """One call with its right value, both as Python literals."""

    argument: str
    expected: str

    @property
    def expression(self) -> str:
        """The example as it is given to agents: ``f(<argument>) == <expected>``."""
        return f"f({self.argument}) == {self.expected}"


def run_examples(source: str, examples: Sequence[Example]) -> list[tuple[str | None, str | None]]:
    """Return, for each example, (``repr`` of the value, None) or (None, ``TypeName: message``)."""
    try:
        function = load(source)
    except Exception as error:
        return [(None, describe_error(error))] * len(examples)
    results: list[tuple[str | None, str | None]] = []
    for example in examples:
        try:
            results.append((repr(function(eval(example.argument))), None))
        except Exception as error:
            results.append((None, describe_error(error)))
    return results


def describe_error(error: BaseException) -> str:
    """Return ``TypeName: message`` on one line, the same on every Python version where possible."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}".splitlines()[0] if message else type(error).__name__


def make_examples(source: str, uses: Sequence[Use], rng: random.Random, count: int) -> list[Example] | None:
    """Return `count` different examples of `source`, or None when its values tell too little.

    Ordinary arguments come first; an empty one, if there is one, is never the first.
    """
    function = load(source)
    examples: dict[str, str] = {}
    for _ in range(count * 4):
        argument = make_input(uses, rng)
        shown = repr(argument)
        if shown in examples or len(shown) > VALUE_LIMIT:
            continue
        try:
            value = repr(function(argument))
        except ValueError:
            continue
        if len(value) <= VALUE_LIMIT:
            examples[shown] = value
        if len(examples) == count:
            break
    kinds = len(set(examples.values()))
    if len(examples) < count or kinds < (2 if uses[-1].op.gives == "bool" else 3):
        return None
    ordered = sorted(examples.items(), key=lambda item: len(item[0]) <= 2)
    return [Example(argument, expected) for argument, expected in ordered]
