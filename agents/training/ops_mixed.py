"""Operations on one int, and on dicts from strings to ints."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from .operations import Op
from .ops_int_lists import BOUND, NONE0
from .ops_str_lists import NONE

ASK = "[check|tell|determine|test] [whether|if]"
ENTRIES = "[entries|pairs|items]"
VALUE = "[value|number|count]"


def _math(name: str, step: str, verb: str, noun: str, code: str, near: tuple[str, ...], **more: object) -> Op:
    return Op(f"math:{name}", "int", "int", step, verb, noun, (code,), near=tuple(f"math:{other}" for other in near), var="value", **more)  # type: ignore[arg-type]


NUMBER_OPS = (
    _math("double", "Double the number.", "[double {o}|double the value of {o}|multiply {o} by two|multiply the value of {o} by two]", "twice {x}", "{x} * 2", ("square",)),
    _math("square", "Square the number.", "[square {o}|take the square of {o}|multiply {o} by itself]", "the square of {x}", "{x} ** 2", ("double", "cube")),
    _math("cube", "Cube the number.", "[cube {o}|take the cube of {o}|raise {o} to the third power]", "the cube of {x}", "{x} ** 3", ("square",)),
    _math("negate", "Negate the number.", "[negate|flip the sign of|change the sign of] [{o}|the value of {o}]", "the [negative|opposite] of {x}", "-{x}", ("abs",)),
    _math("abs", "Take the absolute value of the number.", "[take|find] the [absolute value|magnitude] of {o}", "the absolute value of {x}", "abs({x})", ("negate",)),
    _math("add", "Add {k} to the number.", "[add {k} to [{o}|the value of {o}]|increase [{o}|the value of {o}] by {k}]", "{x} plus {k}", "{x} + {k}", ("sub", "mul"), params={"k": tuple(range(1, 21))}),
    _math("sub", "Subtract {k} from the number.", "[subtract {k} from [{o}|the value of {o}]|decrease [{o}|the value of {o}] by {k}]", "{x} minus {k}", "{x} - {k}", ("add",), params={"k": tuple(range(1, 21))}),
    _math("mul", "Multiply the number by {k}.", "[multiply|scale] {o} by [|a factor of ]{k}", "{x} times {k}", "{x} * {k}", ("add", "floordiv"), params={"k": tuple(range(3, 13))}),
    _math("floordiv", "Divide the number by {k}, rounding down.", "[divide|integer-divide] {o} by {k}[, rounding down| and round down|, rounded down]", "", "{x} // {k}", ("mod", "mul"), params={"k": tuple(range(2, 11))}),
    _math("mod", "Take the number modulo {k}.", "[take {o} modulo {k}|[take|compute|find] the remainder of {o} [after division|when divided] by {k}]", "the remainder of {x} modulo {k}", "{x} % {k}", ("floordiv",), params={"k": tuple(range(2, 11))}),
    _math("digitsum", "Add up the digits of the number.", "[add up|sum|sum up] [the|all|all the] digits of {o}", "the [sum of the digits|digit sum] of {x}", "sum(int(d) for d in str(abs({x})))", ("digitcount",)),
    _math("digitcount", "Count the digits of the number.", "[count|find the number of] [the |all |]digits of {o}", "the number of digits of {x}", "len(str(abs({x})))", ("digitsum",)),
    _math("flip", "Reverse the digits of the number.", "[reverse the digits of {o}|reverse the order of the digits of {o}|write the digits of {o} backwards|put the digits of {o} in reverse order]", "", "int(str(abs({x}))[::-1])", ("digitsum",)),
    _math("cap", "Cap the number at {k}.", "[cap|limit] {o} [at|to at most] {k}", "", "min({x}, {k})", ("floor",), params={"k": tuple(range(5, 31))}),
    _math("floor", "Raise the number to {k} if it is below.", "[raise|lift] {o} to {k} if it is [below|less|lower|less than that]", "", "max({x}, {k})", ("cap",), params={"k": tuple(range(0, 16))}),
    Op("span:upto", "int", "ints", "List the numbers from 1 to the number.", "[list|collect|write out] [the|all|all the] [numbers|integers] from 1 to {o}", "the [numbers|integers] from 1 to {x}", ("list(range(1, {x} + 1))",), near=("span:below",), var="numbers"),
    Op(
        "span:below",
        "int",
        "ints",
        "List the numbers from 0 up to but not including the number.",
        "[list|collect|write out] [the|all|all the] [numbers|integers] from 0 [up to but not including|to just below] {o}",
        "the [numbers|integers] from 0 to just below {x}",
        ("list(range({x}))",),
        near=("span:upto",),
        var="numbers",
    ),
    Op("span:digits", "int", "ints", "List the digits of the number.", "[list|collect|write out] [the|all|all the] digits of {o}", "the digits of {x}", ("[int(d) for d in str(abs({x}))]",), near=("span:divisors",), var="digits"),
    Op(
        "span:divisors",
        "int",
        "ints",
        "List the divisors of the number in ascending order.",
        "[list|collect|write out] [the|all|all the] [divisors|positive divisors] of {o}[| in ascending order]",
        "the [divisors|positive divisors] of {x}",
        ("[d for d in range(1, abs({x}) + 1) if {x} % d == 0]",),
        bare=True,
        near=("span:digits", "span:upto"),
        var="divisors",
    ),
    Op("spell:text", "int", "str", "Turn the number into a string.", "[turn|convert] {o} [into|to] [a string|text]", "", ("str({x})",), near=("spell:binary",), var="text"),
    Op("spell:binary", "int", "str", "Turn the absolute value of the number into binary digits.", "[turn|convert|write] the absolute value of {o} [in binary|into binary digits|as binary digits]", "", ("bin(abs({x}))[2:]", "format(abs({x}), 'b')"), near=("spell:text",), var="text"),
    Op("test:even", "int", "bool", "Check whether the number is even.", f"{ASK} {{o}} is [even|divisible by two]", "", ("{x} % 2 == 0",), near=("test:odd",), var="found"),
    Op("test:odd", "int", "bool", "Check whether the number is odd.", f"{ASK} {{o}} is [odd|not divisible by two|not even]", "", ("{x} % 2 != 0", "{x} % 2 == 1"), near=("test:even",), var="found"),
    Op("test:gt", "int", "bool", "Check whether the number is greater than {k}.", f"{ASK} {{o}} is [greater than|above|larger than|bigger than] {{k}}", "", ("{x} > {k}",), params={"k": BOUND}, near=("test:lt",), var="found"),
    Op("test:lt", "int", "bool", "Check whether the number is less than {k}.", f"{ASK} {{o}} is [less than|below|smaller than] {{k}}", "", ("{x} < {k}",), params={"k": BOUND}, near=("test:gt",), var="found"),
    Op("test:div", "int", "bool", "Check whether the number is divisible by {k}.", f"{ASK} {{o}} is [divisible by {{k}}|a multiple of {{k}}|evenly divisible by {{k}}]", "", ("{x} % {k} == 0",), params={"k": (3, 4, 5, 6, 7)}, near=("test:even", "test:gt"), var="found"),
)

# name, condition on the value, group phrase, predicate of one value, params, near
VALUE_TESTS = (
    ("even", "{v} % 2 == 0", "[with even values|whose value is even]", "even", {}, ("odd",)),
    ("odd", "{v} % 2 != 0", "[with odd values|whose value is odd]", "odd", {}, ("even",)),
    ("gt", "{v} > {k}", "[with a value|whose value is] [greater than|above|larger than] {k}", "greater than {k}", {"k": BOUND}, ("ge", "lt")),
    ("lt", "{v} < {k}", "[with a value|whose value is] [less than|below|smaller than] {k}", "less than {k}", {"k": BOUND}, ("gt",)),
    ("ge", "{v} >= {k}", "[with a value of at least|whose value is at least] {k}", "at least {k}", {"k": BOUND}, ("gt", "lt")),
)
DICT_OPS = (
    *(
        Op(
            f"entries:{name}",
            "dict",
            "dict",
            f"Keep the entries whose value is {be}.",
            f"[keep|keep only|select|pick out|retain] [|the |all ]{ENTRIES} {group}",
            "",
            (f"{{{{key}}: {{v}} for {{key}}, {{v}} in {{x}}.items() if {cond}}}".replace("{{key}}", "{{key}"),),
            params=params,
            near=tuple(f"entries:{other}" for other in near),
            var="kept",
        )
        for name, cond, group, be, params, near in VALUE_TESTS
    ),
    Op(
        "entries:initial",
        "dict",
        "dict",
        "Keep the entries whose key starts with '{c}'.",
        f"[keep|keep only|select|pick out|retain] [|the |all ]{ENTRIES} whose key [starts|begins] with '{{c}}'",
        "",
        ("{{key}: {v} for {key}, {v} in {x}.items() if {key}.startswith('{c}')}",),
        params={"c": tuple("abcdeghmprst")},
        near=("entries:even",),
        var="kept",
    ),
    Op("values:add", "dict", "dict", "Add {k} to each value.", "[add {k} to [each|every] value|increase [each|every] value by {k}]", "", ("{{key}: {v} + {k} for {key}, {v} in {x}.items()}",), params={"k": tuple(range(1, 11))}, near=("values:mul",), var="changed"),
    Op("values:mul", "dict", "dict", "Multiply each value by {k}.", "[multiply|scale] [each|every] value by [|a factor of ]{k}", "", ("{{key}: {v} * {k} for {key}, {v} in {x}.items()}",), params={"k": tuple(range(2, 11))}, near=("values:add",), var="changed"),
    Op("keys:upper", "dict", "dict", "Convert each key to upper case.", "[convert|change|turn] [each|every] key [to upper case|to uppercase|into capitals]", "", ("{{key}.upper(): {v} for {key}, {v} in {x}.items()}",), near=("values:add",), var="changed"),
    Op("list:keys", "dict", "strs", "List the keys.", "[list|collect|take] [the|all|all the] keys", "the keys of {x}", ("list({x})", "list({x}.keys())"), near=("list:sortedkeys", "list:values"), var="keys"),
    Op(
        "list:sortedkeys",
        "dict",
        "strs",
        "List the keys in alphabetical order.",
        "[list|collect|take] [the|all|all the] keys [in alphabetical order|alphabetically sorted|sorted alphabetically]",
        "the alphabetically sorted keys of {x}",
        ("sorted({x})", "sorted({x}.keys())"),
        near=("list:keys", "list:byvalue"),
        var="keys",
    ),
    Op(
        "list:byvalue",
        "dict",
        "strs",
        "List the keys by value, smallest first.",
        "[list|collect|take] [the|all|all the] keys [sorted|ordered] by value[, smallest first|, lowest first]",
        "",
        ("sorted({x}, key={x}.get)", "sorted({x}, key=lambda key: {x}[key])"),
        bare=True,
        near=("list:bytop", "list:sortedkeys"),
        var="keys",
    ),
    Op("list:bytop", "dict", "strs", "List the keys by value, largest first.", "[list|collect|take] [the|all|all the] keys [sorted|ordered] by value[, largest first|, highest first]", "", ("sorted({x}, key={x}.get, reverse=True)",), bare=True, near=("list:byvalue",), var="keys"),
    Op("list:values", "dict", "ints", "List the values.", "[list|collect|take] [the|all|all the] values", "the values of {x}", ("list({x}.values())",), near=("list:keys",), var="values"),
    Op("total:values", "dict", "int", "Add up the values.", "[add up|sum|sum up|total] [the|all|all the] values", "the [sum|total] of the values of {x}", ("sum({x}.values())",), order="blind", near=("total:entries", "total:max"), var="total", block="{out} = 0\nfor {v} in {x}.values():\n    {out} += {v}"),
    Op("total:max", "dict", "int", "Find the largest value, or 0 if there is none.", f"[find|take|pick] the [largest|biggest|highest|maximum] value{NONE0}", "the [largest|biggest|highest|maximum] value of {x}", ("max({x}.values(), default=0)",), order="blind", near=("total:values", "which:max"), var="largest"),
    Op("total:entries", "dict", "int", "Count the entries.", f"[count [the|all] {ENTRIES}|count how many {ENTRIES} there are|find the number of {ENTRIES}]", f"the number of {ENTRIES} of {{x}}", ("len({x})",), order="blind", near=("total:values",), var="count"),
    Op(
        "which:max",
        "dict",
        "str",
        "Find the key with the largest value (the first of equals), or '' if there is none.",
        f"[find|take|pick] the key [with|that has] the [largest|biggest|highest] value [(the first of equals)|(the first one on a tie)]{NONE}",
        "the key with the [largest|biggest|highest] value of {x}",
        ("max({x}, key={x}.get, default='')",),
        bare=True,
        near=("which:min", "total:max"),
        var="best",
    ),
    Op(
        "which:min",
        "dict",
        "str",
        "Find the key with the smallest value (the first of equals), or '' if there is none.",
        f"[find|take|pick] the key [with|that has] the [smallest|lowest|least] value [(the first of equals)|(the first one on a tie)]{NONE}",
        "the key with the [smallest|lowest|least] value of {x}",
        ("min({x}, key={x}.get, default='')",),
        bare=True,
        near=("which:max",),
        var="best",
    ),
)
OPS = (*NUMBER_OPS, *DICT_OPS)
