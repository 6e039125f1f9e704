"""Operations on lists of ints."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from .operations import Op

N = "[numbers|integers|values]"
SMALL = tuple(range(2, 10))
BOUND = tuple(range(-5, 21))
COUNTS = tuple(range(2, 6))
KEEP = "[keep|keep only|select|pick out|retain]"
DROP = "[drop|remove|discard|leave out|throw away]"

# name, condition, negated condition, group phrase, predicate of one element, params, near
PREDICATES = (
    ("even", "{e} % 2 == 0", "{e} % 2 != 0", f"[even {N}|{N} that are even]", "even", {}, ("odd",)),
    ("odd", "{e} % 2 != 0", "{e} % 2 == 0", f"[odd {N}|{N} that are odd]", "odd", {}, ("even",)),
    ("positive", "{e} > 0", "{e} <= 0", f"[positive {N}|{N} that are positive|{N} above zero]", "positive", {}, ("negative",)),
    ("negative", "{e} < 0", "{e} >= 0", f"[negative {N}|{N} that are negative|{N} below zero]", "negative", {}, ("positive",)),
    ("gt", "{e} > {k}", "{e} <= {k}", f"{N} [|that are ][greater than|above|larger than|bigger than] {{k}}", "greater than {k}", {"k": BOUND}, ("ge", "lt")),
    ("lt", "{e} < {k}", "{e} >= {k}", f"{N} [|that are ][less than|below|smaller than] {{k}}", "less than {k}", {"k": BOUND}, ("le", "gt")),
    ("ge", "{e} >= {k}", "{e} < {k}", f"{N} [|that are ][of at least {{k}}|at least {{k}}|greater than or equal to {{k}}|not less than {{k}}]", "at least {k}", {"k": BOUND}, ("gt", "le")),
    ("le", "{e} <= {k}", "{e} > {k}", f"{N} [|that are ][of at most {{k}}|at most {{k}}|less than or equal to {{k}}|not greater than {{k}}]", "at most {k}", {"k": BOUND}, ("lt", "ge")),
    ("div", "{e} % {k} == 0", "{e} % {k} != 0", f"[{N} [|that are ]divisible by {{k}}|multiples of {{k}}]", "divisible by {k}", {"k": (3, 4, 5, 6, 7)}, ("even", "odd")),
    ("ne", "{e} != {k}", "{e} == {k}", f"{N} [|that are ][different from|other than|not equal to] {{k}}", "not equal to {k}", {"k": tuple(range(0, 10))}, ("gt", "lt")),
    ("between", "{low} <= {e} <= {high}", "not {low} <= {e} <= {high}", f"{N} [between {{low}} and {{high}} inclusive|from {{low}} to {{high}} inclusive]", "between {low} and {high}", {"low": BOUND, "high": BOUND}, ("ge", "le")),
)


def _predicate_ops() -> list[Op]:
    ops = []
    for name, cond, neg, group, be, params, near in PREDICATES:
        pick = f"{KEEP} [|the |all ]{group}"
        ops.append(Op(f"keep:{name}", "ints", "ints", f"Keep the numbers that are {be}.", pick, f"the {group} [in|of|among] {{x}}", cond=cond, params=params, near=(*tuple(f"keep:{other}" for other in near), f"drop:{name}"), var="kept"))
        if name in ("even", "odd", "negative", "gt", "lt", "div", "between"):
            ops.append(Op(f"drop:{name}", "ints", "ints", f"Remove the numbers that are {be}.", f"{DROP} [|the |all |any ]{group}", f"[what is left|what remains] after removing the {group} from {{x}}", cond=neg, params=params, near=(f"keep:{name}",), var="kept"))
        ops.append(
            Op(
                f"count:{name}",
                "ints",
                "int",
                f"Count the numbers that are {be}.",
                f"[count|find the number of|work out the number of] [|the |all ]{group}",
                f"the [number|count] of {group} [in|among] {{x}}",
                code=(f"sum(1 for {{e}} in {{x}} if {cond})", f"len([{{e}} for {{e}} in {{x}} if {cond}])"),
                params=params,
                order="blind",
                near=tuple(f"count:{other}" for other in near),
                var="count",
                block=f"{{out}} = 0\nfor {{e}} in {{x}}:\n    if {cond}:\n        {{out}} += 1",
            )
        )
        if name not in ("ne", "between"):
            one = f"[any|at least one] [number|value|integer] is {be}"
            every = f"[every number is|every value is|all numbers are|all values are] {be}"
            ops.append(Op(f"any:{name}", "ints", "bool", f"Check whether any number is {be}.", f"[check|tell|determine|test] [whether|if] {one}", code=(f"any({cond} for {{e}} in {{x}})",), params=params, order="blind", near=(f"all:{name}",), var="found"))
            ops.append(Op(f"all:{name}", "ints", "bool", f"Check whether every number is {be}.", f"[check|tell|determine|test] [whether|if] {every}", code=(f"all({cond} for {{e}} in {{x}})",), params=params, order="blind", near=(f"any:{name}",), var="found"))
    return ops


EACH = "[each|every] [number|value|integer]"
MAPS = (
    # name, item expression, step, verb, noun, params, near
    ("double", "{e} * 2", "Double each number.", f"[double|multiply by two] [{EACH}|all {N}]", f"the [doubled {N}|doubles] of {{x}}", {}, ("square",)),
    ("square", "{e} ** 2", "Square each number.", f"square [{EACH}|all {N}|all the {N}]", "the [squares|squared values] of {x}", {}, ("double", "cube")),
    ("cube", "{e} ** 3", "Cube each number.", f"cube [{EACH}|all {N}|all the {N}]", "the [cubes|cubed values] of {x}", {}, ("square",)),
    ("negate", "-{e}", "Negate each number.", f"[negate|flip the sign of|change the sign of] [{EACH}|all {N}]", f"the [negated {N}|negatives] of {{x}}", {}, ("abs",)),
    ("abs", "abs({e})", "Take the absolute value of each number.", f"[take the absolute value of {EACH}|replace {EACH} [by|with] its absolute value|make {EACH} non-negative by taking its absolute value]", "the absolute values of {x}", {}, ("negate",)),
    ("add", "{e} + {k}", "Add {k} to each number.", f"[add {{k}} to [{EACH}|all {N}]|increase [{EACH}|all {N}] by {{k}}]", "the [values|numbers] of {x} increased by {k}", {"k": tuple(range(1, 13))}, ("sub", "mul")),
    ("sub", "{e} - {k}", "Subtract {k} from each number.", f"[subtract {{k}} from [{EACH}|all {N}]|decrease [{EACH}|all {N}] by {{k}}]", "the [values|numbers] of {x} decreased by {k}", {"k": tuple(range(1, 13))}, ("add",)),
    ("mul", "{e} * {k}", "Multiply each number by {k}.", f"[multiply|scale] [{EACH}|all {N}] by [|a factor of ]{{k}}", "the [values|numbers] of {x} multiplied by {k}", {"k": tuple(range(3, 11))}, ("add", "floordiv")),
    ("floordiv", "{e} // {k}", "Divide each number by {k}, rounding down.", f"[divide|integer-divide] [{EACH}|all {N}] by {{k}}, [rounding|and round] down", "", {"k": tuple(range(2, 11))}, ("mod", "mul")),
    ("mod", "{e} % {k}", "Take each number modulo {k}.", f"[take {EACH} modulo {{k}}|replace {EACH} [by|with] its remainder [after division|when divided] by {{k}}]", "the remainders modulo {k} of {x}", {"k": tuple(range(2, 11))}, ("floordiv",)),
    ("lastdigit", "abs({e}) % 10", "Take the last digit of each number.", f"[take the [last|final] digit of {EACH}|replace {EACH} [by|with] its [last|final] digit]", "the [last|final] digits of {x}", {}, ("digitsum",)),
    ("digitsum", "sum(int(d) for d in str(abs({e})))", "Take the sum of the digits of each number.", f"[take the [sum of the digits|digit sum] of {EACH}|replace {EACH} [by|with] [its digit sum|the sum of its digits]]", "the digit sums of {x}", {}, ("lastdigit",)),
    ("cap", "min({e}, {k})", "Cap each number at {k}.", f"[cap|limit] [{EACH}|all {N}] [at|to at most] {{k}}", "", {"k": tuple(range(3, 16))}, ("floor",)),
    ("floor", "max({e}, {k})", "Raise each number below {k} to {k}.", f"[raise|lift] [{EACH}|all {N}] [below|less than|smaller than] {{k}} to {{k}}", "", {"k": tuple(range(-3, 9))}, ("cap",)),
)

LISTS = (
    Op("sort:asc", "ints", "ints", "Sort the numbers in ascending order.", "[sort|order|arrange] {o} [in ascending order|in increasing order|from smallest to largest|ascending]", "{x} sorted in [ascending|increasing] order", ("sorted({x})",), order="only", near=("sort:desc",), var="ordered"),
    Op(
        "sort:desc",
        "ints",
        "ints",
        "Sort the numbers in descending order.",
        "[sort|order|arrange] {o} [in descending order|in decreasing order|from largest to smallest|descending]",
        "{x} sorted in [descending|decreasing] order",
        ("sorted({x}, reverse=True)",),
        order="only",
        near=("sort:asc", "reverse:ints"),
        var="ordered",
    ),
    Op("sort:abs", "ints", "ints", "Sort the numbers by absolute value.", "[sort|order|arrange] {o} by [|their ]absolute [value|values]", "{x} sorted by absolute value", ("sorted({x}, key=abs)",), order="only", near=("sort:asc",), var="ordered"),
    Op("reverse:ints", "ints", "ints", "Reverse the order of the numbers.", "[reverse {o}|reverse the order of {o}|put {o} in reverse order|turn {o} around]", "the reverse of {x}", ("{x}[::-1]", "list(reversed({x}))"), order="only", near=("sort:desc", "sort:asc"), var="backwards"),
    Op(
        "unique:ints",
        "ints",
        "ints",
        "Remove duplicate numbers, keeping the first of each.",
        f"[remove|drop|discard] [duplicates|duplicate {N}|repeated {N}], keeping the first [of each|occurrence]",
        f"the [distinct|unique] {N} [of|in] {{x}}",
        ("list(dict.fromkeys({x}))",),
        block="{out} = []\nfor {e} in {x}:\n    if {e} not in {out}:\n        {out}.append({e})",
        near=("sort:asc",),
        var="unique",
    ),
    Op("take:first", "ints", "ints", "Take the first {k} numbers.", f"[take|keep|keep only|select] the first {{k}} [|{N}]", f"the first {{k}} {N} [of|in] {{x}}", ("{x}[:{k}]",), params={"k": COUNTS}, near=("take:last", "skip:first"), var="taken"),
    Op("take:last", "ints", "ints", "Take the last {k} numbers.", f"[take|keep|keep only|select] the [last|final] {{k}} [|{N}]", f"the [last|final] {{k}} {N} [of|in] {{x}}", ("{x}[-{k}:]",), params={"k": COUNTS}, near=("take:first", "skip:last"), var="taken"),
    Op("skip:first", "ints", "ints", "Skip the first {k} numbers.", f"[skip|drop|remove|leave out] the first {{k}} [|{N}]", f"[all but|everything but] the first {{k}} {N} of {{x}}", ("{x}[{k}:]",), params={"k": COUNTS}, near=("take:first", "skip:last"), var="rest"),
    Op("skip:last", "ints", "ints", "Skip the last {k} numbers.", f"[skip|drop|remove|leave out] the [last|final] {{k}} [|{N}]", f"[all but|everything but] the [last|final] {{k}} {N} of {{x}}", ("{x}[:-{k}]",), params={"k": COUNTS}, near=("take:last", "skip:first"), var="rest"),
    Op("every:ints", "ints", "ints", "Take every second number, starting with the first.", "[take|keep|keep only|select] every [second|other] [number|value|integer], [starting|beginning] with the first", "", ("{x}[::2]",), near=("take:first",), var="taken"),
    Op(
        "top:largest",
        "ints",
        "ints",
        "Take the {k} largest numbers, largest first.",
        f"[take|keep|find|select] the {{k}} [largest|biggest|greatest] {N}, [largest|biggest|greatest] first",
        f"the {{k}} [largest|biggest|greatest] {N}, largest first, of {{x}}",
        ("sorted({x}, reverse=True)[:{k}]",),
        params={"k": COUNTS},
        order="blind",
        near=("top:smallest", "take:first"),
        var="top",
    ),
    Op(
        "top:smallest",
        "ints",
        "ints",
        "Take the {k} smallest numbers, smallest first.",
        f"[take|keep|find|select] the {{k}} [smallest|lowest|least] {N}, [smallest|lowest|least] first",
        f"the {{k}} [smallest|lowest|least] {N}, smallest first, of {{x}}",
        ("sorted({x})[:{k}]",),
        params={"k": COUNTS},
        order="blind",
        near=("top:largest", "take:first"),
        var="top",
    ),
    Op(
        "running:total",
        "ints",
        "ints",
        "Replace each number by the running total.",
        f"[replace {EACH} [by|with] the running total|compute the running totals|work out the running [sums|totals]|take the cumulative sums|replace {EACH} [by|with] the cumulative sum]",
        "the [running totals|cumulative sums|running sums] of {x}",
        ("[sum({x}[:i + 1]) for i in range(len({x}))]",),
        bare=True,
        block="{out} = []\ntotal = 0\nfor {e} in {x}:\n    total += {e}\n    {out}.append(total)",
        near=("differ:next",),
        var="totals",
    ),
    Op(
        "differ:next",
        "ints",
        "ints",
        "Take the differences between neighbouring numbers, each from the next.",
        f"[compute|take|work out] the [differences|difference] between [consecutive|neighbouring|adjacent] {N}, each from the next",
        "",
        ("[b - a for a, b in zip({x}, {x}[1:])]",),
        bare=True,
        block="{out} = []\nfor i in range(1, len({x})):\n    {out}.append({x}[i] - {x}[i - 1])",
        near=("running:total",),
        var="differences",
    ),
)

NONE0 = "[, or 0 if [there is none|there are none|nothing is left|it is empty]|, using 0 [if|when] there is none]"
REDUCE = (
    Op("sum:ints", "ints", "int", "Add up the numbers.", "[add up|sum|sum up|total|add together] {o}", "the [sum|total] of {x}", ("sum({x})",), order="blind", near=("len:ints", "product:ints"), var="total", block="{out} = 0\nfor {e} in {x}:\n    {out} += {e}"),
    Op(
        "product:ints",
        "ints",
        "int",
        "Multiply the numbers together.",
        "[multiply {o} together|multiply all of {o} together|multiply {o} with each other|take the product of {o}|compute the product of {o}]",
        "the product of {x}",
        (),
        order="blind",
        near=("sum:ints",),
        var="product",
        block="{out} = 1\nfor {e} in {x}:\n    {out} *= {e}",
    ),
    Op(
        "max:ints",
        "ints",
        "int",
        "Find the largest number, or 0 if there is none.",
        f"[find|take|pick] the [largest|biggest|greatest|maximum] [number|value|integer]{NONE0}",
        "the [largest|biggest|greatest|maximum] [value|number] of {x}",
        ("max({x}, default=0)", "max({x}) if {x} else 0"),
        order="blind",
        near=("min:ints",),
        var="largest",
    ),
    Op(
        "min:ints",
        "ints",
        "int",
        "Find the smallest number, or 0 if there is none.",
        f"[find|take|pick] the [smallest|lowest|least|minimum] [number|value|integer]{NONE0}",
        "the [smallest|lowest|least|minimum] [value|number] of {x}",
        ("min({x}, default=0)", "min({x}) if {x} else 0"),
        order="blind",
        near=("max:ints",),
        var="smallest",
    ),
    Op("len:ints", "ints", "int", "Count the numbers.", f"[count {{o}}|count how many there are|count how many [are left|remain]|find how many {N} there are]", f"the [number|count] of {N} in {{x}}", ("len({x})",), order="blind", near=("sum:ints", "distinct:ints"), var="count"),
    Op("distinct:ints", "ints", "int", "Count the distinct numbers.", f"[count|find the number of] [|the ][distinct|different|unique] {N}", f"the [number|count] of [distinct|different|unique] {N} in {{x}}", ("len(set({x}))",), order="blind", near=("len:ints",), var="count"),
    Op(
        "spread:ints",
        "ints",
        "int",
        "Take the difference between the largest and the smallest number, or 0 if there is none.",
        f"[take|compute|find] the difference between the [largest|biggest|greatest|maximum] and the [smallest|lowest|minimum] [number|value]{NONE0}",
        "the difference between the [largest and smallest|biggest and smallest|maximum and minimum] [value|number] of {x}",
        ("max({x}) - min({x}) if {x} else 0", "max({x}, default=0) - min({x}, default=0)"),
        bare=True,
        order="blind",
        near=("max:ints", "min:ints"),
        var="spread",
    ),
    Op("mean:ints", "ints", "int", "Take the average rounded down, or 0 if there is none.", f"[take|compute|find] the [average|mean] rounded down{NONE0}", "the [average|mean] rounded down of {x}", ("sum({x}) // len({x}) if {x} else 0",), bare=True, order="blind", near=("sum:ints",), var="mean"),
    Op("pick:first", "ints", "int", "Take the first number, or 0 if there is none.", f"[take|pick|find|get] the [first|very first] [number|value|integer]{NONE0}", "the first [number|value|integer] of {x}", ("{x}[0] if {x} else 0",), bare=True, near=("pick:last",), var="first"),
    Op("pick:last", "ints", "int", "Take the last number, or 0 if there is none.", f"[take|pick|find|get] the [last|final] [number|value|integer]{NONE0}", "the [last|final] [number|value|integer] of {x}", ("{x}[-1] if {x} else 0",), bare=True, near=("pick:first",), var="last"),
    Op("is:sorted", "ints", "bool", "Check whether the numbers are in ascending order.", "[check|tell|determine|test] [whether|if] {o} are [in ascending order|sorted in ascending order|in increasing order]", "", ("{x} == sorted({x})",), bare=True, near=("has:duplicates",), var="found"),
    Op(
        "has:duplicates",
        "ints",
        "bool",
        "Check whether a number occurs more than once.",
        "[check|tell|determine|test] [whether|if] [a|any|some] [number|value|integer] [occurs more than once|appears more than once|is repeated]",
        "",
        ("len(set({x})) != len({x})", "len({x}) > len(set({x}))"),
        bare=True,
        order="blind",
        near=("is:sorted",),
        var="found",
    ),
    Op("has:value", "ints", "bool", "Check whether {k} occurs.", "[check|tell|determine|test] [whether|if] [{k} [occurs|appears|is present]|one of {o} is {k}]", "", ("{k} in {x}",), params={"k": tuple(range(0, 13))}, order="blind", near=("has:duplicates",), var="found"),
    Op("text:each", "ints", "strs", "Turn each number into a string.", f"[turn|convert] [{EACH}|all {N}] [into|to] [a string|text]", "", item="str({e})", var="texts"),
    Op("text:join", "ints", "str", "Join the numbers with '{s}'.", "[join|concatenate|string together] {o} [with '{s}'|using '{s}'|separated by '{s}'|with '{s}' between them]", "", ("'{s}'.join(str({e}) for {e} in {x})", "'{s}'.join(map(str, {x}))"), params={"s": (",", "-", "+", ";", "/", " ", "|", "_")}, var="text"),
    Op(
        "tally:ints",
        "ints",
        "idict",
        "Map each number to how often it occurs.",
        f"[map|link] {EACH} to [how often it [occurs|appears]|its [count|number of occurrences]]",
        "",
        ("{{e}: {x}.count({e}) for {e} in {x}}",),
        bare=True,
        block="{out} = {}\nfor {e} in {x}:\n    {out}[{e}] = {out}.get({e}, 0) + 1",
        near=("group:parity",),
        var="counts",
    ),
    Op(
        "group:parity",
        "ints",
        "groups",
        "Group the numbers into lists under 'even' and 'odd'.",
        "[group|divide|split] {o} [into [the |]lists under|in lists under] 'even' and 'odd'",
        "",
        ("{'even': [{e} for {e} in {x} if {e} % 2 == 0], 'odd': [{e} for {e} in {x} if {e} % 2 != 0]}",),
        bare=True,
        block="{out} = {'even': [], 'odd': []}\nfor {e} in {x}:\n    {out}['even' if {e} % 2 == 0 else 'odd'].append({e})",
        near=("tally:ints",),
        var="groups",
    ),
)

OPS = (*_predicate_ops(), *(Op(f"map:{name}", "ints", "ints", step, verb, noun, item=item, params=params, near=tuple(f"map:{other}" for other in near), var="mapped") for name, item, step, verb, noun, params, near in MAPS), *LISTS, *REDUCE)
