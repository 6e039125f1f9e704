"""What an answer may be (a call, an answer, reasoning before either), as a grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from agentmux.calls.format import ID, ID_LENGTH, INDEX, CallFormat, Choice, ReasoningState
from agentmux.errors import ConfigError
from agentmux.gbnf import Schema, add_schema
from agentmux.gbnf_rules import Rules, scan_rules, text_literal
from agentmux.regular import scanner
from agentmux.schema import OutputSchema
from agentmux.tools import Tool

_SPACE = "[ \\t\\n]{0,16}"
"""What models put before an answer."""


def chosen_tools(tools: Sequence[Tool], choice: Choice) -> tuple[Tool, ...]:
    """The tools that ``choice`` leaves. Raises ConfigError if it names none of them, or demands one of none."""
    if choice == "none":
        return ()
    if choice in ("auto", "required"):
        if choice == "required" and not tools:
            raise ConfigError("choice='required' needs a tool")
        return tuple(tools)
    named = tuple(tool for tool in tools if tool.name == choice)
    if not named:
        raise ConfigError(f"choice={choice!r} is no tool's name; there are {[tool.name for tool in tools]}")
    return named


def answer_grammar(
    tools: Sequence[Tool],
    output: OutputSchema,
    form: CallFormat,
    *,
    choice: Choice = "auto",
    parallel: bool = True,
    state: ReasoningState = "off",
) -> str | None:
    """GBNF of "calls, or the answer", and of reasoning before it where the model may begin that itself.

    ``state``: what the prompt says of reasoning; ``free``: the model may begin with it.

    None: any text will do. Of each character at most one way of reading fits, but where a typed answer and a call of a
    template without marks begin alike. Arguments are spaced as chat templates space them, so that a call rendered again
    in the next prompt is the same text, and its KV cache still counts.
    """
    chosen = chosen_tools(tools, choice)
    if not chosen and output.schema is None:
        return None
    if not chosen and form.reasoning is None and not form.answer_open:
        return output.grammar
    rules = Rules()
    must_call = choice not in ("auto", "none")
    if output.schema is None and not must_call:
        return rules.grammar(_text_or_calls(rules, chosen, form, parallel, may_think=state == "free"))
    options = [_calls(rules, chosen, replace(form, parallel=form.parallel and parallel))] if chosen else []
    if not must_call and output.schema is not None:
        options.append(_typed_answer(rules, output.schema, form))
    body = rules.add(" | ".join(options))
    if state != "free" or form.reasoning is None:
        return rules.grammar(f"{_SPACE} {body}")
    thought = _thought(rules, form.reasoning.close, f"{_SPACE} {body}")
    return rules.grammar(f"{_SPACE} ({text_literal(form.reasoning.open)} {thought} | {body})")


def _typed_answer(rules: Rules, schema: Schema, form: CallFormat) -> str:
    """JSON, in the marks that the model may write around its answers."""
    opening = f"({text_literal(form.answer_open)} {_SPACE})?" if form.answer_open else ""
    closing = f"({_SPACE} {text_literal(form.answer_close)})?" if form.answer_close else ""
    return rules.add(f"{opening} {rules.add(add_schema(rules, schema))} {closing}".strip())


def _thought(rules: Rules, close: str, then: str) -> str:
    """Text up to the end of the reasoning, which must come, and what follows upon it."""
    scan = scanner([("close", re.escape(close), False)])
    return scan_rules(rules, scan, {"close": rules.add(then)}, may_end=False)


def _text_or_calls(rules: Rules, tools: Sequence[Tool], form: CallFormat, parallel: bool, may_think: bool) -> str:
    """Any text; but where it begins a call, it must be one."""
    form = replace(form, parallel=form.parallel and parallel)
    trigger = r"\s*" + form.trigger if form.anchored else form.trigger
    wanted = [("call", trigger, form.anchored)] if tools else []
    found = {"call": rules.add(_calls(rules, tools, form, begun=True))} if tools else {}
    body = scan_rules(rules, scanner(wanted), found)
    if not may_think or form.reasoning is None:
        return body
    opening = [("think", r"\s*" + re.escape(form.reasoning.open), True)]
    found["think"] = _thought(rules, form.reasoning.close, body)
    return scan_rules(rules, scanner([*opening, *wanted]), found)


def _calls(rules: Rules, tools: Sequence[Tool], form: CallFormat, begun: bool = False) -> str:
    """One or more calls; ``begun``: from behind the trigger on."""
    named = " | ".join(
        f"{_slotted(tool.name + form.between)} {add_schema(rules, tool.parameters, canonical=True)}" for tool in tools
    )
    call = rules.add(f"({named}) {_slotted(form.after)}")
    head = _slotted(form.forced if begun else form.head)
    further = _slotted(form.separator + form.before)
    more = f"({further} {call})*" if form.parallel else ""
    return " ".join(part for part in (head, call, more, _slotted(form.end)) if part)


def _slotted(text: str) -> str:
    """A literal of a format in GBNF; "" for no text."""
    parts = []
    for part in re.split(f"([{ID}{INDEX}])", text):
        if part == ID:
            parts.append(f"[a-zA-Z0-9]{{{ID_LENGTH}}}")
        elif part == INDEX:
            parts.append("[0-9]{1,2}")
        elif part:
            parts.append(text_literal(part))
    return " ".join(parts)
