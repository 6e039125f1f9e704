"""Plausible wrong attempts: how a program for a chain goes wrong, and what a critic would say."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .chains import is_valid
from .operations import Op, Use, by_input, by_name, use
from .render import Style, render


@dataclass(frozen=True)
class Mistake:
    """A wrong program.

    Attributes:
        code: its source.
        hint: what to change, one or two short sentences.
        uses: the chain that it follows, when the mistake is one of meaning.
    """

    code: str
    hint: str
    uses: tuple[Use, ...] | None = None


def _drop(uses: Sequence[Use], rng: random.Random) -> tuple[list[Use], str] | None:
    if len(uses) < 2:
        return None
    index = rng.randrange(len(uses))
    return [*uses[:index], *uses[index + 1 :]], f"A step is missing: {uses[index].step}"


def _swap(uses: Sequence[Use], rng: random.Random) -> tuple[list[Use], str] | None:
    if len(uses) < 2:
        return None
    index = rng.randrange(len(uses) - 1)
    first, second = uses[index], uses[index + 1]
    return [*uses[:index], second, first, *uses[index + 2 :]], f"Wrong order. First: {first.step} Then: {second.step}"


def _alike(op: Op, rng: random.Random) -> Op | None:
    """Return an operation easily taken for `op`: a near one, or another of its family."""
    near = [by_name()[name] for name in op.near if name in by_name()]
    near = [other for other in near if (other.takes, other.gives) == (op.takes, op.gives)]
    if near and rng.random() < 0.75:
        return rng.choice(near)
    if rng.random() < 0.7:
        family = [other for name, members in by_input(op.takes) if name == op.family for other in members]
    else:
        family = [other for _, members in by_input(op.takes) for other in members]
    family = [other for other in family if other is not op and other.gives == op.gives]
    return rng.choice(family) if family else None


def _replace(uses: Sequence[Use], rng: random.Random) -> tuple[list[Use], str] | None:
    index = rng.randrange(len(uses))
    other = _alike(uses[index].op, rng)
    if other is None:
        return None
    known = dict(uses[index].args)
    wrong = use(other, rng)
    kept = tuple(
        (key, known.get(key, value)) if known.get(key) in other.params[key] else (key, value)
        for key, value in wrong.args
    )
    return [*uses[:index], Use(other, kept), *uses[index + 1 :]], f"Wrong step. Needed: {uses[index].step}"


def _parameter(uses: Sequence[Use], rng: random.Random) -> tuple[list[Use], str] | None:
    places = [(index, place) for index, item in enumerate(uses) for place in range(len(item.args))]
    if not places:
        return None
    index, place = rng.choice(places)
    item = uses[index]
    key, value = item.args[place]
    choices = [choice for choice in item.op.params[key] if choice != value]
    close = [
        choice for choice in choices if isinstance(choice, int) and isinstance(value, int) and abs(choice - value) == 1
    ]
    changed = rng.choice(close if close and rng.random() < 0.6 else choices)
    args = (*item.args[:place], (key, changed), *item.args[place + 1 :])
    return [*uses[:index], Use(item.op, args), *uses[index + 1 :]], f"Wrong step. Needed: {item.step}"


def _extra(uses: Sequence[Use], rng: random.Random) -> tuple[list[Use], str] | None:
    index = rng.randrange(len(uses) + 1)
    takes = uses[index].op.takes if index < len(uses) else uses[-1].op.gives
    same = [op for _, members in by_input(takes) for op in members if op.gives == takes]
    if not same:
        return None
    added = use(rng.choice(same), rng)
    return [*uses[:index], added, *uses[index:]], f"Not asked for: {added.step}"


MEANING = ((_drop, 0.28), (_replace, 0.34), (_parameter, 0.2), (_swap, 0.1), (_extra, 0.08))


def wrong_chain(uses: Sequence[Use], rng: random.Random) -> tuple[tuple[Use, ...], str] | None:
    """Return a chain that is wrong in a plausible way and the hint that corrects it, or None."""
    kind = rng.choices([kind for kind, _ in MEANING], [weight for _, weight in MEANING])[0]
    made = kind(uses, rng)
    if made is None:
        return None
    chain, hint = made
    if not is_valid([item.op for item in chain]) or chain[0].op.takes != uses[0].op.takes:
        return None
    return tuple(chain), hint


def _syntax(code: str, rng: random.Random) -> tuple[str, str] | None:
    places = [match.start() for match in re.finditer(r"[)\]:]", code)]
    place = rng.choice(places)
    return code[:place] + code[place + 1 :], "The program does not parse: fix the syntax."


def _undefined(code: str, rng: random.Random) -> tuple[str, str] | None:
    argument = code[6 : code.index(")")]
    places = [match.start() for match in re.finditer(rf"\b{argument}\b", code)][1:]
    other = rng.choice(
        [
            name
            for name in ("xs", "numbers", "words", "text", "items", "data", "result", "n")
            if not re.search(rf"\b{name}\b", code)
        ]
    )
    if not places:
        return None
    place = rng.choice(places)
    return code[:place] + other + code[place + len(argument) :], f"The name {other} is not defined."


def _no_return(code: str, rng: random.Random) -> tuple[str, str] | None:
    head, _, value = code.rpartition("return ")
    return f"{head}result = {value}", "The result is never returned."


def _no_default(code: str, rng: random.Random) -> tuple[str, str] | None:
    for pattern in (r", default=(0|'')", r" if \w+ else (0|'')"):
        found = re.search(pattern, code)
        if found:
            return code[: found.start()] + code[found.end() :], f"Give {found.group(1)} when there is none."
    return None


def _method(code: str, rng: random.Random) -> tuple[str, str] | None:
    swaps = (
        (".startswith(", ".beginswith("),
        (".endswith(", ".finishwith("),
        (".split(", ".words("),
        (".replace(", ".remove("),
        (".items()", ""),
        (".values()", ""),
        ("sum(", "max("),
        ("sorted(", "list("),
        ("len(", "sum("),
        (" > ", " >= "),
        (" < ", " <= "),
        (" == ", " != "),
    )
    known = [(old, new) for old, new in swaps if old in code]
    if not known:
        return None
    old, new = rng.choice(known)
    return code.replace(
        old, new, 1
    ), f"Write {old.strip(' (')} rather than {new.strip(' (')}." if new else f"Use {old}."


WRITING = ((_syntax, 0.12), (_undefined, 0.2), (_no_return, 0.12), (_no_default, 0.26), (_method, 0.3))


def _still_true(hint: str, uses: Sequence[Use]) -> bool:
    """Return whether `hint`, made for an already wrong chain, also holds for the right one."""
    return hint.startswith(("Wrong step", "A step is missing")) and any(hint.endswith(item.step) for item in uses)


def make_mistake(uses: Sequence[Use], style: Style, rng: random.Random) -> Mistake | None:
    """Return a program that is probably wrong for `uses`, or None; the caller runs it to be sure."""
    if rng.random() < 0.8:
        made = wrong_chain(uses, rng)
        if made is None:
            return None
        chain, hint = made
        if rng.random() < 0.12 and (again := wrong_chain(chain, rng)) is not None and _still_true(again[1], uses):
            chain, hint = again[0], f"{hint} {again[1]}"
        return Mistake(render(chain, style), hint, tuple(chain))
    code = render(uses, style)
    broken = rng.choices([kind for kind, _ in WRITING], [weight for _, weight in WRITING])[0](code, rng)
    if broken is None or broken[0] == code:
        return None
    return Mistake(*broken)
