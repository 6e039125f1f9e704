r"""Regular expressions as grammars that can be read in one way only.

llama.cpp follows all ways to read a text at once, so that an ambiguous grammar makes it slow; ``.*abc.*`` is
ambiguous as a grammar, and "text without ``abc`` in it" cannot be said at all. Here an expression becomes a
deterministic automaton first, each of whose states is a rule: of one character, at most one alternative of a rule fits.

What is known of expressions is what they have in common in Rust (pydantic's) and Python: literals, classes, ``.``,
``\d`` ``\w`` ``\s``, groups without names, ``|``, ``* + ? {m,n}``, ``^`` at the beginning and ``$`` at the end. The
automaton takes a subset of what they take: of ``\d`` and ``\w``, which mean all of Unicode there, ASCII alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agentmux.charsets import ANY, ESCAPED_SETS, Charset, union, without

MAX_STATES = 500
"""Of one automaton: what needs more is better checked afterwards."""


class Unsupported(Exception):
    """The expression says something that no automaton is made for."""


_ESCAPED_CHARACTERS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


@dataclass
class _Nfa:
    """States with what leads out of them. Built by Thompson's construction."""

    steps: list[list[tuple[Charset, int]]] = field(default_factory=list)
    jumps: list[list[int]] = field(default_factory=list)

    def state(self) -> int:
        if len(self.steps) >= 20 * MAX_STATES:
            raise Unsupported("an expression with too many states")
        self.steps.append([])
        self.jumps.append([])
        return len(self.steps) - 1


_Build = Callable[[_Nfa, int], int]
"""Adds a part from a state on; returns the state behind it."""


def _characters(charset: Charset) -> _Build:
    def build(nfa: _Nfa, start: int) -> int:
        end = nfa.state()
        nfa.steps[start].append((charset, end))
        return end

    return build


def _sequence(parts: Sequence[_Build]) -> _Build:
    def build(nfa: _Nfa, start: int) -> int:
        for part in parts:
            start = part(nfa, start)
        return start

    return build


def _choice(options: Sequence[_Build]) -> _Build:
    def build(nfa: _Nfa, start: int) -> int:
        end = nfa.state()
        for option in options:
            begin = nfa.state()
            nfa.jumps[start].append(begin)
            nfa.jumps[option(nfa, begin)].append(end)
        return end

    return build


def _repeated(part: _Build, low: int, high: int | None) -> _Build:
    def build(nfa: _Nfa, start: int) -> int:
        at = start
        for _ in range(low):
            at = part(nfa, at)
        if high is None:
            loop = nfa.state()
            nfa.jumps[at].append(loop)
            nfa.jumps[part(nfa, loop)].append(loop)
            end = nfa.state()
            nfa.jumps[loop].append(end)
            return end
        end = nfa.state()
        nfa.jumps[at].append(end)
        for _ in range(high - low):
            at = part(nfa, at)
            nfa.jumps[at].append(end)
        return end

    return build


