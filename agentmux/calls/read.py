"""What a model's text means: reasoning, calls, an answer."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agentmux.calls.format import ID, ID_LENGTH, INDEX, CallFormat, ReasoningState, loose
from agentmux.messages import ToolCall
from agentmux.regular import Automaton, automaton
from agentmux.schema import AnswerRejected
from agentmux.tools import Tool

_MARKS = re.compile(r"<[^<>\s\"{}]+>|\[/?[A-Z_]+\]")


@dataclass(frozen=True, slots=True)
class Answer:
    """The model answered; ``text`` is for ``OutputSchema.parse``."""

    text: str


@dataclass(frozen=True, slots=True)
class Calls:
    """The model wants tools to run."""

    text: str
    """What it said before."""
    calls: tuple[ToolCall, ...]
    """Those that are whole."""
    cut: bool = False
    """``max_tokens`` or the end of the context cut the message in the midst of a further call."""


@dataclass(frozen=True, slots=True)
class Reasoned:
    """A model's message, what it thought set apart. Only ``answer`` belongs into later turns."""

    reasoning: str
    answer: Answer | Calls


def split_reasoning(text: str, form: CallFormat, state: ReasoningState, cut: bool) -> tuple[str, str]:
    """(reasoning, the rest). Raises AnswerRejected if the reasoning was begun and never closed."""
    marks = form.reasoning
    if marks is None or state == "off":
        return "", text
    opened = text.lstrip().startswith(marks.open)
    if state == "free" and not opened:
        return "", text
    # Some models open what the prompt has opened already.
    thought, found, rest = text.partition(marks.close)
    if not found:
        why = "it was cut by max_tokens or the end of the context" if cut else "it ended there"
        raise AnswerRejected(
            f"the answer never came: the reasoning was not closed by {marks.close} "
            f"({why}, after {len(text)} characters)"
        )
    return thought.strip().removeprefix(marks.open).strip(), rest


def read_answer(
    text: str,
    tools: Sequence[Tool],
    form: CallFormat,
    typed: bool = False,
    cut: bool = False,
    new_id: Callable[[], str] | None = None,
) -> Answer | Calls:
    """What a model's text behind its reasoning means; see ``AnswerPlan.read``."""
    numbers = itertools.count(1)
    ids = new_id or (lambda: f"call-{next(numbers)}")
    begin = _first_call(text, form, typed) if tools else None
    if begin is None:
        hidden = _calls_without_marks(text, tools, form, typed, ids) if tools and form.mark else None
        return hidden or Answer(_unmarked(text, form))
    calls, rest = _read_calls(text[begin:], tools, form, ids)
    before = re.sub(r"(^|\n)\s*```(json)?\s*$", "", text[:begin]).strip()
    if rest is None:
        return Calls(before, calls)
    if cut:
        return Calls(before, calls, cut=True)
    if typed and not calls and not form.mark:
        return Answer(_unmarked(text, form))  # JSON that begins as a call does, and is none
    raise AnswerRejected(f"a call of a tool is malformed, from here on: {rest[:80]!r}")


def _calls_without_marks(
    text: str, tools: Sequence[Tool], form: CallFormat, typed: bool, new_id: Callable[[], str]
) -> Calls | None:
    """Calls whose marks an engine did not show, as they are special tokens; only where nothing else is left over."""
    bare = replace(
        form,
        begin=_MARKS.sub("", form.begin),
        before=_MARKS.sub("", form.before),
        between=_MARKS.sub("", form.between),
        after=_MARKS.sub("", form.after),
        separator=_MARKS.sub("", form.separator),
        end=_MARKS.sub("", form.end),
    )
    head = re.compile(f"{_slot_pattern(bare.head)}({_names(tools)}){_slot_pattern(bare.between)}" + r"(?=\{)")
    found = head.match(text) if typed else head.search(text)
    if found is None:
        return None
    calls, rest = _read_calls(text[found.start() :], tools, bare, new_id)
    return Calls(text[: found.start()].strip(), calls) if rest is None else None


def _unmarked(text: str, form: CallFormat) -> str:
    if form.answer_open and text.lstrip().startswith(form.answer_open):
        text = text.lstrip().removeprefix(form.answer_open)
    if form.answer_close and text.rstrip().endswith(form.answer_close):
        text = text.rstrip().removesuffix(form.answer_close)
    return text


def _first_call(text: str, form: CallFormat, typed: bool) -> int | None:
    """Where the first call begins."""
    if typed or form.anchored:
        found = re.compile(r"\s*(" + form.trigger + ")").match(text)
    else:
        found = re.compile("(" + form.trigger + ")").search(text)
    return found.start(1) if found else None


def _read_calls(
    text: str, tools: Sequence[Tool], form: CallFormat, new_id: Callable[[], str]
) -> tuple[tuple[ToolCall, ...], str | None]:
    """(whole calls, the text from where it is no longer one; None if there is none)."""
    names = _names(tools)
    between, after = _slot_pattern(form.between), re.compile(_slot_pattern(form.after))
    first = re.compile(f"{_slot_pattern(form.head)}({names}){between}")
    further = re.compile(f"{_slot_pattern(form.separator + form.before)}({names}){between}")
    calls: list[ToolCall] = []
    at = 0
    while head := (further if calls else first).match(text, at):
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, head.end())
        except ValueError:
            return tuple(calls), text[at:]
        tail = after.match(text, end)
        if not isinstance(arguments, dict) or tail is None:
            return tuple(calls), text[at:]
        calls.append(ToolCall(new_id(), head[1], text[head.end() : end]))
        at = tail.end()
    ended = re.compile(_slot_pattern(form.end) + r"\s*").fullmatch(text, at)
    return tuple(calls), None if calls and ended else text[at:]


def _names(tools: Sequence[Tool]) -> str:
    """The longest first, as one name may begin with another."""
    return "|".join(re.escape(tool.name) for tool in sorted(tools, key=lambda tool: -len(tool.name)))


def _slot_pattern(text: str) -> str:
    return loose(text).replace(ID, f"[a-zA-Z0-9]{{{ID_LENGTH}}}").replace(INDEX, "[0-9]{1,2}")


def shown_text(text: str, form: CallFormat, state: ReasoningState, typed: bool, has_tools: bool) -> str:
    """See ``AnswerPlan.shown``."""
    marks = form.reasoning
    if marks is not None and state != "off":
        begun = text.lstrip()
        if state == "free" and not begun.startswith(marks.open):
            if marks.open.startswith(begun):
                return ""  # nobody can know yet
        else:
            text = text.partition(marks.close)[2]
    if form.answer_open:
        begun = text.lstrip()
        if form.answer_open.startswith(begun):
            return ""
        text = begun.removeprefix(form.answer_open)
    if form.answer_close:
        text = text[: _possible_begin(text, automaton("^" + re.escape(form.answer_close)))]
    if not has_tools:
        return text
    trigger = automaton("^" + form.trigger)
    if typed or form.anchored:
        space = len(text) - len(text.lstrip())
        return "" if _may_begin(text[space:], trigger) else text
    return text[: _possible_begin(text, trigger)]


def _possible_begin(text: str, wanted: Automaton) -> int:
    """The first place from which on the text is, or may become, what is wanted."""
    return next((at for at in range(len(text)) if _may_begin(text[at:], wanted)), len(text))


def _may_begin(text: str, wanted: Automaton) -> bool:
    state = 0
    for character in text:
        if wanted.ends[state]:
            return True
        code = ord(character)
        found = [to for charset, to in wanted.steps[state] if any(low <= code <= high for low, high in charset)]
        if not found:
            return False
        state = found[0]
    return True
