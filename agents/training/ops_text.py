"""Operations on one string."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from .operations import Op
from .ops_str_lists import AFFIXES, COUNTS, LETTERS

C = "[character|letter]"
CS = "[characters|letters]"
ASK = "[check|tell|determine|test] [whether|if]"


def _edit(name: str, step: str, verb: str, noun: str, code: str, near: tuple[str, ...], **more: object) -> Op:
    return Op(f"edit:{name}", "str", "str", step, verb, noun, (code,), near=tuple(f"edit:{other}" for other in near), var="text", **more)  # type: ignore[arg-type]


OPS = (
    _edit("upper", "Convert the text to upper case.", "[convert|change|turn] {o} [to upper case|to uppercase|into capitals]", "the [upper case|uppercase] form of {x}", "{x}.upper()", ("lower", "title")),
    _edit("lower", "Convert the text to lower case.", "[convert|change|turn] {o} [to lower case|to lowercase|into small letters]", "the [lower case|lowercase] form of {x}", "{x}.lower()", ("upper", "swapcase")),
    _edit("title", "Convert the text to title case.", "[convert|change|turn] {o} [to title case|into title case]", "the title case form of {x}", "{x}.title()", ("upper", "swapcase")),
    _edit("swapcase", "Swap upper and lower case.", "[swap|exchange|flip] [upper and lower case|lower and upper case|the case of every letter|the case of each letter]", "", "{x}.swapcase()", ("upper", "lower")),
    _edit("reverse", "Reverse the text.", f"[reverse {{o}}|spell {{o}} backwards|write {{o}} backwards|reverse the [order of the |]{CS} of {{o}}]", "the reverse of {x}", "{x}[::-1]", ("sortchars",)),
    _edit("novowels", "Remove the vowels.", "[remove|delete|drop|strip out] [all|the|all the] vowels", "{x} without [its|the] vowels", "''.join(ch for ch in {x} if ch not in 'aeiouAEIOU')", ("vowels", "nospaces")),
    _edit("vowels", "Keep only the vowels.", "[keep|keep only|retain|retain only] the vowels", "the vowels [of|in] {x}", "''.join(ch for ch in {x} if ch in 'aeiouAEIOU')", ("novowels", "letters")),
    _edit("nospaces", "Remove the spaces.", "[remove|delete|drop|strip out] [all|the|all the] spaces", "{x} without [its|the] spaces", "{x}.replace(' ', '')", ("novowels",)),
    _edit("letters", "Keep only the letters.", "[keep|keep only|retain|retain only] the letters", "the letters [of|in] {x}", "''.join(ch for ch in {x} if ch.isalpha())", ("digits", "vowels")),
    _edit("digits", "Keep only the digits.", "[keep|keep only|retain|retain only] the digits", "the digits [of|in] {x}", "''.join(ch for ch in {x} if ch.isdigit())", ("letters",)),
    _edit("without", "Delete every '{c}'.", "[delete|erase|remove] [every|each|all] '{c}'[| from {o}]", "", "{x}.replace('{c}', '')", ("replace", "novowels"), params={"c": LETTERS}),
    _edit("replace", "Replace '{a}' by '{b}'.", "[replace|change] [every |each |all |]'{a}' [by|with|to] '{b}'", "", "{x}.replace('{a}', '{b}')", ("without",), params={"a": LETTERS, "b": LETTERS}),
    _edit("underscore", "Replace spaces by '{s}'.", "[replace|change] [every space|each space|all spaces|spaces] [by|with|to] '{s}'", "", "{x}.replace(' ', '{s}')", ("nospaces",), params={"s": ("_", "-", "+", "/", "*", ".")}),
    _edit("head", "Take the first {k} characters.", f"[take|keep|keep only|cut out] the first {{k}} {CS}", f"the first {{k}} {CS} of {{x}}", "{x}[:{k}]", ("tail", "behead"), params={"k": COUNTS}),
    _edit("tail", "Take the last {k} characters.", f"[take|keep|keep only|cut out] the [last|final] {{k}} {CS}", f"the [last|final] {{k}} {CS} of {{x}}", "{x}[-{k}:]", ("head",), params={"k": COUNTS}),
    _edit("behead", "Skip the first {k} characters.", f"[skip|drop|cut off|leave out] the first {{k}} {CS}", f"[all but|everything but] the first {{k}} {CS} of {{x}}", "{x}[{k}:]", ("head", "everyother"), params={"k": COUNTS}),
    _edit("everyother", "Take every second character, starting with the first.", f"[take|keep|keep only|select] every [second|other] {C}, [starting|beginning] with the first", "", "{x}[::2]", ("head",)),
    _edit("sortchars", "Sort the characters.", f"[sort|order|arrange] [the|its|all] {CS} [in ascending order|alphabetically]", "", "''.join(sorted({x}))", ("reverse", "uniquechars")),
    _edit("uniquechars", "Remove duplicate characters, keeping the first of each.", f"[remove|drop|discard] [duplicate|repeated] {CS}, keeping the first [of each|occurrence]", f"the [distinct|unique] {CS} of {{x}}", "''.join(dict.fromkeys({x}))", ("sortchars",)),
    _edit("repeat", "Repeat the text {k} times.", "[repeat {o} {k} times|write {o} {k} times in a row|repeat {o} {k} times in a row]", "", "{x} * {k}", ("doublechars",), params={"k": (2, 3, 4)}),
    _edit("doublechars", "Double each character.", f"[double [each|every] {C}|write [each|every] {C} twice|repeat [each|every] {C} twice]", "", "''.join(ch * 2 for ch in {x})", ("repeat",)),
    _edit("append", "Append '{s}' to the text.", "[append '{s}'|append '{s}' to {o}|[append|add] '{s}' at the end|[append|add] '{s}' to the end of {o}]", "", "{x} + '{s}'", ("prepend",), params={"s": AFFIXES}),
    _edit("prepend", "Put '{s}' in front of the text.", "[put|place] '{s}' [in front of|before|at the start of] {o}", "", "'{s}' + {x}", ("append",), params={"s": AFFIXES}),
    Op("split:words", "str", "strs", "Split the text into words.", "[split|break|cut] {o} [into words|into its words|at spaces|at whitespace]", "the words [of|in] {x}", ("{x}.split()",), near=("split:comma", "split:chars"), var="words"),
    Op("split:comma", "str", "strs", "Split the text at '{s}'.", "[split|break|cut] {o} [at [every|each] '{s}'|at '{s}'|on '{s}'|on [every|each] '{s}']", "", ("{x}.split('{s}')",), params={"s": (",", "-", ";", "/")}, near=("split:words",), var="parts"),
    Op("split:chars", "str", "strs", "Turn the text into a list of characters.", f"[turn|convert|split|break] {{o}} into a list of [its |single |]{CS}", "", ("list({x})",), near=("split:words",), var="chars"),
    Op("len:str", "str", "int", "Count the characters.", "[count [the|its|all] characters|[find|take] the length of {o}|count how many characters there are]", "the length of {x}", ("len({x})",), order="blind", near=("count:words",), var="length"),
    Op(
        "count:vowels",
        "str",
        "int",
        "Count the vowels.",
        "[count|find the number of|work out the number of] [|the ]vowels[| in {o}]",
        "the number of vowels [of|in] {x}",
        ("sum(1 for ch in {x} if ch in 'aeiouAEIOU')", "sum(ch in 'aeiouAEIOU' for ch in {x})"),
        order="blind",
        near=("len:str", "count:digits"),
        var="count",
        block="{out} = 0\nfor ch in {x}:\n    if ch in 'aeiouAEIOU':\n        {out} += 1",
    ),
    Op("count:digits", "str", "int", "Count the digits.", "[count|find the number of|work out the number of] [|the ]digits[| in {o}]", "the number of digits [of|in] {x}", ("sum(1 for ch in {x} if ch.isdigit())", "sum(ch.isdigit() for ch in {x})"), order="blind", near=("len:str", "count:vowels"), var="count"),
    Op(
        "count:capitals",
        "str",
        "int",
        "Count the upper case letters.",
        "[count|find the number of|work out the number of] [|the ][upper case letters|uppercase letters|capital letters|capitals][| in {o}]",
        "the number of [upper case letters|capital letters|capitals] [of|in] {x}",
        ("sum(1 for ch in {x} if ch.isupper())", "sum(ch.isupper() for ch in {x})"),
        order="blind",
        near=("len:str", "count:digits"),
        var="count",
    ),
    Op("count:words", "str", "int", "Count the words of the text.", "[count|find the number of|work out the number of] [|the ]words[| in {o}]", "the number of words [of|in] {x}", ("len({x}.split())",), near=("len:str",), var="count"),
    Op("count:char", "str", "int", "Count how often '{c}' occurs.", "[count|find|work out] how [often|many times] '{c}' [occurs|appears][| in {o}]", "the number of '{c}' [characters|letters] [of|in] {x}", ("{x}.count('{c}')",), params={"c": LETTERS}, order="blind", near=("count:vowels", "len:str"), var="count"),
    Op(
        "tally:chars",
        "str",
        "dict",
        "Map each character to how often it occurs.",
        f"[map|link] [each|every] {C} to [how often it [occurs|appears]|its [count|number of occurrences]]",
        "",
        ("{ch: {x}.count(ch) for ch in {x}}",),
        bare=True,
        block="{out} = {}\nfor ch in {x}:\n    {out}[ch] = {out}.get(ch, 0) + 1",
        near=("split:chars",),
        var="counts",
    ),
    Op("is:palindrome", "str", "bool", "Check whether the text is a palindrome.", f"{ASK} {{o}} [is a palindrome|reads the same backwards|equals its reverse]", "", ("{x} == {x}[::-1]",), bare=True, near=("is:starts",), var="found"),
    Op("is:starts", "str", "bool", "Check whether the text starts with '{c}'.", f"{ASK} {{o}} [starts|begins] with '{{c}}'", "", ("{x}.startswith('{c}')",), params={"c": LETTERS}, near=("is:ends", "is:contains"), var="found"),
    Op("is:ends", "str", "bool", "Check whether the text ends with '{c}'.", f"{ASK} {{o}} [ends with|ends in] '{{c}}'", "", ("{x}.endswith('{c}')",), params={"c": LETTERS}, near=("is:starts",), var="found"),
    Op("is:contains", "str", "bool", "Check whether the text contains '{c}'.", f"{ASK} [{{o}} contains|there is|{{o}} has] [|the letter |a letter ]'{{c}}'", "", ("'{c}' in {x}",), params={"c": LETTERS}, near=("is:starts",), var="found"),
)
