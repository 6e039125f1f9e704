r"""The rules of a grammar in the making, and the ready ones that JSON is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from agentmux.charsets import Charset, without
from agentmux.regular import MAX_STATES, Automaton, Unsupported, automaton

_HEX = "[0-9a-fA-F]"
_LEAP = '([02468] [48] | [2468] "0" | [13579] [26])'
# 0000 is no year. February has a 29th in years that 4 divides, of full centuries in those that 400 divides.
_YEAR = '("000" [1-9] | "00" [1-9] [0-9] | "0" [1-9] [0-9]{2} | [1-9] [0-9]{3})'
_DAY = (
    '("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
    ' | ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30")'
    ' | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
)
_LEAP_YEAR = f'([0-9]{{2}} {_LEAP} | ("0" [48] | [2468] [048] | [13579] [26]) "00")'
_DATE = f'({_YEAR} "-" ({_DAY}) | {_LEAP_YEAR} "-02-29")'
_TIME = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})?'
_ZONE = '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])?'
_BYTE = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9] [0-9] | [0-9])'
_DURATION_TIME = '"T" (n "H" (n "M")? (n "S")? | n "M" (n "S")? | n "S")'.replace("n ", "[0-9]{1,4} ")

_PRIMITIVES: Mapping[str, str] = MappingProxyType(
    {
        "ws": r'(" " | "\n" [ \t]{0,20})?',
        # Control characters must be escaped in JSON; a surrogate stands for nothing, raw or escaped. llama.cpp takes
        # bytes that are no UTF-8 for characters above U+10FFFF.
        "char": r'[^"\\\x00-\x1F\x7F\uD800-\uDFFF\U00110000-\U003FFFFF] | "\\" (["\\/bfnrt] | "u" unit)',
        "unit": f"[0-9a-cA-CefEF] {_HEX}{{3}} | [dD] [0-7] {_HEX}{{2}}",
        "ascii": r'[\x20-\x21\x23-\x5B\x5D-\x7E] | "\\" (["\\/bfnrt] | "u00" [0-7] [0-9a-fA-F])',
        "string": r'"\"" char* "\""',
        "natural": '"0" | [1-9] [0-9]{0,15}',
        "integer": '"-"? natural',
        "fraction": '("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
        "number": "integer fraction",
        "positive-number": "natural fraction",
        "boolean": '"true" | "false"',
        "null": '"null"',
        "value": "object | array | string | number | boolean | null",
        "member": 'string ":" ws value',
        "object": '"{" ws (member ("," ws member)* ws)? "}"',
        "array": '"[" ws (value ("," ws value)* ws)? "]"',
        "value-c": "object-c | array-c | string | number | boolean | null",
        "member-c": 'string ": " value-c',
        "object-c": '"{" (member-c (", " member-c)*)? "}"',
        "array-c": '"[" (value-c (", " value-c)*)? "]"',
        "date": rf'"\"" {_DATE} "\""',
        "time": rf'"\"" {_TIME} {_ZONE} "\""',
        "date-time": rf'"\"" {_DATE} "T" {_TIME} {_ZONE} "\""',
        "duration": rf'"\"" "-"? "P" ([0-9]{{1,4}} "D" ({_DURATION_TIME})? | {_DURATION_TIME}) "\""',
        "decimal": r'"\"" integer ("." [0-9]{1,16})? "\""',
        "complex": r'"\"" number ([-+] positive-number "j")? "\""',
        "ipv4": rf'"\"" {_BYTE} ("." {_BYTE}){{3}} "\""',
        "ipv6": rf'"\"" {_HEX}{{1,4}} (":" {_HEX}{{1,4}}){{7}} "\""',
        "uuid": r'"\"" ' + ' "-" '.join(f"{_HEX}{{{n}}}" for n in (8, 4, 4, 4, 12)) + r' "\""',
    }
)
CANONICAL_NAMES: Mapping[str, str] = MappingProxyType({"value": "value-c"})
"""[ready rule] the one that is spaced as ``json.dumps`` does it."""

MAX_DIGITS = 16
"""Of whole numbers without a bound, so that a model cannot run away in them."""
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[0-9,]*\}|([a-z][a-z0-9-]*)')


class Rules:
    """Rules made so far, each once."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}  # expression -> name of its rule, so that equal parts share one

    def add(self, expression: str) -> str:
        """The name of a rule with this expression."""
        if re.fullmatch(r"[a-z][a-z0-9-]*", expression):
            return expression
        if expression not in self._names:
            name = self.reserve()
            self._names[expression] = name
            self._rules[name] = expression
        return self._names[expression]

    def reserve(self) -> str:
        """A name for a rule to be defined later."""
        name = f"r{len(self._rules)}"
        self._rules[name] = ""
        return name

    def define(self, name: str, expression: str) -> None:
        """Give a reserved name its expression."""
        self._rules[name] = expression

    def grammar(self, root: str) -> str:
        """The text of the grammar with this expression as its root; rules that it does not need are left out."""
        used: dict[str, str] = {}
        pending = [("root", root)]
        while pending:
            name, expression = pending.pop()
            used[name] = expression
            for match in _WORD.finditer(expression):
                word = match[1]
                if word and word not in used:
                    pending.append((word, self._rules.get(word) or _PRIMITIVES[word]))
        return "\n".join(f"{name} ::= {used[name]}" for name in sorted(used, key=lambda name: (name != "root", name)))


def literal(value: object) -> str:
    """Exactly the JSON of ``value``."""
    return text_literal(json.dumps(value, ensure_ascii=False))


_LITERAL_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def text_literal(text: str) -> str:
    """Exactly this text."""
    return '"' + "".join(_LITERAL_ESCAPES.get(c, c) for c in text) + '"'


