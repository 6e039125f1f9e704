"""Python source for a chain of operations, in several idiomatic styles.

A `Style` fixes every choice of names and idioms from one seed, so that a wrong attempt and its
correction differ only where they must.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .grammar import bucket
from .operations import Use

ARGUMENTS = {
    "ints": ("numbers", "nums", "values", "xs"),
    "strs": ("words", "strings", "items", "texts"),
    "str": ("text", "s", "string"),
    "int": ("n", "number", "value"),
    "dict": ("data", "d", "mapping"),
}
ELEMENTS = {"ints": ("n", "x", "num", "v"), "strs": ("w", "word", "s", "item")}
LINE_CHARS = 64
"""Longest nested expression; beyond it the value gets a name."""


@dataclass(frozen=True)
class Style:
    """All free choices of one program: `seed` any int, `plain` takes the first of everything."""

    seed: int
    plain: bool = False

    def chance(self, key: str) -> float:
        """Return this style's number in [0, 1) for `key`."""
        return 0.0 if self.plain else bucket(f"{self.seed}\0{key}")

    def choose(self, key: str, choices: Sequence[str], first: float = 0.7) -> str:
        """Return one of `choices`, the first one with probability `first`."""
        draw = self.chance(key)
        if draw < first or len(choices) == 1:
            return choices[0]
        return choices[1 + int((draw - first) / (1 - first) * (len(choices) - 1))]


def random_style(rng: random.Random) -> Style:
    """Return a style drawn by `rng`."""
    return Style(rng.getrandbits(48))


@lru_cache(maxsize=100_000)
def _atomic(text: str) -> bool:
    if text.isidentifier():
        return True
    node = ast.parse(text, mode="eval").body
    return isinstance(node, ast.Call | ast.Subscript | ast.ListComp | ast.Dict | ast.DictComp | ast.Constant)


@dataclass
class _Writer:
    """Builds one program line by line. `current` is the expression that holds the value so far."""

    style: Style
    argument: str
    current: str
    lines: list[str]
    used: set[str]

    def element(self, type_name: str) -> str:
        names = [name for name in ELEMENTS.get(type_name, ("item",)) if name not in self.used]
        return self.style.choose(f"element {type_name}", names)

    def name(self, wanted: str) -> str:
        for name in (wanted, "result", "output", "answer"):
            if name != self.current and name not in (self.argument, "n", "x", "w"):
                return name
        return wanted + "s"

    def assign(self, wanted: str) -> None:
        """Give the value so far a name."""
        name = self.name(wanted)
        self.lines.append(f"{name} = {self.current}")
        self.current = name

    def subject(self) -> str:
        return self.current if _atomic(self.current) else f"({self.current})"


def _names(use: Use, writer: _Writer) -> dict[str, str]:
    return {"e": writer.element(use.op.takes), "key": "key", "v": writer.style.choose("dict value", ("value", "v"))}


def _wants_block(use: Use, style: Style) -> bool:
    op = use.op
    if not op.code and not op.cond and not op.item:
        return True
    return bool(op.block) and style.chance(f"block {op.name}") > 0.85


def _block(use: Use, writer: _Writer) -> None:
    """Write the statements of `use`; its value is then in a variable."""
    if not writer.current.isidentifier():
        writer.assign("items" if use.op.takes != "str" else "chars")
    names = _names(use, writer)
    out = writer.name(use.op.var)
    writer.lines += use.fill(use.op.block, x=writer.current, out=out, **names).split("\n")
    writer.current = out


def _expression(use: Use, writer: _Writer) -> str:
    """Return the expression of `use` over the value so far."""
    op, names = use.op, _names(use, writer)
    if op.cond:
        return use.fill("[{e} for {e} in {x} if " + op.cond + "]", x=writer.subject(), **names)
    if op.item:
        return use.fill("[" + op.item + " for {e} in {x}]", x=writer.subject(), **names)
    if op.bare and not writer.current.isidentifier():
        writer.assign("items" if op.takes in ("ints", "strs") else "value")
    code = writer.style.choose(f"code {op.name}", op.code, first=0.8)
    return use.fill(code, x=writer.subject(), **names)


def _fused(first: Use, second: Use, writer: _Writer) -> str | None:
    """Return one comprehension for a filter followed by a map (or by a sum), or None."""
    if not first.op.cond or first.op.gives != second.op.takes:
        return None
    names = _names(first, writer)
    condition = first.fill(first.op.cond, **names)
    if second.op.item:
        item = second.fill(second.op.item, **names)
        return f"[{item} for {names['e']} in {writer.subject()} if {condition}]"
    if second.op.name == "sum:ints":
        return f"sum({names['e']} for {names['e']} in {writer.subject()} if {condition})"
    return None


def render(uses: Sequence[Use], style: Style) -> str:
    """Return the source of ``def f(...)`` that applies `uses` in order, ending in a newline."""
    argument = style.choose("argument", ARGUMENTS[uses[0].op.takes])
    writer = _Writer(style, argument, argument, [], {argument})
    nested = style.chance("nested") > 0.55
    index = 0
    while index < len(uses):
        use = uses[index]
        last = index == len(uses) - 1
        if nested and not last and (both := _fused(use, uses[index + 1], writer)) is not None:
            writer.current = both
            index += 1
            use = uses[index]
            last = index == len(uses) - 1
        elif _wants_block(use, style):
            _block(use, writer)
        else:
            writer.current = _expression(use, writer)
        too_long = len(writer.current) > LINE_CHARS
        if not last and not writer.current.isidentifier() and (not nested or too_long):
            writer.assign(use.op.var)
        index += 1
    lines = [f"def {FUNCTION}({argument}):", *(f"    {line}" for line in writer.lines), f"    return {writer.current}"]
    return "\n".join(lines) + "\n"


FUNCTION = "f"
"""What every program of the trade is called."""


def reference(uses: Sequence[Use]) -> str:
    """Return the plainest program for `uses`; its values define what is right."""
    return render(uses, Style(0, plain=True))
