"""Phrases that can be read in two or three ways, as people write them. A task's examples decide which one is meant.

The commonest reading comes first: it is what the planner plans and the coder tries first, because nobody can know
better before the examples have been run.
"""

# ruff: noqa: E501

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from .operations import Use, by_name
from .ops_int_lists import EACH, KEEP, N
from .ops_mixed import ENTRIES
from .ops_readings import CUT, TAKE
from .ops_str_lists import EACH as EACH_WORD
from .ops_str_lists import ONE
from .ops_str_lists import W as WORDS

READING_WEIGHTS = {2: (0.56, 0.44), 3: (0.5, 0.28, 0.22)}
"""How likely each reading is what is meant, by number of readings."""

CS = "[characters|letters]"
SORT = "[sort {o}|order {o}|arrange {o}|put {o} in order|sort {o} in order]"
REPEATED = f"{CUT} [duplicates|repetitions|all duplicates|all repetitions|the duplicates|the repetitions]"


@dataclass(frozen=True)
class Vague:
    """A phrase pattern and its readings: operations with the same types and parameters, the commonest first."""

    name: str
    readings: tuple[str, ...]
    verb: str

    @property
    def owner(self) -> str:
        """The name under which its phrasings are split into train and held-out."""
        return "vague " + self.name


VAGUE = (
    Vague("sort numbers", ("sort:asc", "sort:desc", "sort:abs"), SORT),
    Vague("sort words", ("sort:alpha", "sort:length", "sort:zeta"), SORT),
    Vague("sort by length", ("sort:length", "sort:longest"), "[sort|order|arrange] {o} [by length|by their length|according to length]"),
    Vague("sort characters", ("edit:sortchars", "edit:sortdown"), f"[sort|order|arrange] [|the |its |all ]{CS}"),
    Vague("repeated numbers", ("unique:ints", "unique:lastints", "unique:onceints"), REPEATED),
    Vague("repeated words", ("unique:strs", "unique:laststrs", "unique:oncestrs"), REPEATED),
    Vague("repeated characters", ("edit:uniquechars", "edit:lastchars", "edit:oncechars"), f"{CUT} [|all |the ][duplicate|repeated] {CS}"),
    Vague("between", ("keep:between", "keep:inside"), f"{KEEP} [|the |all ]{N} [between {{low}} and {{high}}|from {{low}} to {{high}}]"),
    Vague("up to", ("keep:le", "keep:lt"), f"{KEEP} [|the |all ]{N} [up to|that go up to|that are up to] {{k}}"),
    Vague("from", ("keep:ge", "keep:gt"), f"{KEEP} [|the |all ]{N} [from {{k}} on|from {{k}} up|from {{k}} upwards]"),
    Vague("entries from", ("entries:ge", "entries:gt"), f"{KEEP} [|the |all ]{ENTRIES} with values [from {{k}} on|from {{k}} up|from {{k}} upwards]"),
    Vague("every second number", ("every:ints", "every:secondints"), f"{TAKE} every [second|other] [number|value|integer]"),
    Vague("every second word", ("every:strs", "every:secondstrs"), f"{TAKE} every [second|other] {ONE}"),
    Vague("every second character", ("edit:everyother", "edit:secondchars"), f"{TAKE} every [second|other] [character|letter]"),
    Vague("largest", ("top:largest", "top:ascending"), f"[take|keep|find|select] the {{k}} [largest|biggest|greatest] {N}"),
    Vague("add number", ("map:add", "grow:end", "grow:front"), "add {k} [|to {o}|to the list|to the whole list]"),
    Vague("differences", ("differ:next", "differ:absolute"), f"[compute|take|work out] the [differences|difference] between [consecutive|neighbouring|adjacent] {N}"),
    Vague("divide numbers", ("map:floordiv", "map:truncdiv"), f"[divide|integer-divide] [{EACH}|all {N}] by {{k}}"),
    Vague("divide number", ("math:floordiv", "math:truncdiv"), "[divide|integer-divide] [{o}|the value of {o}] by {k}"),
    Vague("add text", ("edit:append", "edit:prepend"), "add '{s}' [|to {o}|to the whole of {o}]"),
    Vague("add to words", ("map:append", "map:prepend"), f"[add|attach] '{{s}}' to [{EACH_WORD}|all {WORDS}]"),
    Vague("shorten words", ("map:head", "map:tail"), f"[cut|shorten|reduce] [{EACH_WORD}|all {WORDS}] to {{k}} {CS}"),
    Vague("shorten text", ("edit:head", "edit:tail"), f"[cut|shorten|reduce] {{o}} to {{k}} {CS}"),
    Vague("letter in word", ("keep:contains", "keep:anycase"), f"{KEEP} [|the |all ]{WORDS} with [a|an|the letter] '{{c}}'"),
    Vague("word length", ("keep:length", "keep:minlength"), f"{KEEP} [|the |all ]{WORDS} [of|with] {{k}} {CS}"),
    Vague("longest", ("pick:longest", "pick:longestlast"), f"[find|take|pick] the [longest {ONE}|{ONE} with the most letters], or '' if there is none"),
    Vague("shortest", ("pick:shortest", "pick:shortestlast"), f"[find|take|pick] the [shortest {ONE}|{ONE} with the fewest letters], or '' if there is none"),
    Vague("split", ("split:words", "split:chars"), "[split|break|cut] {o} [up|apart|into parts|into its parts]"),
    Vague("capitals", ("edit:title", "edit:capitalize", "edit:upper"), "[capitalize|write capitals into|put capitals into] [{o}|the whole of {o}]"),
    Vague("letters", ("count:letters", "len:str"), "[count|find the number of|work out the number of] [|the |all ]letters[| in {o}]"),
    Vague("numbers up to", ("span:upto", "span:below", "span:fromzero"), "[list|collect|write out] [the|all|all the] [numbers|integers] up to {o}"),
    Vague("keys", ("list:sortedkeys", "list:byvalue", "list:bytop"), "[list|collect|take] [the|all|all the] keys [in order|in sorted order|sorted]"),
    Vague("keys by value", ("list:byvalue", "list:bytop"), "[list|collect|take] [the|all|all the] keys [sorted|ordered] by value"),
)  # fmt: skip


@cache
def kin() -> dict[str, str]:
    """Return operation name -> one name for all operations that share a vague phrase with it, also through others.

    Train and held-out are told apart by these, so that all readings of a task are on one side.
    """
    names = {name: name for group in VAGUE for name in group.readings}
    for group in VAGUE:
        merged = {names[name] for name in group.readings}
        kept = min(merged)
        names = {name: kept if other in merged else other for name, other in names.items()}
    return names


@cache
def _groups_of(name: str) -> tuple[Vague, ...]:
    return tuple(group for group in VAGUE if name in group.readings)


def vague_at(uses: Sequence[Use], rng: random.Random) -> tuple[int, Vague] | None:
    """Return a place in the chain that can be said vaguely, and how; None where there is none."""
    places = [(index, group) for index, item in enumerate(uses) for group in _groups_of(item.op.name)]
    return rng.choice(places) if places else None


def readings(uses: Sequence[Use], index: int, group: Vague) -> tuple[tuple[Use, ...], ...]:
    """Return the chain in each reading of the phrase at `index`, parameters kept, the commonest first."""
    item = uses[index]
    return tuple((*uses[:index], Use(by_name()[name], item.args), *uses[index + 1 :]) for name in group.readings)