def character_class(charset: Charset) -> str:
    """Any character of the set."""

    def code(point: int) -> str:
        if chr(point).isascii() and chr(point).isalnum():
            return chr(point)
        return f"\\x{point:02X}" if point < 0x100 else f"\\u{point:04X}" if point < 0x10000 else f"\\U{point:08X}"

    return "[" + "".join(code(a) if a == b else f"{code(a)}-{code(b)}" for a, b in charset) + "]"


def scan_rules(rules: Rules, scan: Automaton, found: Mapping[str, str], *, may_end: bool = True) -> str:
    """Any text, up to where ``scan`` finds something; ``found`` says what follows upon that. The first rule's name.

    ``may_end``: where nothing has been found, the text may end anywhere.
    """
    names = [rules.reserve() for _ in scan.steps]

    def behind(state: int) -> str:
        ends = scan.ends[state]
        return next((expression for name, expression in found.items() if name in ends), names[state])

    for name, steps in zip(names, scan.steps, strict=True):
        options = " | ".join(f"{character_class(charset)} {behind(to)}" for charset, to in steps)
        rules.define(name, (f"({options})?" if may_end else options) if options else '""')
    return names[0]


_JSON_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_ESCAPED: Charset = ((0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F))


def string_rule(rules: Rules, pattern: str, low: int, high: int | None) -> str:
    """JSON strings in which ``pattern`` is found, of at least ``low`` and at most ``high`` characters.

    Raises agentmux.regular.Unsupported where that needs too many rules, or no automaton is made for the pattern.
    """
    whole = automaton(pattern)
    numbers = {(0, 0): rules.reserve()}
    pending = [(0, 0)]
    counted = low > 0 or high is not None
    stop = high if high is not None else low  # beyond this, how many there are makes no difference
    alive = _shortest_ends(whole)
    while pending:
        state, count = pending.pop()
        options = ['"\\""'] if whole.ends[state] and count >= low else []
        for charset, to in whole.steps[state]:
            place = (to, min(count + 1, stop) if counted else 0)
            if high is not None and (count + 1 + alive[to] > high):
                continue
            if place not in numbers:
                numbers[place] = rules.reserve()
                pending.append(place)
            options += [f"{text} {numbers[place]}" for text in _json_characters(charset)]
        if not options or len(numbers) > 2 * MAX_STATES:
            raise Unsupported(f"{pattern!r} with {low} to {high} characters")
        rules.define(numbers[state, count], " | ".join(options))
    return f'"\\"" {numbers[0, 0]}'


def _shortest_ends(whole: Automaton) -> list[int]:
    """[state] characters to its nearest end."""
    distances = [0 if ends else MAX_STATES * 2 for ends in whole.ends]
    for _ in distances:
        for state, steps in enumerate(whole.steps):
            distances[state] = min([distances[state], *(distances[to] + 1 for _, to in steps)])
    return distances


def _json_characters(charset: Charset) -> Iterable[str]:
    """How the characters of a set are written in a JSON string; control characters without a short escape are not."""
    if plain := without(charset, _ESCAPED):
        yield character_class(plain)
    for character, escape in _JSON_ESCAPES.items():
        if any(low <= ord(character) <= high for low, high in charset):
            yield text_literal(escape)


def whole_numbers(low: int | float | None, high: int | float | None) -> str:
    """Whole numbers in these bounds, as JSON writes them; "" if there are none. Without a bound: of 16 digits at most,
    or one more than the other bound has."""
    least = None if low is None else -int(-low // 1)  # rounded up
    most = None if high is None else int(high // 1)
    digits = max([MAX_DIGITS, *(len(str(abs(bound))) + 1 for bound in (least, most) if bound is not None)])
    first = -(10**digits) + 1 if least is None else least
    last = 10**digits - 1 if most is None else most
    options = []
    if first < 0 and last >= first:
        options.append(f'"-" ({_digits(max(1, -last), -first)})')
    if last >= 0 and last >= first:
        options.append(_digits(max(0, first), last))
    return " | ".join(options)


def _digits(low: int, high: int) -> str:
    """Digits of the numbers from ``low`` to ``high``, both at least 0."""
    options = []
    while low <= high:
        length, full = len(str(low)), len(str(high + 1)) - 1
        if low == 10 ** (length - 1) and length < full:  # several lengths, each of them whole
            options.append(f"[1-9] [0-9]{{{length - 1},{full - 1}}}")
            low = 10**full
            continue
        # As far as the number of digits stays the same; 0 is no beginning of a longer number.
        last = min(high, 10**length - 1) if low else 0
        options += _same_length(str(low), str(last))
        low = last + 1
    return " | ".join(options)


def _same_length(low: str, high: str) -> list[str]:
    if not low:
        return [""]
    if low == high:
        return [f'"{low}"']
    if low[1:] == "0" * len(low[1:]) and high[1:] == "9" * len(high[1:]):
        return [f"{_digit(low[0], high[0])} {f'[0-9]{{{len(low) - 1}}}' if low[1:] else ''}".rstrip()]
    if low[0] == high[0]:
        return [f'"{low[0]}" ({" | ".join(_same_length(low[1:], high[1:]))})']
    zeros, nines = "0" * (len(low) - 1), "9" * (len(low) - 1)
    options = _same_length(low, low[0] + nines)
    first, last = int(low[0]) + 1, int(high[0]) - 1
    if high[1:] == nines:
        return options + _same_length(str(first) + zeros, high)
    if first <= last:
        options += _same_length(str(first) + zeros, str(last) + nines)
    return options + _same_length(high[0] + zeros, high)


def _digit(low: str, high: str) -> str:
    return f'"{low}"' if low == high else f"[{low}-{high}]"
