"""Finds out how a chat template writes calls, by rendering conversations with known words in them.

A template is a program that cannot be read, only run. So a call with a marked name and marked arguments is rendered;
what stands around the marks is the format. One, two and three calls tell what belongs to each call and what to all of
them. The format then has to predict a second probe, with other names and arguments, to the letter; if it does not, or
the template takes no calls, none of it is used.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentmux.calls.format import HARMONY, ID, INDEX, UNIFORM, CallFormat, Reasoning

Render = Callable[..., str]
"""``render(messages, tools=None, generation=True, **variables)`` of a chat template; may raise anything."""

_USER, _TEXT, _RESULT, _SYSTEM = "Ququestion", "Zztext", "Rrresult", "Sssystem"
_TOOLS = ("probe_alpha", "probe_beta", "probe_gamma")
_IDS = ("Aa1Bb2Cc3", "Dd4Ee5Ff6", "Gg7Hh8Ii9")

_REASONING_MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    (HARMONY, "<|channel|>final<|message|>"),
)
_SWITCHES = ("enable_thinking", "thinking")


class _NotDerived(Exception):
    """The template does not write calls in a way that can be read off."""


def describe(render: Render, source: str) -> CallFormat:
    """The format of a chat template. Never raises: what cannot be derived is left to our own format.

    Args:
        render: the compiled template.
        source: its text, which tells whether it knows of reasoning.
    """
    user = _message("user", _USER)
    base = replace(
        UNIFORM,
        system_role=_shows(render, [_message("system", _SYSTEM), user], _SYSTEM, _USER),
        alternating=not _shows(render, [user, _message("user", _TEXT)], _USER, _TEXT)
        or not _shows(
            render, [user, _message("assistant", _TEXT), _message("assistant", _RESULT), user], _TEXT, _RESULT
        ),
        reasoning=_reasoning(render, source),
    )
    if base.reasoning and base.reasoning.open == HARMONY:
        return base  # it calls from within its reasoning; in its final words, it can be told to do it our way
    if not _shows(render, [user], _TOOLS[0], "Ddescription", tools=_tools()):
        return base
    for text_arguments in (False, True):
        for empty in ("", None):
            try:
                return _derived(_Prober(render, text_arguments, empty), base)
            except _NotDerived:
                continue
            # Templates are programs from a model file: they can raise whatever they like.
            except Exception:
                continue
    return base


def _message(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def _tools() -> list[dict[str, Any]]:
    schema = {"type": "object", "properties": {"key": {"type": "string", "description": "k"}}, "required": ["key"]}
    return [
        {"type": "function", "function": {"name": name, "description": "Ddescription", "parameters": schema}}
        for name in _TOOLS
    ]


def _shows(render: Render, messages: Sequence[Mapping[str, Any]], *words: str, tools: Any = None) -> bool:
    try:
        text = render(messages, tools=tools)
    except Exception:
        return False
    return all(word in text for word in words)


@dataclass(frozen=True)
class _Prober:
    """Renders probes in one of the ways that templates may want them."""

    render: Render
    text_arguments: bool
    empty: str | None

    def calls(self, arguments: Sequence[Mapping[str, Any]], content: str | None) -> dict[str, Any]:
        """An assistant's message with a call for each of the arguments."""
        calls = [
            {
                "type": "function",
                "id": _IDS[i],
                "function": {"name": _TOOLS[i], "arguments": json.dumps(one) if self.text_arguments else dict(one)},
            }
            for i, one in enumerate(arguments)
        ]
        return _message("assistant", content, tool_calls=calls)

    def around_text(self) -> tuple[str, str]:
        """What stands before and behind an answer in plain text."""
        messages = [_message("user", _USER), _message("assistant", _TEXT)]
        head, found, tail = self.behind(self.render(messages, tools=_tools(), generation=False)).partition(_TEXT)
        if not found:
            raise _NotDerived
        return head, tail

    def written(self, arguments: Sequence[Mapping[str, Any]]) -> str:
        """All that the template writes for such a message: from behind the user's message on, without what it writes
        around a message of plain text."""
        head, tail = self.around_text()
        messages = [_message("user", _USER), self.calls(arguments, self.empty)]
        text = self.behind(self.render(messages, tools=_tools(), generation=False))
        calls = _without_end(text[_shared(head, text) :], tail)
        for opening, closing in _REASONING_MARKS:  # empty, as nothing was thought
            calls = re.sub(rf"^\s*{re.escape(opening)}\s*{re.escape(closing)}\s*", "", calls)
        return calls

    @staticmethod
    def behind(text: str) -> str:
        _, found, rest = text.rpartition(_USER)
        if not found:
            raise _NotDerived
        return rest


