"""Which operations may follow each other, and which chains training never sees."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .grammar import HELD_OUT_SHARE, bucket
from .operations import Op, Use, by_input, use
from .vague import kin

TERMINAL = frozenset({"bool", "idict", "groups"})
INPUT_WEIGHTS = {"ints": 40, "strs": 27, "str": 18, "int": 8, "dict": 7}
LENGTH_WEIGHTS = {1: 10, 2: 33, 3: 36, 4: 21}
FAMILY_WEIGHTS = {
    "keep": 3.0,
    "map": 3.0,
    "sort": 2.0,
    "edit": 4.0,
    "math": 4.0,
    "take": 1.5,
    "entries": 2.5,
    "drop": 1.2,
    "span": 2.0,
    "split": 2.0,
    "any": 0.5,
    "all": 0.5,
    "has": 0.5,
    "is": 0.8,
    "text": 0.8,
    "test": 1.0,
}
_REPEATABLE = frozenset({"keep", "map", "math", "edit", "entries", "values"})
_SMALL = frozenset({"math:digitsum", "math:digitcount", "math:mod"})
_SMALL_FROM_INPUT = frozenset({"math:cap", "math:add", "math:sub", "math:double"})


def composition(uses: Sequence[Use]) -> tuple[str, ...]:
    """Return what must differ between train and held-out: the operations, those of one vague phrase under one name."""
    return tuple(kin().get(item.op.name, item.op.name) for item in uses)


def is_held_out(names: Sequence[str]) -> bool:
    """Return whether the composition of these operations belongs to the held-out side."""
    named = "\0".join(kin().get(name, name) for name in names)
    return bucket("composition\0" + named) < HELD_OUT_SHARE


def may_follow(before: Sequence[Op], op: Op) -> bool:
    """Return whether `op` makes sense after `before` (types, and no step that could not matter)."""
    if not before:
        return True
    last = before[-1]
    if last.gives != op.takes or last.gives in TERMINAL or op in before:
        return False
    if last.family == op.family and op.family not in _REPEATABLE:
        return False
    if last.order == "only" and op.order in ("only", "blind"):
        return False
    if op.family == "span" and op.name != "span:digits" and last.name not in _SMALL:
        return len(before) == 1 and last.name in _SMALL_FROM_INPUT
    if op.name in ("map:cube", "map:square", "math:cube", "math:square") and any(
        o.name.endswith(("cube", "square", "product:ints")) for o in before
    ):
        return False
    return {last.name, op.name} != {"keep:even", "keep:odd"} and {last.name, op.name} != {
        "keep:positive",
        "keep:negative",
    }


def is_valid(ops: Sequence[Op]) -> bool:
    """Return whether `ops` form a chain of the trade."""
    return bool(ops) and all(may_follow(ops[:index], op) for index, op in enumerate(ops))


def _next(before: Sequence[Op], takes: str, rng: random.Random) -> Op | None:
    families = by_input(takes)
    if not families:
        return None
    weights = [FAMILY_WEIGHTS.get(family, 1.0) for family, _ in families]
    for _ in range(8):
        _, members = rng.choices(families, weights)[0]
        op = rng.choice(members)
        if may_follow(before, op):
            return op
    return None


def sample_chain(rng: random.Random, held_out: bool, length: int | None = None) -> tuple[Use, ...]:
    """Return a random chain of one to four operations from one side of the split."""
    while True:
        wanted = length or rng.choices(list(LENGTH_WEIGHTS), list(LENGTH_WEIGHTS.values()))[0]
        takes = rng.choices(list(INPUT_WEIGHTS), list(INPUT_WEIGHTS.values()))[0]
        ops: list[Op] = []
        while len(ops) < wanted:
            op = _next(ops, takes, rng)
            if op is None:
                break
            ops.append(op)
            takes = op.gives
        if len(ops) == wanted and is_held_out([op.name for op in ops]) == held_out:
            return tuple(use(op, rng) for op in ops)
