"""Regular expressions as automata and as rules of grammars."""

from __future__ import annotations

import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux.charsets import ANY, union, without
from agentmux.gbnf_rules import Rules, character_class, scan_rules, string_rule, whole_numbers
from agentmux.regular import Automaton, Unsupported, automaton, scanner

from .gbnf_texts import Grammar, Matcher, llama_reads, matches

ATOMS = ["a", "b", "\\.", "[ab]", "[^a]", "[a-c]", "\\d", "\\w", "."]
ATOMS += ["(ab|c)", "(?:a|bc)*", "a{2}", "b{1,3}", "c?", "a+", "[^b-d]{0,2}"]
PATTERNS = st.tuples(
    st.sampled_from(["", "^"]), st.lists(st.sampled_from(ATOMS), min_size=1, max_size=4), st.sampled_from(["", "$"])
).map(lambda drawn: drawn[0] + "".join(drawn[1]) + drawn[2])
TEXTS = st.text(alphabet="abcd.1_é", max_size=7)


def accepts(machine: Automaton, text: str) -> bool:
    state = 0
    for character in text:
        found = [to for charset, to in machine.steps[state] if any(a <= ord(character) <= b for a, b in charset)]
        assert len(found) <= 1, "deterministic"
        if not found:
            return False
        state = found[0]
    return bool(machine.ends[state])


@given(PATTERNS, TEXTS)
def test_an_automaton_accepts_what_the_expression_finds(pattern: str, text: str) -> None:
    found = re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
    assert accepts(automaton(pattern), text) == found


@given(PATTERNS, st.integers(0, 2**32), st.integers(0, 2), st.integers(0, 4))
def test_strings_of_a_pattern_match_it(pattern: str, seed: int, low: int, more: int) -> None:
    rules = Rules()
    high = None if more == 4 else low + 3 + more
    try:
        grammar = rules.grammar(string_rule(rules, pattern, low, high))
    except Unsupported:
        return
    assert llama_reads(grammar)
    value = json.loads(Grammar(grammar, random.Random(seed)).draw())
    assert re.search(pattern, value)
    assert low <= len(value) <= (high or len(value))


@given(PATTERNS, TEXTS)
def test_every_string_that_matches_is_admitted_in_one_way(pattern: str, text: str) -> None:
    rules = Rules()
    try:
        grammar = rules.grammar(string_rule(rules, pattern, 0, None))
    except Unsupported:
        return
    matcher = Matcher(grammar)
    found = re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
    assert matcher.match(json.dumps(text, ensure_ascii=False)) == found
    assert matcher.most_ways <= 24  # what may come next, escapes included, and never more for a longer text


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", "a)", "[a", "a**", "(?=a)", "(?P<n>a)", r"\1", r"\bx", "a{3,1}", "a{9999}", "^a|b", "a|b$", "a^b"),
        *("[[:alpha:]]", "(?i)a", r"\p{L}", "{", "*", r"a\x"),
    ],
)
def test_what_no_automaton_is_made_for(pattern: str) -> None:
    with pytest.raises(Unsupported):
        automaton(pattern)


def test_expressions_with_too_many_states() -> None:
    with pytest.raises(Unsupported, match="states"):
        automaton("^" + "(a|b){400}" * 3)
    with pytest.raises(Unsupported, match="states"):
        automaton("a.{12}$")  # exponential
    with pytest.raises(Unsupported, match="nothing matches"):
        automaton(r"^[^\w\W]$")


@given(TEXTS, st.sampled_from(["ab", "aab", "a.1", "abab"]))
def test_a_scanner_finds_the_first_occurrence(text: str, wanted: str) -> None:
    scan = scanner([("found", re.escape(wanted), False)])
    state = at = 0
    for character in text:
        at += 1
        state = next(to for charset, to in scan.steps[state] if any(a <= ord(character) <= b for a, b in charset))
        if scan.ends[state]:
            break
    assert bool(scan.ends[state]) == (wanted in text)
    if scan.ends[state]:
        assert at == text.index(wanted) + len(wanted)


@given(TEXTS)
def test_text_goes_on_as_told_behind_what_was_found(text: str) -> None:
    rules = Rules()
    begin = scan_rules(
        rules, scanner([("call", "ab", False), ("mark", r"\s*cc", True)]), {"call": '"!"', "mark": '"?"'}
    )
    matcher = Matcher(rules.grammar(begin))
    if text.startswith("cc"):
        expected = text == "cc?"
    elif "ab" in text:
        expected = text.partition("ab")[2] == "!"
    else:
        expected = True
    assert matcher.match(text) == expected
    assert matcher.most_ways <= 4


@given(st.integers(-3000, 3000), st.integers(0, 3000), st.lists(st.integers(-7000, 7000)))
def test_whole_numbers_keep_to_their_bounds(low: int, span: int, numbers: list[int]) -> None:
    grammar = "root ::= " + whole_numbers(low, low + span)
    for number in [low - 1, low, low + span, low + span + 1, 0, *numbers]:
        assert matches(grammar, str(number)) == (low <= number <= low + span)
    assert not matches(grammar, "00")


@pytest.mark.parametrize(
    ("low", "high", "inside", "outside"),
    [
        (10**17, None, [10**17, 10**18 + 5], [10**17 - 1, 3, -(10**17)]),
        (None, -5, [-5, -(10**15)], [-4, 0, 5]),
        (None, 12, [12, 0, -(10**15)], [13, 100]),
        (0, None, [0, 7, 10**15], [-1]),
        (2.5, 3.5, [3], [2, 4]),
        (-7, -7, [-7], [7, -8]),
    ],
)
def test_open_and_odd_bounds(low: float | None, high: float | None, inside: list[int], outside: list[int]) -> None:
    grammar = "root ::= " + whole_numbers(low, high)
    assert llama_reads(grammar)
    assert all(matches(grammar, str(number)) for number in inside)
    assert not any(matches(grammar, str(number)) for number in outside)
    assert whole_numbers(5, 4) == ""


SETS = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 30)).map(lambda d: (d[0], d[0] + d[1])), max_size=4).map(
    lambda drawn: union(tuple(drawn))
)


@given(SETS, SETS)
def test_sets_of_characters(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> None:
    def points(charset: tuple[tuple[int, int], ...]) -> set[int]:
        return {point for low, high in charset for point in range(low, high + 1)}

    assert points(union(one, other)) == points(one) | points(other)
    assert points(without(one, other)) == points(one) - points(other)
    if one:
        pattern = re.compile(character_class(one))
        assert all(bool(pattern.match(chr(point))) == (point in points(one)) for point in range(1, 240))
    assert without(ANY, ANY) == ()