def _common(one: str, other: str) -> str:
    """What both begin with."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return one[: sum(1 for _ in pairs)]


def _shared(head: str, text: str) -> int:
    """Characters that both begin with, marks such as ``<tool_call>`` counting only as a whole."""
    shared = _common(head, text)
    opened = max(shared.rfind("<"), shared.rfind("["))
    return opened if opened >= 0 and not re.search(r"[>\]]", shared[opened:]) else len(shared)


def _shared_end(text: str, tail: str) -> int:
    """Characters that both end with, marks counting only as a whole."""
    shared = _common(text[::-1], tail[::-1])[::-1]
    closed = re.match(r"[^<\[]*[>\]]", shared) if len(shared) < len(tail) else None
    return len(shared) - (closed.end() if closed else 0)


def _without_end(text: str, tail: str) -> str:
    """Without the end of the turn, which the model's end token stands for."""
    length = _shared_end(text, tail)
    if text[len(text) - length :].strip():
        return text[: len(text) - length]
    # Some end a turn that calls in another way than one that answers.
    return re.sub(r"<\|[a-z_]+\|>\s*$", "", text) if tail.strip() else text


@dataclass(frozen=True)
class _Pieces:
    """What stands around names and arguments."""

    heads: tuple[str, ...]
    """[call] before its name: from the beginning, or from behind the arguments of the one before."""
    betweens: tuple[str, ...]
    tail: str
    arguments: tuple[str, ...]
    text: str


def _pieces(text: str, expected: Sequence[Mapping[str, Any]], text_arguments: bool) -> _Pieces:
    heads, betweens, written, at = [], [], [], 0
    for i, arguments in enumerate(expected):
        name = text.find(_TOOLS[i], at)
        if name < 0:
            raise _NotDerived
        behind = name + len(_TOOLS[i])
        start, end = _json_at(text, behind, arguments)
        heads.append(_with_slots(text[at:name]))
        betweens.append(_with_slots(text[behind:start]))
        written.append(text[start:end])
        at = end
    return _Pieces(tuple(heads), tuple(betweens), _with_slots(text[at:]), tuple(written), text)


def _json_at(text: str, start: int, expected: Mapping[str, Any]) -> tuple[int, int]:
    while (start := text.find("{", start)) >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            found, end = None, 0
        if found == expected:
            return start, end
        start += 1
    raise _NotDerived


def _with_slots(text: str) -> str:
    """With marks where ids stand: the call's own and that of the one before it."""
    for one in _IDS:
        text = text.replace(one, ID)
    return text


def _numbered(text: str, call: int) -> str:
    return re.sub(rf"(?<![0-9]){call}(?![0-9])", INDEX, text)


def _derived(prober: _Prober, base: CallFormat) -> CallFormat:
    marked = [{"key": f"Vvalue{i}"} for i in range(3)]
    one = _pieces(prober.written(marked[:1]), marked[:1], prober.text_arguments)
    made = replace(
        base,
        native=True,
        begin="",
        before=one.heads[0].lstrip(),
        between=one.betweens[0],
        after=one.tail,
        separator="",
        end="",
        parallel=False,
        text_arguments=prober.text_arguments,
        empty_content=prober.empty,
    )
    try:
        several = _several(made, _pieces(prober.written(marked), marked, prober.text_arguments))
        _verify(several, prober, 3)
        made = several
    except Exception:  # the template refuses several calls, or writes them in a way of its own
        _verify(made, prober, 1)
    if not made.head and not made.between.strip('": \n'):
        raise _NotDerived  # nothing tells a call from text
    opening, closing = _answer_marks(prober, one.text)
    return replace(made, shows_text=_shows_text(prober, marked[:1]), answer_open=opening, answer_close=closing)