class _Parser:
    """Reads an expression. Everything that it does not know is Unsupported."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> _Build:
        whole = self._alternatives()
        if self._at < len(self._text):
            raise Unsupported(f"{self._text!r} at {self._at}")
        return whole

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _take(self) -> str:
        if self._at >= len(self._text):
            raise Unsupported(f"{self._text!r} ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _skip(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _alternatives(self) -> _Build:
        options = [self._items()]
        while self._skip("|"):
            options.append(self._items())
        return options[0] if len(options) == 1 else _choice(options)

    def _items(self) -> _Build:
        items: list[_Build] = []
        while self._peek() not in ("", "|", ")"):
            items.append(self._quantified(self._item()))
        return _sequence(items)

    def _item(self) -> _Build:
        character = self._take()
        if character == "(":
            if self._peek() == "?" and not self._skip("?:"):
                raise Unsupported("a group of a special kind")
            inner = self._alternatives()
            if self._take() != ")":
                raise Unsupported("an open group")
            return inner
        if character == "[":
            return _characters(self._class())
        if character == ".":
            return _characters(without(ANY, ((0x0A, 0x0A),)))
        if character == "\\":
            return _characters(self._escape())
        if character in "^$*+?{":
            raise Unsupported(f"{character!r} within an expression")
        return _characters(_one(character))

    def _quantified(self, item: _Build) -> _Build:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self._peek() in simple and self._peek():
            low, high = simple[self._take()]
        elif self._skip("{"):
            low, high = self._counts()
        else:
            return item
        if self._peek() == "?":  # lazy: the same texts
            self._take()
        if self._peek() and self._peek() in "*+{":
            raise Unsupported("a quantifier of a quantifier")
        return _repeated(item, low, high)

    def _counts(self) -> tuple[int, int | None]:
        body = ""
        while (character := self._take()) != "}":
            body += character
        first, comma, second = body.partition(",")
        if not first.isdecimal() or (second and not second.isdecimal()):
            raise Unsupported(f"the repetition {{{body}}}")
        low, high = int(first), int(second) if second else None if comma else int(first)
        if max(low, high or 0) > MAX_STATES or (high is not None and high < low):
            raise Unsupported(f"the repetition {{{body}}}")
        return low, high

    def _escape(self) -> Charset:
        character = self._take()
        if character.lower() in ESCAPED_SETS:
            return ESCAPED_SETS[character.lower()][character.isupper()]
        if character in _ESCAPED_CHARACTERS:
            return _one(_ESCAPED_CHARACTERS[character])
        if character in _HEX_DIGITS:
            digits = "".join(self._take() for _ in range(_HEX_DIGITS[character]))
            try:
                return _one(chr(int(digits, 16)))
            except (ValueError, OverflowError):
                raise Unsupported(f"the escape \\{character}{digits}") from None
        if character.isalnum():
            raise Unsupported(f"the escape \\{character}")
        return _one(character)

    def _class(self) -> Charset:
        negated = self._skip("^")
        charset: Charset = ()
        first = True
        while first or self._peek() != "]":
            low = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                high = self._member()
                if len(low) != 1 or len(high) != 1 or low[0][0] > high[0][1]:
                    raise Unsupported("a range of classes")
                low = ((low[0][0], high[0][1]),)
            charset, first = union(charset, low), False
        self._take()
        # The complement of a subset would be too much: of \d in a negated class more is known than ASCII.
        return without(ANY, union(charset, ((0x80, 0x10FFFF),) if self._has_sets else ())) if negated else charset

    _has_sets = False

    def _member(self) -> Charset:
        character = self._take()
        if character == "\\":
            self._has_sets = self._has_sets or self._peek().lower() in ESCAPED_SETS
            return self._escape()
        if character == "[" or (character in "&~-" and self._peek() == character):
            raise Unsupported("classes within classes")  # Rust's, and set operations
        return _one(character)


def _one(character: str) -> Charset:
    return ((ord(character), ord(character)),)


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton; state 0 is where it begins."""

    steps: tuple[tuple[tuple[Charset, int], ...], ...]
    """[state] (characters, state that they lead to); the characters of a state's steps are disjoint."""
    ends: tuple[frozenset[str], ...]
    """[state] names of the expressions that have been read whole there."""


def automaton(pattern: str) -> Automaton:
    """Of the texts in which ``pattern`` is found, as ``re.search`` has it. Raises Unsupported."""
    begins, ends = pattern.startswith("^"), _ends_anchored(pattern)
    inner = pattern[1 if begins else 0 : len(pattern) - 1 if ends else len(pattern)]
    if (begins or ends) and _has_top_level_choice(inner):
        raise Unsupported("an anchor of one alternative")
    anything = _repeated(_characters(ANY), 0, None)
    parts = [*([] if begins else [anything]), _Parser(inner).parse()]
    nfa = _Nfa()
    start = nfa.state()
    found = _determinised(nfa, start, {_sequence(parts)(nfa, start): "end"}, goes_on=ends)
    if not ends:  # whatever comes behind it
        steps = (((ANY, state),) if found.ends[state] else steps for state, steps in enumerate(found.steps))
        found = Automaton(tuple(steps), found.ends)
    return _trimmed(found)


