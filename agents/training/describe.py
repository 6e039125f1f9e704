"""English for a chain of operations: clauses, noun phrases, and the sentences around them.

What is not meant to be vague (see `vague`) says what it takes: "sum up the values" alone could be a list or a
dictionary, and then the sentences are opened by naming it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .grammar import split
from .operations import Use
from .vague import Vague

FIRST_OBJECTS = {
    "ints": ("the numbers", "the list", "the integers", "the values"),
    "strs": ("the words", "the list", "the strings"),
    "str": ("the text", "the string"),
    "int": ("the number", "n"),
    "dict": ("the dictionary",),
}
LATER_OBJECTS = {
    "ints": ("them", "the numbers", "the result", "the values"),
    "strs": ("them", "the words", "the result", "the strings"),
    "str": ("it", "the text", "the result", "the string"),
    "int": ("it", "the number", "the result"),
    "dict": ("it", "the dictionary"),
}
GIVEN = {
    "ints": ("a list of integers", "a list of numbers", "a list of ints"),
    "strs": ("a list of words", "a list of strings"),
    "str": ("a text", "a string"),
    "int": ("an integer", "a number"),
    "dict": ("a dictionary from words to numbers", "a dictionary of counts"),
}
BASES = {
    "ints": ("the list", "a list of integers", "the given numbers", "the list of numbers"),
    "strs": ("the list", "a list of words", "the given words", "the list of strings"),
    "str": ("the text", "a string", "the given text"),
    "int": ("the number", "an integer", "the given number"),
    "dict": ("the dictionary", "a dictionary"),
}
LATER_BASES = {
    "ints": ("the result", "what is left", "these numbers"),
    "strs": ("the result", "what is left", "these words"),
    "str": ("the result", "the text"),
    "int": ("the result",),
    "dict": ("the result",),
}
ASK_NOUN = ("return {np}", "compute {np}", "give back {np}", "find {np}", "work out {np}")
TWO = (
    "{0}, then {1}.",
    "{0} and then {1}.",
    "{0}, and {1}.",
    "first {0}, then {1}.",
    "{0}. Then {1}.",
    "{0}; then {1}.",
    "{0}. After that, {1}.",
)
THREE = (
    "{0}, {1}, and {2}.",
    "{0}, then {1}, then {2}.",
    "first {0}, then {1}, and finally {2}.",
    "{0} and {1}. Then {2}.",
    "{0}; {1}; {2}.",
    "{0}, then {1}. Finally, {2}.",
)
FOUR = (
    "{0}, {1}, {2}, and {3}.",
    "first {0}, then {1}, then {2}, and finally {3}.",
    "{0}, then {1}. After that, {2}, and {3}.",
    "{0} and {1}. Then {2} and {3}.",
    "{0}; {1}; {2}; {3}.",
    "{0}, then {1}, then {2}. Finally, {3}.",
)
GIVEN_OPENINGS = (
    "given {given}, {text}",
    "for {given}, {text}",
    "take {given}. {Text}",
    "write a function that takes {given}. {Text}",
    "from {given}: {text}",
)
OPENINGS = ("{text}", "{text}", "{text}", *GIVEN_OPENINGS)
NAMED = {
    "ints": r"\b(numbers?|integers?|ints|values?)\b",
    "strs": r"\b(words?|strings?)\b",
    "str": r"\b(text|string)\b",
    "int": r"\b(number|integer|n)\b",
    "dict": r"\bdictionary\b",
}
"""What must occur in a description of what takes this type, so that the reader knows what it takes."""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentences(text: str) -> str:
    parts = text.split(". ")
    return ". ".join(_capital(part) for part in parts)


def _pick(pattern: str, owner: str, held_out: bool, rng: random.Random) -> str | None:
    pool = split(pattern, owner)[1 if held_out else 0]
    return rng.choice(pool) if pool else None


def _clause(use: Use, first: bool, held_out: bool, rng: random.Random, group: Vague | None = None) -> str:
    pattern, owner = (group.verb, group.owner) if group else (use.op.verb, use.op.name)
    phrase = _pick(pattern, owner, held_out, rng)
    assert phrase is not None, use.op.name
    objects = (FIRST_OBJECTS if first else LATER_OBJECTS)[use.op.takes]
    plural = "{o} are" in phrase or "of {o} is" in phrase
    thing = rng.choice([o for o in objects if not plural or o not in ("the list", "the result")])
    return use.fill(phrase, o=thing)


def _noun_phrase(uses: Sequence[Use], first: bool, held_out: bool, rng: random.Random) -> str | None:
    """Return one noun phrase for all of `uses`, innermost first, or None where English is unclear."""
    text = rng.choice((BASES if first else LATER_BASES)[uses[0].op.takes])
    for index, use in enumerate(uses):
        pattern = use.op.noun
        phrase = _pick(pattern, use.op.name + " noun", held_out, rng) if pattern else None
        if phrase is None or (index > 0 and not phrase.endswith("{x}")):
            return None
        text = use.fill(phrase, x=text)
    return text


def _last_with_noun(uses: Sequence[Use], held_out: bool, rng: random.Random) -> tuple[int, str] | None:
    """Return (number of operations told as clauses, noun phrase for the rest), or None."""
    count = len(uses)
    nested = rng.choice((1, 2, 2, 3)) if count > 1 else 1
    start = max(0, count - nested)
    phrase = _noun_phrase(uses[start:], start == 0, held_out, rng)
    if phrase is None or len(phrase) > 110:
        return None
    return start, rng.choice(ASK_NOUN).format(np=phrase)


def _opened(text: str, takes: str, whole: bool, rng: random.Random) -> str:
    """Return the sentences with an opening; one that names the input where nothing else does, or by chance."""
    named = re.search(NAMED[takes], text) is not None
    if whole and named:
        return text
    opening = rng.choice(OPENINGS if named else GIVEN_OPENINGS)
    return opening.format(text=text, Text=_capital(text), given=rng.choice(GIVEN[takes]))


def describe(uses: Sequence[Use], held_out: bool, rng: random.Random, vague: tuple[int, Vague] | None = None) -> str:
    """Return one or two English sentences for `uses`, all phrasings from one side of the split.

    `vague` says the use at its index by a phrase that has other readings as well. A value for "there is none" that
    the sentences leave out is added as a last, short one.
    """
    clauses: list[str] = []
    noun = _last_with_noun(uses, held_out, rng) if rng.random() < 0.45 else None
    place, group = vague or (-1, None)
    if noun is not None and place >= noun[0]:
        noun = None
    told = noun[0] if noun is not None else len(uses)
    clauses = [
        _clause(use, index == 0, held_out, rng, group if index == place else None)
        for index, use in enumerate(uses[:told])
    ]
    if noun is not None:
        clauses.append(noun[1])
    elif rng.random() < 0.12 and len(clauses) < 4:
        clauses.append("return the result")
    pool = {1: ("{0}.",), 2: TWO, 3: THREE, 4: FOUR}[len(clauses)]
    text = rng.choice(pool).format(*clauses)
    text = _sentences(_opened(text, uses[0].op.takes, noun is not None and told == 0, rng))
    for use in uses:
        if ", or 0 if" in use.op.step and " 0" not in text:
            text += " Give 0 if there is none."
        elif ", or '' if" in use.op.step and "''" not in text:
            text += " Give '' if there is none."
    return text