def _answer_marks(prober: _Prober, calls: str) -> tuple[str, str]:
    """Marks that the model itself writes around an answer, and not around calls."""
    head, tail = prober.around_text()
    prompt = prober.behind(prober.render([_message("user", _USER)], tools=_tools()))
    opening = head.removeprefix(prompt).strip() if head.startswith(prompt) else ""
    if not re.fullmatch(r"<\|[^<>]+\|>", opening) or any(opening in marks for marks in _REASONING_MARKS):
        return "", ""
    closing = re.match(r"<\|[^<>]+\|>", tail)
    return opening, closing[0] if closing and closing[0] not in prompt + calls else ""


def _several(single: CallFormat, pieces: _Pieces) -> CallFormat:
    """The format of several calls, from what stands between three of them."""
    first, second, third = (head.lstrip() if not i else head for i, head in enumerate(pieces.heads))
    betweens = pieces.betweens
    single_before, single_between = single.before, single.between
    if second != third or len(set(betweens)) > 1:
        # It numbers its calls, from 0 or from 1 on; the end of one call may stand before the next one's number.
        for base in (0, 1):
            numbered = [_numbered(head, i + base) for i, head in enumerate((first, second, third))]
            between = {_numbered(text, i + base) for i, text in enumerate(betweens)}
            if numbered[1] == numbered[2] and len(between) == 1:
                first, second, third = numbered
                single_before, single_between = numbered[0], between.pop()
                break
        else:
            raise _NotDerived
    # What all heads end with belongs to each call, what the middle shares with the end too; the rest is around them.
    before = _common(single_before[::-1], second[::-1])[::-1]
    rest = second[: len(second) - len(before)]
    after = _common(rest, single.after)
    return replace(
        single,
        begin=single_before[: len(single_before) - len(before)],
        before=before,
        between=single_between,
        after=after,
        separator=rest[len(after) :],
        end=single.after[len(after) :],
        parallel=True,
    )


def _verify(made: CallFormat, prober: _Prober, n_calls: int) -> None:
    """The format must say, to the letter, what the template writes for other arguments."""
    others = [{"n": i, "text": 'a "b" \\ é', "list": [1, {"x": None}], "key": "{"} for i in range(n_calls)]
    for count in {1, n_calls}:
        text = prober.written(others[:count])
        written = _pieces(text, others[:count], prober.text_arguments).arguments
        for start in (0, 1):
            expected = "".join(
                _filled((made.begin if not i else made.separator) + made.before, i, start)
                + _TOOLS[i] + _filled(made.between, i, start) + written[i] + _filled(made.after, i, start)
                for i in range(count)
            )  # fmt: skip
            if text.strip() == (expected + made.end).strip():
                break
        else:
            raise _NotDerived
    asked, answered = _message("user", _USER), _message("tool", _RESULT, name=_TOOLS[0], tool_call_id=_IDS[0])
    conversation = [asked, prober.calls(others[:1], prober.empty), answered]
    shown = prober.render(conversation, tools=_tools())
    if not 0 <= shown.rfind(_TOOLS[0]) < shown.rfind(_RESULT):
        raise _NotDerived  # results are not shown behind their calls


def _filled(text: str, call: int, start: int) -> str:
    return text.replace(ID, _IDS[call]).replace(INDEX, str(call + start))


def _shows_text(prober: _Prober, arguments: Sequence[Mapping[str, Any]]) -> bool:
    messages = [_message("user", _USER), prober.calls(arguments, _TEXT)]
    try:
        text = prober.render(messages, tools=_tools(), generation=False)
    except Exception:
        return False
    return 0 <= text.rfind(_TEXT) < text.rfind(_TOOLS[0])


def _reasoning(render: Render, source: str) -> Reasoning | None:
    """Which marks of reasoning the template knows, and whether it can turn that on and off."""
    for opening, closing in _REASONING_MARKS:
        if closing not in source and opening not in source:
            continue
        made = Reasoning(opening, closing, "free")
        made = replace(made, default=made.state(_prompt(render, {}) or ""))
        for switch in _SWITCHES:
            on, off = _prompt(render, {switch: True}), _prompt(render, {switch: False})
            if on is not None and off is not None and made.state(on) != made.state(off):
                return replace(made, switch=switch)
        return made
    return None


def _prompt(render: Render, variables: Mapping[str, Any]) -> str | None:
    try:
        return render([_message("user", _USER)], **variables)
    except Exception:
        return None
