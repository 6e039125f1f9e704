"""Operations on lists of strings."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from .operations import Op

W = "[words|strings]"
ONE = "[word|string]"
EACH = f"[each|every] {ONE}"
KEEP = "[keep|keep only|select|pick out|retain]"
DROP = "[drop|remove|discard|leave out|throw away]"
LETTERS = tuple("abcdefghilmnoprstuw")
LENGTHS = tuple(range(2, 8))
COUNTS = tuple(range(2, 6))

# name, condition, negated condition, group phrase, predicate of one element, params, near
PREDICATES = (
    ("longer", "len({e}) > {k}", "len({e}) <= {k}", f"{W} [longer than {{k}} [characters|letters]|with more than {{k}} [characters|letters]|that are longer than {{k}} [characters|letters]]", "longer than {k} characters", {"k": LENGTHS}, ("shorter", "length")),
    ("shorter", "len({e}) < {k}", "len({e}) >= {k}", f"{W} [shorter than {{k}} [characters|letters]|with fewer than {{k}} [characters|letters]|that are shorter than {{k}} [characters|letters]]", "shorter than {k} characters", {"k": LENGTHS}, ("longer", "length")),
    ("length", "len({e}) == {k}", "len({e}) != {k}", f"{W} [of|with] exactly {{k}} [characters|letters]", "exactly {k} characters long", {"k": LENGTHS}, ("longer", "shorter")),
    ("minlength", "len({e}) >= {k}", "len({e}) < {k}", f"{W} [of|with] at least {{k}} [characters|letters]", "at least {k} characters long", {"k": LENGTHS}, ("longer", "length")),
    ("starts", "{e}.startswith('{c}')", "not {e}.startswith('{c}')", f"{W} [that start|that begin|starting|beginning] with '{{c}}'", "starting with '{c}'", {"c": LETTERS}, ("ends", "contains")),
    ("ends", "{e}.endswith('{c}')", "not {e}.endswith('{c}')", f"{W} [that end|ending] [with|in] '{{c}}'", "ending with '{c}'", {"c": LETTERS}, ("starts", "contains")),
    ("contains", "'{c}' in {e}", "'{c}' not in {e}", f"{W} [that contain|containing] [|the letter ]'{{c}}'", "containing '{c}'", {"c": LETTERS}, ("starts", "ends")),
    ("palindrome", "{e} == {e}[::-1]", "{e} != {e}[::-1]", f"[{W} that are palindromes|palindromes|{W} that read the same backwards]", "palindromes", {}, ("length",)),
)


def _predicate_ops() -> list[Op]:
    ops = []
    for name, cond, neg, group, be, params, near in PREDICATES:
        ops.append(Op(f"keep:{name}", "strs", "strs", f"Keep the words that are {be}.", f"{KEEP} [|the |all ]{group}", f"the {group} [in|of|among] {{x}}", cond=cond, params=params, near=(*tuple(f"keep:{other}" for other in near), f"drop:{name}"), var="kept"))
        if name != "length":
            ops.append(Op(f"drop:{name}", "strs", "strs", f"Remove the words that are {be}.", f"{DROP} [|the |all |any ]{group}", f"[what is left|what remains] after removing the {group} from {{x}}", cond=neg, params=params, near=(f"keep:{name}",), var="kept"))
        ops.append(
            Op(
                f"count:{name}",
                "strs",
                "int",
                f"Count the words that are {be}.",
                f"[count|find the number of|work out the number of] [|the ]{group}",
                f"the [number|count] of {group} [in|among] {{x}}",
                code=(f"sum(1 for {{e}} in {{x}} if {cond})", f"len([{{e}} for {{e}} in {{x}} if {cond}])"),
                params=params,
                order="blind",
                near=tuple(f"count:{other}" for other in near),
                var="count",
                block=f"{{out}} = 0\nfor {{e}} in {{x}}:\n    if {cond}:\n        {{out}} += 1",
            )
        )
    for name, cond, be, every in (
        ("starts", "{e}.startswith('{c}')", "[starts|begins] with '{c}'", "starting with '{c}'"),
        ("contains", "'{c}' in {e}", "contains [|the letter ]'{c}'", "containing '{c}'"),
        ("longer", "len({e}) > {k}", "[is longer than {k}|has more than {k}] [characters|letters]", "longer than {k} characters"),
    ):
        params = {"k": LENGTHS} if name == "longer" else {"c": LETTERS}
        ask = "[check|tell|determine|test] [whether|if]"
        ops.append(Op(f"any:{name}", "strs", "bool", f"Check whether any word is {every}.", f"{ask} [any|at least one] {ONE} {be}", code=(f"any({cond} for {{e}} in {{x}})",), params=params, order="blind", near=(f"all:{name}",), var="found"))
        ops.append(Op(f"all:{name}", "strs", "bool", f"Check whether every word is {every}.", f"{ask} every {ONE} {be}", code=(f"all({cond} for {{e}} in {{x}})",), params=params, order="blind", near=(f"any:{name}",), var="found"))
    return ops


AFFIXES = ("!", "?", "-", "_", "s", "x", "ed", "er", "re", "un")
MAPS = (
    # name, gives, item expression, step, verb, noun, params, near
    ("upper", "strs", "{e}.upper()", "Convert each word to upper case.", f"[convert|change|turn] [{EACH}|all {W}] [to upper case|to uppercase|into capitals]", "", {}, ("lower", "capitalize")),
    ("lower", "strs", "{e}.lower()", "Convert each word to lower case.", f"[convert|change|turn] [{EACH}|all {W}] [to lower case|to lowercase|into small letters]", "", {}, ("upper",)),
    ("capitalize", "strs", "{e}.capitalize()", "Capitalize each word.", f"[capitalize [{EACH}|all {W}]|capitalize the first letter of {EACH} and make the rest lower case]", f"the capitalized {W} of {{x}}", {}, ("upper",)),
    ("reverse", "strs", "{e}[::-1]", "Reverse each word.", f"[reverse {EACH}|reverse the letters of {EACH}|spell {EACH} backwards|write {EACH} backwards]", f"the reversed {W} of {{x}}", {}, ("upper",)),
    ("head", "strs", "{e}[:{k}]", "Cut each word to its first {k} characters.", f"[cut|shorten|reduce] {EACH} to its first {{k}} [characters|letters]", f"the first {{k}} [characters|letters] of {EACH} of {{x}}", {"k": COUNTS}, ("tail",)),
    ("tail", "strs", "{e}[-{k}:]", "Cut each word to its last {k} characters.", f"[cut|shorten|reduce] {EACH} to its [last|final] {{k}} [characters|letters]", f"the [last|final] {{k}} [characters|letters] of {EACH} of {{x}}", {"k": COUNTS}, ("head",)),
    ("append", "strs", "{e} + '{s}'", "Append '{s}' to each word.", f"[append '{{s}}' to|append '{{s}}' to the end of|add '{{s}}' to the end of] {EACH}", "", {"s": AFFIXES}, ("prepend",)),
    ("prepend", "strs", "'{s}' + {e}", "Put '{s}' in front of each word.", f"[put '{{s}}' in front of|put '{{s}}' before|prepend '{{s}}' to] {EACH}", "", {"s": AFFIXES}, ("append",)),
    ("twice", "strs", "{e} * 2", "Repeat each word twice.", f"[repeat {EACH} twice|write {EACH} twice in a row|double {EACH} by repeating it twice]", "", {}, ("reverse",)),
    ("replace", "strs", "{e}.replace('{a}', '{b}')", "Replace '{a}' by '{b}' in each word.", f"[replace|change] [every |]'{{a}}' [by|with|to] '{{b}}' in {EACH}", "", {"a": LETTERS, "b": LETTERS}, ("without",)),
    ("without", "strs", "{e}.replace('{c}', '')", "Delete every '{c}' from each word.", f"[delete|erase|strip] [every|each|all] '{{c}}' [from|in] {EACH}", "", {"c": LETTERS}, ("replace",)),
    ("length", "ints", "len({e})", "Take the length of each word.", f"[[take|compute|find] the length of {EACH}|replace {EACH} [by|with] its length]", "the lengths of {x}", {}, ("vowels",)),
    ("vowels", "ints", "sum(ch in 'aeiou' for ch in {e})", "Count the vowels in each word.", f"[count the vowels [in|of] {EACH}|find the number of vowels [in|of] {EACH}|replace {EACH} [by|with] its number of vowels]", "the vowel counts of {x}", {}, ("length",)),
    ("countchar", "ints", "{e}.count('{c}')", "Count the '{c}' in each word.", f"[count [how often '{{c}}' occurs|the '{{c}}' characters|how many times '{{c}}' occurs] in {EACH}]", "", {"c": LETTERS}, ("length", "vowels")),
)

NONE = "[, or '' if [there is none|there are none|nothing is left|it is empty]|, using '' [if|when] there is none]"
LISTS = (
    Op("sort:alpha", "strs", "strs", "Sort the words alphabetically.", "[sort|order|arrange] {o} [alphabetically|in alphabetical order|from a to z]", "{x} in alphabetical order", ("sorted({x})",), order="only", near=("sort:zeta", "sort:length"), var="ordered"),
    Op("sort:zeta", "strs", "strs", "Sort the words in reverse alphabetical order.", "[sort|order|arrange] {o} [in reverse alphabetical order|reverse alphabetically|from z to a]", "{x} in reverse alphabetical order", ("sorted({x}, reverse=True)",), order="only", near=("sort:alpha", "reverse:strs"), var="ordered"),
    Op(
        "sort:length",
        "strs",
        "strs",
        "Sort the words by length, shortest first.",
        "[sort|order|arrange] {o} [by length, shortest first|from shortest to longest|by increasing length]",
        "{x} sorted by increasing length",
        ("sorted({x}, key=len)",),
        order="only",
        near=("sort:alpha", "sort:longest"),
        var="ordered",
    ),
    Op(
        "sort:longest",
        "strs",
        "strs",
        "Sort the words by length, longest first.",
        "[sort|order|arrange] {o} [by length, longest first|from longest to shortest|by decreasing length]",
        "{x} sorted by decreasing length",
        ("sorted({x}, key=len, reverse=True)",),
        order="only",
        near=("sort:length", "sort:zeta"),
        var="ordered",
    ),
    Op("reverse:strs", "strs", "strs", "Reverse the order of the words.", "[reverse the order of {o}|put {o} in reverse order|turn the order of {o} around]", f"the {W} of {{x}} in reverse order", ("{x}[::-1]", "list(reversed({x}))"), order="only", near=("sort:zeta", "sort:alpha"), var="backwards"),
    Op(
        "unique:strs",
        "strs",
        "strs",
        "Remove duplicate words, keeping the first of each.",
        f"[remove|drop|discard] [duplicates|duplicate {W}|repeated {W}], keeping the first [of each|occurrence]",
        f"the [distinct|unique] {W} [of|in] {{x}}",
        ("list(dict.fromkeys({x}))",),
        block="{out} = []\nfor {e} in {x}:\n    if {e} not in {out}:\n        {out}.append({e})",
        near=("sort:alpha",),
        var="unique",
    ),
    Op("take:firstwords", "strs", "strs", "Take the first {k} words.", f"[take|keep|keep only|select] the first {{k}} {W}", f"the first {{k}} {W} [of|in] {{x}}", ("{x}[:{k}]",), params={"k": COUNTS}, near=("take:lastwords", "skip:firstwords"), var="taken"),
    Op("take:lastwords", "strs", "strs", "Take the last {k} words.", f"[take|keep|keep only|select] the [last|final] {{k}} {W}", f"the [last|final] {{k}} {W} [of|in] {{x}}", ("{x}[-{k}:]",), params={"k": COUNTS}, near=("take:firstwords",), var="taken"),
    Op("skip:firstwords", "strs", "strs", "Skip the first {k} words.", f"[skip|drop|remove|leave out] the first {{k}} {W}", f"[all but|everything but] the first {{k}} {W} of {{x}}", ("{x}[{k}:]",), params={"k": COUNTS}, near=("take:firstwords",), var="rest"),
    Op("every:strs", "strs", "strs", "Take every second word, starting with the first.", f"[take|keep|keep only|select] every [second|other] {ONE}, [starting|beginning] with the first", "", ("{x}[::2]",), near=("take:firstwords",), var="taken"),
    Op("join:with", "strs", "str", "Join the words with '{s}'.", "[join|concatenate|string together|connect] {o} [with '{s}'|using '{s}'|separated by '{s}'|with '{s}' between them]", "", ("'{s}'.join({x})",), params={"s": (",", "-", "+", ";", "/", " ", "|", "_", ", ", " and ")}, near=("join:plain",), var="text"),
    Op("join:plain", "strs", "str", "Join the words without a separator.", "[join|concatenate|string together|connect] {o} [without a separator|with nothing between them|into one string without separator]", "the concatenation of {x}", ("''.join({x})",), near=("join:with",), var="text"),
    Op(
        "initials:strs",
        "strs",
        "str",
        "Join the first letters of the words.",
        f"[join|concatenate|string together] the [first letters|initials] of [{{o}}|all {W}|the {W}]",
        "the [joined|concatenated] [initials|first letters] of {x}",
        ("''.join({e}[:1] for {e} in {x})",),
        near=("join:plain",),
        var="initials",
        block="{out} = ''\nfor {e} in {x}:\n    {out} += {e}[:1]",
    ),
    Op(
        "pick:longest",
        "strs",
        "str",
        "Find the longest word (the first of equals), or '' if there is none.",
        f"[find|take|pick] the [longest {ONE}|{ONE} with the most letters] [(the first of equals)|(the first one on a tie)]{NONE}",
        "",
        ("max({x}, key=len, default='')",),
        near=("pick:shortest",),
        var="longest",
    ),
    Op(
        "pick:shortest",
        "strs",
        "str",
        "Find the shortest word (the first of equals), or '' if there is none.",
        f"[find|take|pick] the [shortest {ONE}|{ONE} with the fewest letters] [(the first of equals)|(the first one on a tie)]{NONE}",
        "",
        ("min({x}, key=len, default='')",),
        near=("pick:longest",),
        var="shortest",
    ),
    Op(
        "pick:alphafirst",
        "strs",
        "str",
        "Find the alphabetically first word, or '' if there is none.",
        f"[find|take|pick] the [alphabetically first {ONE}|{ONE} that comes first alphabetically|{ONE} that comes first in alphabetical order]{NONE}",
        f"the alphabetically first {ONE} [of|in|among] {{x}}",
        ("min({x}, default='')",),
        order="blind",
        near=("pick:alphalast", "pick:firstword"),
        var="smallest",
    ),
    Op(
        "pick:alphalast",
        "strs",
        "str",
        "Find the alphabetically last word, or '' if there is none.",
        f"[find|take|pick] the [alphabetically last {ONE}|{ONE} that comes last alphabetically|{ONE} that comes last in alphabetical order]{NONE}",
        f"the alphabetically last {ONE} [of|in|among] {{x}}",
        ("max({x}, default='')",),
        order="blind",
        near=("pick:alphafirst", "pick:lastword"),
        var="largest",
    ),
    Op("pick:firstword", "strs", "str", "Take the first word, or '' if there is none.", f"[take|pick|find|get] the [first|very first] {ONE}{NONE}", f"the [first|very first] {ONE} of {{x}}", ("{x}[0] if {x} else ''",), bare=True, near=("pick:lastword",), var="first"),
    Op("pick:lastword", "strs", "str", "Take the last word, or '' if there is none.", f"[take|pick|find|get] the [last|final] {ONE}{NONE}", f"the [last|final] {ONE} of {{x}}", ("{x}[-1] if {x} else ''",), bare=True, near=("pick:firstword",), var="last"),
    Op("len:strs", "strs", "int", "Count the words.", f"[count {{o}}|count how many {W} there are|count how many {W} [are left|remain]|find how many {W} there are]", f"the [number|count] of {W} in {{x}}", ("len({x})",), order="blind", near=("distinct:strs", "letters:total"), var="count"),
    Op("distinct:strs", "strs", "int", "Count the distinct words.", f"[count|find the number of] [|the ][distinct|different|unique] {W}", f"the [number|count] of [distinct|different|unique] {W} in {{x}}", ("len(set({x}))",), order="blind", near=("len:strs",), var="count"),
    Op(
        "letters:total",
        "strs",
        "int",
        "Add up the lengths of the words.",
        f"[add up|sum|sum up|total] the lengths of [{{o}}|all {W}|the {W}]",
        "the [total|combined|summed] length of {x}",
        ("sum(len({e}) for {e} in {x})", "sum(map(len, {x}))"),
        order="blind",
        near=("len:strs",),
        var="total",
        block="{out} = 0\nfor {e} in {x}:\n    {out} += len({e})",
    ),
    Op(
        "has:duplicatewords",
        "strs",
        "bool",
        "Check whether a word occurs more than once.",
        f"[check|tell|determine|test] [whether|if] [a|any|some] {ONE} [occurs more than once|appears more than once|is repeated]",
        "",
        ("len(set({x})) != len({x})", "len({x}) > len(set({x}))"),
        bare=True,
        order="blind",
        near=("distinct:strs",),
        var="found",
    ),
    Op(
        "tally:strs",
        "strs",
        "dict",
        "Map each word to how often it occurs.",
        f"[map|link] {EACH} to [how often it [occurs|appears]|its [count|number of occurrences]]",
        "",
        ("{{e}: {x}.count({e}) for {e} in {x}}",),
        bare=True,
        block="{out} = {}\nfor {e} in {x}:\n    {out}[{e}] = {out}.get({e}, 0) + 1",
        near=("tally:lengths",),
        var="counts",
    ),
    Op("tally:lengths", "strs", "dict", "Map each word to its length.", f"[map|link] {EACH} to its [length|number of letters|number of characters]", "", ("{{e}: len({e}) for {e} in {x}}",), block="{out} = {}\nfor {e} in {x}:\n    {out}[{e}] = len({e})", near=("tally:strs",), var="lengths"),
    Op("group:length", "strs", "groups", "Group the words into lists by length.", "[group|divide|split] {o} [into lists by|by] [length|their length|number of letters]", "", (), block="{out} = {}\nfor {e} in {x}:\n    {out}.setdefault(len({e}), []).append({e})", near=("group:initial",), var="groups"),
    Op(
        "group:initial",
        "strs",
        "groups",
        "Group the words into lists by first letter.",
        "[group|divide|split] {o} [into lists by|by] [first letter|their first letter|initial letter|their initial letter]",
        "",
        (),
        block="{out} = {}\nfor {e} in {x}:\n    {out}.setdefault({e}[:1], []).append({e})",
        near=("group:length",),
        var="groups",
    ),
)

OPS = (
    *_predicate_ops(),
    *(
        Op(f"map:{name}" if gives == "strs" else f"measure:{name}", "strs", gives, step, verb, noun, item=item, params=params, near=tuple(f"map:{other}" if gives == "strs" else f"measure:{other}" for other in near), var="mapped" if gives == "strs" else "sizes")
        for name, gives, item, step, verb, noun, params, near in MAPS
    ),
    *LISTS,
)
