"""The trade: every operation the demonstration models know, and how it is said and written.

An `Op` has a type it takes and one it gives, bracket-grammar patterns for English (see `grammar`),
one canonical sentence for the plan, and Python. Types: ``int``, ``str``, ``ints``, ``strs``,
``dict`` (str to int), and ``bool``, ``idict`` (int to int), ``groups`` which only end a chain.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True)
class Op:
    """One operation of the trade.

    Attributes:
        name: unique, ``family:variant``.
        takes, gives: type names.
        step: the canonical sentence of plans and of the critic's hints.
        verb: pattern of imperative phrases; ``{o}`` is the object.
        noun: pattern of noun phrases with ``{x}`` last, or "" where English has none.
        code: expressions over ``{x}``, canonical first; every one gives the same value.
        cond, item: for filters and maps instead of `code`: over the element ``{e}``.
        block: statements over ``{x}`` that set ``{out}``, as another style (or the only one).
        params: parameter name to choices.
        order: "only" when it merely reorders, "blind" when it ignores order, else "".
        bare: whether ``{x}`` occurs more than once in `code`, so that it must be a variable.
        near: names of operations that are easily taken for this one.
        var: name for the variable that holds its result.
    """

    name: str
    takes: str
    gives: str
    step: str
    verb: str
    noun: str = ""
    code: tuple[str, ...] = ()
    cond: str = ""
    item: str = ""
    block: str = ""
    params: dict[str, tuple[object, ...]] = field(default_factory=dict, hash=False)
    order: str = ""
    bare: bool = False
    near: tuple[str, ...] = ()
    var: str = "result"

    @property
    def family(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Use:
    """An operation with its parameters filled in."""

    op: Op
    args: tuple[tuple[str, object], ...] = ()

    def fill(self, template: str, **more: str) -> str:
        """Return `template` with parameters and `more` put in; other braces are left alone."""
        text = template
        for key, value in self.args:
            text = text.replace("{" + key + "}", str(value))
        for key, value in more.items():
            text = text.replace("{" + key + "}", value)
        return text

    @property
    def step(self) -> str:
        """The canonical plan sentence."""
        return self.fill(self.op.step)


def use(op: Op, rng: random.Random) -> Use:
    """Return `op` with parameters drawn by `rng`; two parameters of one operation differ."""
    args: list[tuple[str, object]] = []
    for key, choices in op.params.items():
        taken = {value for _, value in args}
        args.append((key, rng.choice([choice for choice in choices if choice not in taken])))
    if {"low", "high"} <= op.params.keys():
        low, high = sorted(value for _, value in args)  # type: ignore[type-var]
        args = [("low", low), ("high", high)]
    return Use(op, tuple(args))


@cache
def operations() -> tuple[Op, ...]:
    """Return all operations, in a fixed order."""
    from . import ops_int_lists, ops_mixed, ops_readings, ops_str_lists, ops_text

    return (*ops_int_lists.OPS, *ops_str_lists.OPS, *ops_text.OPS, *ops_mixed.OPS, *ops_readings.OPS)


@cache
def by_name() -> dict[str, Op]:
    """Return the operations by name."""
    return {op.name: op for op in operations()}


@cache
def by_input(type_name: str) -> tuple[tuple[str, tuple[Op, ...]], ...]:
    """Return the operations that take `type_name`, grouped by family."""
    families: dict[str, list[Op]] = {}
    for op in operations():
        if op.takes == type_name:
            families.setdefault(op.family, []).append(op)
    return tuple((family, tuple(members)) for family, members in families.items())
