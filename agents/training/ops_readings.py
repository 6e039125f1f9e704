"""Operations that are the rarer readings of a vague phrase (see `vague`); each can also be said exactly."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from .operations import Op
from .ops_int_lists import BOUND, COUNTS, KEEP, N
from .ops_str_lists import LETTERS, NONE, ONE
from .ops_str_lists import W as WORDS

TAKE = "[take|keep|keep only|select]"
CUT = "[remove|drop|discard]"


def _repeats(kind: str, many: str, one: str, x: str, last: str, once: str) -> tuple[Op, Op]:
    """Return the two rarer ways to remove duplicates from `kind`: keep the last of each, keep what occurs once."""
    family = "edit" if kind == "str" else "unique"
    tail = "chars" if kind == "str" else kind
    return (
        Op(f"{family}:last{tail}", kind, kind, f"Remove duplicate {x}, keeping the last of each.", f"{CUT} [duplicates|duplicate {many}|repeated {many}], keeping the last [of each|occurrence]", "", (last,), near=(f"{family}:once{tail}",), var="unique"),
        Op(f"{family}:once{tail}", kind, kind, f"Remove every {one} that occurs more than once.", f"{CUT} [every|each|all] [|the ]{many} that [occur|appear] [more than once|several times]", "", (once,), bare=True, near=(f"{family}:last{tail}",), var="unique"),
    )


INT_LISTS = (
    *_repeats("ints", N, "number", "numbers", "list(dict.fromkeys({x}[::-1]))[::-1]", "[{e} for {e} in {x} if {x}.count({e}) == 1]"),
    Op("keep:inside", "ints", "ints", "Keep the numbers that are strictly between {low} and {high}.", f"{KEEP} [|the |all ]{N} [strictly between {{low}} and {{high}}|between {{low}} and {{high}} exclusive]", "", cond="{low} < {e} < {high}", params={"low": BOUND, "high": BOUND}, near=("keep:between",), var="kept"),
    Op("every:secondints", "ints", "ints", "Take every second number, starting with the second.", f"{TAKE} every [second|other] [number|value|integer], [starting|beginning] with the second", "", ("{x}[1::2]",), near=("every:ints",), var="taken"),
    Op("top:ascending", "ints", "ints", "Take the {k} largest numbers, smallest first.", f"[take|keep|find|select] the {{k}} [largest|biggest|greatest] {N}, smallest first", "", ("sorted({x})[-{k}:]",), params={"k": COUNTS}, order="blind", near=("top:largest",), var="top"),
    Op("grow:end", "ints", "ints", "Append {k} at the end of the list.", "[append|add|put] {k} [at the end|as the last element]", "", ("{x} + [{k}]", "[*{x}, {k}]"), params={"k": tuple(range(1, 13))}, near=("grow:front",), var="longer"),
    Op("grow:front", "ints", "ints", "Put {k} at the front of the list.", "[add|put|insert] {k} [at the front|at the start|as the first element]", "", ("[{k}] + {x}", "[{k}, *{x}]"), params={"k": tuple(range(1, 13))}, near=("grow:end",), var="longer"),
    Op("differ:absolute", "ints", "ints", "Take the absolute differences between neighbouring numbers.", f"[compute|take|work out] the absolute [differences|difference] between [consecutive|neighbouring|adjacent] {N}", "", ("[abs(b - a) for a, b in zip({x}, {x}[1:])]",), bare=True, near=("differ:next",), var="differences"),
    Op("map:truncdiv", "ints", "ints", "Divide each number by {k}, rounding towards zero.", f"divide [[each|every] [number|value|integer]|all {N}] by {{k}}, [rounding|and round] [towards|toward] zero", "", item="int({e} / {k})", params={"k": tuple(range(2, 11))}, near=("map:floordiv",), var="mapped"),
)
STR_LISTS = (
    *_repeats("strs", WORDS, "word", "words", "list(dict.fromkeys({x}[::-1]))[::-1]", "[{e} for {e} in {x} if {x}.count({e}) == 1]"),
    Op("every:secondstrs", "strs", "strs", "Take every second word, starting with the second.", f"{TAKE} every [second|other] {ONE}, [starting|beginning] with the second", "", ("{x}[1::2]",), near=("every:strs",), var="taken"),
    Op("keep:anycase", "strs", "strs", "Keep the words containing '{c}' in any case.", f"{KEEP} [|the |all ]{WORDS} [that contain|containing] '{{c}}' [in any case|in upper or lower case]", "", cond="'{c}' in {e}.lower()", params={"c": LETTERS}, near=("keep:contains",), var="kept"),
    Op("pick:longestlast", "strs", "str", "Find the longest word (the last of equals), or '' if there is none.", f"[find|take|pick] the [longest {ONE}|{ONE} with the most letters] [(the last of equals)|(the last one on a tie)]{NONE}", "", ("max({x}[::-1], key=len, default='')",), near=("pick:longest",), var="longest"),
    Op("pick:shortestlast", "strs", "str", "Find the shortest word (the last of equals), or '' if there is none.", f"[find|take|pick] the [shortest {ONE}|{ONE} with the fewest letters] [(the last of equals)|(the last one on a tie)]{NONE}", "", ("min({x}[::-1], key=len, default='')",), near=("pick:shortest",), var="shortest"),
)
TEXT = (
    *_repeats("str", "[characters|letters]", "character", "characters", "''.join(dict.fromkeys({x}[::-1]))[::-1]", "''.join(ch for ch in {x} if {x}.count(ch) == 1)"),
    Op("edit:secondchars", "str", "str", "Take every second character, starting with the second.", f"{TAKE} every [second|other] [character|letter], [starting|beginning] with the second", "", ("{x}[1::2]",), near=("edit:everyother",), var="text"),
    Op("edit:sortdown", "str", "str", "Sort the characters in descending order.", "[sort|order|arrange] [the|its|all] [characters|letters] [in descending order|reverse alphabetically]", "", ("''.join(sorted({x}, reverse=True))",), near=("edit:sortchars",), var="text"),
    Op("edit:capitalize", "str", "str", "Make the first letter upper case and the rest lower case.", "make the first [letter|character] [of {o}|of the whole of {o}] [upper case and the rest lower case|uppercase and the rest lowercase]", "", ("{x}.capitalize()",), near=("edit:title", "edit:upper"), var="text"),
    Op("count:letters", "str", "int", "Count the letters, and nothing else.", "[count|find the number of|work out the number of] [|the ]alphabetic [characters|letters][| in {o}]", "the number of alphabetic [characters|letters] [of|in] {x}", ("sum(1 for ch in {x} if ch.isalpha())", "sum(ch.isalpha() for ch in {x})"), order="blind", near=("len:str",), var="count"),
)
NUMBER = (
    Op("math:truncdiv", "int", "int", "Divide the number by {k}, rounding towards zero.", "divide [{o}|the value of {o}] by {k}, [rounding|and round] [towards|toward] zero", "", ("int({x} / {k})",), params={"k": tuple(range(2, 11))}, near=("math:floordiv",), var="value"),
    Op("span:fromzero", "int", "ints", "List the numbers from 0 to the number.", "[list|collect|write out] [the|all|all the] [numbers|integers] from 0 to {o} inclusive", "", ("list(range({x} + 1))",), near=("span:upto",), var="numbers"),
)
OPS = (*INT_LISTS, *STR_LISTS, *TEXT, *NUMBER)