def scanner(wanted: Iterable[tuple[str, str, bool]]) -> Automaton:
    """Reads any text until one of the expressions has been found.

    Args:
        wanted: (name, expression, whether it counts at the beginning of the text only).

    A state in which something has been found leads nowhere; its ``ends`` say what.
    """
    nfa = _Nfa()
    start = nfa.state()
    ends: dict[int, str] = {}
    anything = nfa.state()
    nfa.jumps[start].append(anything)
    nfa.steps[anything].append((ANY, anything))
    for name, pattern, at_beginning in wanted:
        begin = nfa.state()
        nfa.jumps[start if at_beginning else anything].append(begin)
        ends[_Parser(pattern).parse()(nfa, begin)] = name
    return _determinised(nfa, start, ends, goes_on=False)


def _ends_anchored(pattern: str) -> bool:
    backslashes = len(pattern[:-1]) - len(pattern[:-1].rstrip("\\"))
    return pattern.endswith("$") and backslashes % 2 == 0


def _has_top_level_choice(pattern: str) -> bool:
    depth, in_class, at = 0, False, 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
            at += 1 if pattern[at + 1 : at + 2] == "]" else 0
        elif character == "|" and depth == 0:
            return True
        else:
            depth += {"(": 1, ")": -1}.get(character, 0)
        at += 1
    return False


def _determinised(nfa: _Nfa, start: int, ends: dict[int, str], *, goes_on: bool) -> Automaton:
    """By the subset construction; ``goes_on``: where something has been read whole, more may follow."""
    numbers: dict[frozenset[int], int] = {}
    steps: list[tuple[tuple[Charset, int], ...]] = []
    found: list[frozenset[str]] = []
    pending = [_closure(nfa, {start})]
    numbers[pending[0]] = 0
    while pending:
        states = pending.pop(0)
        found.append(frozenset(ends[state] for state in states & ends.keys()))
        targets: dict[frozenset[int], Charset] = {}
        for charset, target in _split([step for state in states for step in nfa.steps[state]]):
            closed = _closure(nfa, target)
            targets[closed] = union(targets.get(closed, ()), charset)
        if found[-1] and not goes_on:
            targets = {}
        for target in targets:
            if target not in numbers:
                numbers[target] = len(numbers)
                pending.append(target)
        if len(numbers) > MAX_STATES:
            raise Unsupported(f"an expression of more than {MAX_STATES} states")
        steps.append(tuple((charset, numbers[target]) for target, charset in targets.items()))
    return Automaton(tuple(steps), tuple(found))


def _closure(nfa: _Nfa, states: Iterable[int]) -> frozenset[int]:
    closed, pending = set(states), list(states)
    while pending:
        for state in nfa.jumps[pending.pop()]:
            if state not in closed:
                closed.add(state)
                pending.append(state)
    return frozenset(closed)


def _split(steps: list[tuple[Charset, int]]) -> Iterable[tuple[Charset, frozenset[int]]]:
    """The same steps, cut where any of them begins or ends, so that those that overlap become one."""
    cuts = sorted({cut for charset, _ in steps for low, high in charset for cut in (low, high + 1)})
    for low, after in itertools.pairwise(cuts):
        targets = frozenset(to for charset, to in steps if any(a <= low <= b for a, b in charset))
        if targets:
            yield ((low, after - 1),), targets


def _trimmed(whole: Automaton) -> Automaton:
    """Without the steps from which no end can be reached."""
    alive = {state for state, found in enumerate(whole.ends) if found}
    while more := {
        state for state, steps in enumerate(whole.steps) if state not in alive and any(to in alive for _, to in steps)
    }:
        alive |= more
    if 0 not in alive:
        raise Unsupported("an expression that nothing matches")
    steps = tuple(tuple(step for step in one if step[1] in alive) for one in whole.steps)
    return Automaton(steps, whole.ends)
