"""Texts that a GBNF grammar admits: drawn from it, or compared with it."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable
from typing import Any

import llama_cpp


def llama_reads(grammar: str) -> bool:
    sampler = llama_cpp.llama_sampler_init_grammar(None, grammar.encode(), b"root")  # type: ignore[arg-type]
    if sampler:
        llama_cpp.llama_sampler_free(sampler)
    return bool(sampler)


def unescaped(literal: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), literal[1:-1])


BEYOND = r"\U00110000-\U003FFFFF"
"""What llama.cpp reads out of invalid bytes; Python's patterns know no such characters."""

UNBOUNDED = 1_000_000


class Parsed:
    """A grammar: enough of the language for what agentmux writes.

    [rule] a node: a literal, a class or a rule's name as text; or a list of options, each a list of parts, each a node
    with how often it stands there, at least and at most.
    """

    TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[()|*?+]|\{[0-9,]*\}|[a-z][a-z0-9-]*)')

    def __init__(self, text: str) -> None:
        rules = (line.split(" ::= ", 1) for line in text.replace(BEYOND, "").splitlines())
        self.rules = {name: self._parse(body) for name, body in rules}

    def _parse(self, body: str) -> Any:
        tokens = self.TOKEN.findall(body)
        assert "".join(tokens).replace(" ", "") == re.sub(r"\s", "", body).replace(" ", ""), body
        node, rest = self._alternatives(tokens)
        assert not rest, rest
        return node

    def _alternatives(self, tokens: list[str]) -> tuple[Any, list[str]]:
        options: list[Any] = [[]]
        while tokens and tokens[0] != ")":
            token, *tokens = tokens
            if token == "|":
                options.append([])
                continue
            if token == "(":
                node, tokens = self._alternatives(tokens)
                assert tokens[0] == ")"
                tokens = tokens[1:]
            else:
                node = token
            low, high = 1, 1
            if tokens and (tokens[0] in "*?+" or tokens[0][0] == "{"):
                mark, *tokens = tokens
                low, high = {"*": (0, UNBOUNDED), "?": (0, 1), "+": (1, UNBOUNDED)}.get(mark, (0, 0))
                if mark[0] == "{":
                    bounds = mark[1:-1].split(",")
                    low = int(bounds[0])
                    high = low if len(bounds) == 1 else int(bounds[1]) if bounds[1] else UNBOUNDED
            options[-1].append((node, low, high))
        return options, tokens


parsed = functools.lru_cache(maxsize=2000)(Parsed)


class Grammar:
    """Draws texts from a grammar."""

    ALPHABET = 'aZ09 "\\/{}[]<>:,\t\n\x00\x1f\x7fé\u2028\ud800\udfff\ufffd😀'

    def __init__(self, text: str, rng: random.Random) -> None:
        self.rng = rng
        self.rules = {name: node for name, node in parsed(text).rules.items() if name != _FROZEN}
        self.costs = dict.fromkeys(self.rules, UNBOUNDED)  # [rule] rules within each other that it needs at least
        while True:
            costs = {name: 1 + self._cost(node) for name, node in self.rules.items()}
            if costs == self.costs:
                break
            self.costs = costs

    def draw(self) -> str:
        return self._draw("root", 40)

    def _cost(self, node: Any) -> int:
        if isinstance(node, str):
            return self.costs[node] if node[0] not in '"[' else 0
        return min(self._option_cost(option) for option in node)

    def _option_cost(self, option: Any) -> int:
        return max((self._cost(node) for node, low, _ in option if low), default=0)

    def _draw(self, node: Any, room: int) -> str:
        if isinstance(node, str):
            if node[0] == '"':
                return unescaped(node)
            return self._character(node[1:-1]) if node[0] == "[" else self._draw(self.rules[node], room - 1)
        fitting = [option for option in node if self._option_cost(option) <= room]
        option = self.rng.choice(fitting) if fitting else min(node, key=self._option_cost)
        return "".join(self._repeat(*part, room) for part in option)

    def _repeat(self, node: Any, low: int, high: int, room: int) -> str:
        more = self.rng.randint(0, min(high - low, 3)) if self._cost(node) <= room else 0
        return "".join(self._draw(node, room) for _ in range(low + more))

    def _character(self, inside: str) -> str:
        wanted = re.compile(f"[{inside}]")
        fitting = [character for character in self.ALPHABET if wanted.match(character)]
        codes = [*range(9, 127), *(int(code, 16) for code in re.findall(r"\\[xuU]([0-9A-F]+)", inside))]
        return self.rng.choice(fitting or [chr(code) for code in codes if wanted.match(chr(code))])


def matches(grammar: str, text: str) -> bool:
    """Whether the grammar admits exactly this text."""
    return Matcher(grammar).match(text)


Stack = tuple[Any, ...]
"""() or (what comes next, the stack below it)."""


class Matcher:
    """Follows all ways to read a text at once, as llama.cpp does."""

    def __init__(self, grammar: str) -> None:
        self.rules = parsed(grammar).rules
        self.most_ways = 0

    def match(self, text: str) -> bool:
        stacks = self._opened([(("root", 1, 1), ())])
        for character in text:
            stacks = self._opened(self._taken(stacks, character))
            self.most_ways = max(self.most_ways, len(stacks))
            if not stacks:
                return False
        return () in stacks

    def _taken(self, stacks: Iterable[Stack], character: str) -> Iterable[Stack]:
        for stack in stacks:
            if not stack:
                continue
            (word, _, _), below = stack
            if word[0] == "[":
                if _class(word).match(character):
                    yield below
            elif word[0] == "=" and word[1] == character:
                yield ((word[0] + word[2:], 1, 1), below) if len(word) > 2 else below

    def _opened(self, stacks: Iterable[Stack]) -> set[Stack]:
        """Each with a character on top that comes next, or empty."""
        opened, pending, seen = set[Stack](), list(stacks), set[Stack]()
        while pending:
            stack = pending.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if not stack or (isinstance(stack[0][0], str) and stack[0][1:] == (1, 1) and stack[0][0][0] in "[="):
                opened.add(stack)
            else:
                pending += self._step(*stack)
        return opened

    def _step(self, part: Any, below: Stack) -> Iterable[Stack]:
        node, low, high = part
        if (low, high) != (1, 1):
            if low == 0:
                yield below
            if high > 0:
                rest = (node, max(low - 1, 0), high if high == UNBOUNDED else high - 1)
                yield ((node, 1, 1), (rest, below) if rest[2] else below)
        elif isinstance(node, Frozen):
            for option in node.options:
                stack = below
                for one in reversed(option):
                    stack = (one, stack)
                yield stack
        elif node[0] == '"':
            yield (("=" + unescaped(node), 1, 1), below) if len(node) > 2 else below
        else:
            yield ((frozen(self.rules, node), 1, 1), below)


class Frozen:
    """Options that are equal only to themselves, so that they can stand in a stack."""

    def __init__(self, options: Any) -> None:
        self.options = tuple(
            tuple((node if isinstance(node, str) else Frozen(node), low, high) for node, low, high in option)
            for option in options
        )


_FROZEN = "frozen nodes"


def frozen(rules: dict[str, Any], name: str) -> Frozen:
    """The same object for a rule each time."""
    known = rules.setdefault(_FROZEN, {})
    if name not in known:
        known[name] = Frozen(rules[name])
    return known[name]  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=5000)
def _class(word: str) -> re.Pattern[str]:
    return re.compile(word)
