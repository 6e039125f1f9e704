"""Grammars of "calls or an answer", and what is read out of the texts that they admit."""

from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agentmux import ConfigError
from agentmux.calls import UNIFORM, Answer, AnswerPlan, AnswerPlans, CallFormat, Calls, Reasoned, plan_answer
from agentmux.prompt import ChatRenderer
from agentmux.schema import AnswerRejected, OutputSchema, output_schema
from agentmux.tools import Tool

from . import chat_templates
from .chat_templates import ALL
from .gbnf_texts import Grammar, llama_reads, matches

RENDERER = ChatRenderer()
FORMS: dict[str, CallFormat] = {
    name: RENDERER.form("m", fixture.source, "<s>", fixture.eos) for name, fixture in ALL.items()
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
TEXT = output_schema(str)
PROMPTS = ("", "<think>\n", "</think>\n\n")


class Point(BaseModel):
    x: int
    y: list[str] = []


class Tooly(BaseModel):
    """Looks like calls of all kinds."""

    name: str
    tool: str = ""
    parameters: dict[str, int] = {}


def search(query: str, limit: int = 5, exact: bool | None = None) -> str:
    """Searches."""
    return query


def draw(kind: Literal["circle", "square"], at: Point) -> str:
    """Draws."""
    return kind


def draw_all() -> str:
    """Draws everything; its name begins with another's."""
    return ""


def note(value: Any, table: dict[int, Any] = {}) -> None:  # noqa: B006
    """Notes anything."""


TOOLS = tuple(Tool.of(one) for one in (search, draw, draw_all, note))


def planned(form: CallFormat, output: OutputSchema = TEXT, prompt: str = "", **asked: Any) -> AnswerPlan:
    return plan_answer(asked.pop("tools", TOOLS), output, form, prompt, **asked)


def written(form: CallFormat, *calls: tuple[str, str]) -> str:
    """The calls as the model would write them."""
    text = "".join(
        (form.separator if i else form.begin) + form.before + name + form.between + arguments + form.after
        for i, (name, arguments) in enumerate(calls)
    )
    return (text + form.end).replace("\ue000", "abcdefghi").replace("\ue001", "0")


def without_ids(calls: Calls) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in calls.calls]


@forms
@pytest.mark.parametrize("output", [TEXT, output_schema(Point), output_schema(Tooly)], ids=["text", "point", "tooly"])
@pytest.mark.parametrize("prompt", PROMPTS, ids=["free", "open", "off"])
@pytest.mark.parametrize("choice", ["auto", "required", "none", "draw"])
def test_llama_takes_the_grammar(form: CallFormat, output: OutputSchema, prompt: str, choice: str) -> None:
    plan = planned(form, output, prompt, choice=choice)
    assert plan.grammar is None or llama_reads(plan.grammar), plan.grammar
    assert (plan.grammar is None) == (choice == "none" and output is TEXT)


@forms
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_whatever_the_grammar_admits_is_read(form: CallFormat, seed: int, data: st.DataObject) -> None:
    output = data.draw(st.sampled_from([TEXT, output_schema(Point), output_schema(Tooly)]))
    choice = data.draw(st.sampled_from(["auto", "required", "draw"]))
    prompt = data.draw(st.sampled_from(PROMPTS))
    plan = planned(form, output, prompt, choice=choice)
    assert plan.grammar is not None
    text = Grammar(plan.grammar, random.Random(seed)).draw()
    if plan.grammar_after:
        text = f"thought{plan.grammar_after}{text}"
    said = plan.read(text).answer
    if isinstance(said, Answer):
        assert choice == "auto"
        output.parse(said.text)
        return
    assert said.calls
    assert not said.cut
    for call in said.calls:
        assert choice in ("auto", "required", call.name)
        next(tool for tool in TOOLS if tool.name == call.name).validate(call.arguments)


QUERIES = st.text(st.characters(exclude_categories=["C"]), max_size=30)
CALLS = st.lists(
    st.one_of(
        st.tuples(
            st.just("search"),
            st.builds(lambda query, more: {"query": query} | more, QUERIES, st.sampled_from([{}, {"limit": -99}])),
        ),
        st.tuples(st.just("draw"), st.just({"kind": "circle", "at": {"x": 3, "y": ["}", '"']}})),
        st.tuples(st.just("draw_all"), st.just({})),
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip


@forms
@settings(max_examples=20)
@given(calls=CALLS, before=st.sampled_from(["", "Let me see. ", "Hm {", "```json\n"]), typed=st.booleans())
def test_calls_are_admitted_and_read_as_they_were_meant(
    form: CallFormat, calls: list[tuple[str, dict[str, Any]]], before: str, typed: bool
) -> None:
    calls = calls if form.parallel else calls[:1]
    before = "" if typed or form.anchored else before
    text = before + written(form, *((name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls))
    plan = planned(form, output_schema(Point) if typed else TEXT)
    assert plan.grammar is not None
    assert matches(plan.grammar, text), plan.grammar
    said = plan.read(text).answer
    assert isinstance(said, Calls)
    assert without_ids(said) == calls
    assert said.text == ("" if before.startswith("```") else before.strip())


@forms
@pytest.mark.parametrize(
    "text",
    [
        "Just words.", "", '{"a": 1}', "<b>bold</b> [1]", '```json\n{"x": 1}\n```', "a < b > c", '{"nam',
        "</tool_call>", "\n\n  x",
    ],
)  # fmt: skip
def test_plain_answers_are_admitted_and_left_alone(form: CallFormat, text: str) -> None:
    plan = planned(form)
    assert plan.grammar is not None
    assert matches(plan.grammar, text)
    assert plan.read(text).answer == Answer(text)


@forms
@pytest.mark.parametrize(
    "arguments", ['{"query": 3}', '{"query": "a", "more": 1}', "{}", '{"query": "a"', "null", '{"limit": 3}']
)
def test_malformed_calls_are_not_admitted(form: CallFormat, arguments: str) -> None:
    """Neither as calls nor, by a way round, as text."""
    for output in (TEXT, output_schema(Point)):
        plan = planned(form, output)
        assert plan.grammar is not None
        assert matches(plan.grammar, written(form, ("search", '{"query": "a"}')))
        assert not matches(plan.grammar, written(form, ("search", arguments)))
        assert not matches(plan.grammar, written(form, ("unknown", '{"query": "a"}')))


@forms
@settings(max_examples=30)
@given(cut=st.integers(1, 200))
def test_a_call_that_was_cut_is_said_to_be(form: CallFormat, cut: int) -> None:
    calls = [("search", '{"query": "abc", "limit": 12}'), ("draw_all", "{}")][: 1 + form.parallel]
    text = written(form, *calls)
    cut = min(cut, len(text) - 1)
    plan = planned(form)
    said = plan.read(text[:cut], cut=True).answer
    if isinstance(said, Answer):
        assert len(text[:cut]) < len(form.head)  # nobody can know yet that it was to be a call
        return
    assert said.cut or not form.end.strip()
    assert without_ids(said) == [(name, json.loads(arguments)) for name, arguments in calls[: len(said.calls)]]
    if said.cut:
        with pytest.raises(AnswerRejected, match="malformed"):
            plan.read(text[:cut])


def test_calls_may_be_spaced_as_a_model_likes() -> None:
    """Without a grammar, or before it got hold."""
    said = planned(UNIFORM).read('Well:\n{ "tool" : "draw_all","arguments":{} }\n').answer
    assert isinstance(said, Calls)
    assert (said.text, without_ids(said)) == ("Well:", [("draw_all", {})])


def test_ids_come_from_whoever_reads() -> None:
    ids = iter(["a", "b"])
    text = written(UNIFORM, ("draw_all", "{}"), ("draw_all", "{}"))
    said = planned(UNIFORM).read(text, new_id=lambda: next(ids)).answer
    assert isinstance(said, Calls)
    assert [call.id for call in said.calls] == ["a", "b"]
    plain = planned(UNIFORM).read(text).answer
    assert isinstance(plain, Calls)
    assert [call.id for call in plain.calls] == ["call-1", "call-2"]


def test_one_call_only_where_several_are_not_wanted() -> None:
    plan = planned(UNIFORM, parallel=False)
    assert plan.grammar is not None
    assert matches(plan.grammar, written(UNIFORM, ("draw_all", "{}")))
    assert not matches(plan.grammar, written(UNIFORM, ("draw_all", "{}"), ("draw_all", "{}")))


def test_an_answer_that_begins_like_a_call_is_still_an_answer() -> None:
    """Llama's calls have no marks: JSON that is no call of a known tool is the answer."""
    form = FORMS["llama31"]
    text = '{"name": "Ada", "tool": "pen", "parameters": {"a": 1}}'
    plan = planned(form, output_schema(Tooly))
    assert plan.grammar is not None
    assert matches(plan.grammar, text)
    assert plan.read(text).answer == Answer(text)


def test_marks_within_a_typed_answer_are_not_calls() -> None:
    text = '{"x": 1, "y": ["<tool_call>", "{\\"tool\\": "]}'
    for name in ("qwen25", "chatml"):
        assert planned(FORMS[name], output_schema(Point)).read(text).answer == Answer(text)


def test_marks_around_answers_are_taken_off() -> None:
    form = FORMS["command_r7b"]
    for output, text in ((TEXT, "Hello."), (output_schema(Point), '{"x": 1}')):
        plan = planned(form, output)
        marked = f"<|START_RESPONSE|>{text}<|END_RESPONSE|>"
        assert plan.grammar is not None
        for said in (text, marked):
            assert matches(plan.grammar, said)
            assert plan.read(said).answer == Answer(text)


@pytest.mark.parametrize("choice", ["other", "require"])
def test_a_choice_that_cannot_be_made(choice: str) -> None:
    with pytest.raises(ConfigError, match="no tool's name"):
        planned(UNIFORM, choice=choice)
    with pytest.raises(ConfigError, match="needs a tool"):
        planned(UNIFORM, tools=(), choice="required")


QWEN3 = FORMS["qwen3"]
OPEN = "<|im_start|>assistant\n<think>\n"


def test_reasoning_that_the_prompt_opened_comes_before_the_grammar() -> None:
    plan = planned(FORMS["qwen3_thinking"], output_schema(Point), OPEN, tools=())
    assert plan.grammar_after == "</think>"
    assert plan.grammar is not None
    assert matches(plan.grammar, '\n\n{"x": 1}')
    assert plan.read('I think <b>.\n</think>\n\n{"x": 1}') == Reasoned("I think <b>.", Answer('\n\n{"x": 1}'))
    assert output_schema(Point).parse('\n\n{"x": 1}') == Point(x=1)
    # Some models open again what is open.
    assert plan.read('<think>\nHm.</think>{"x": 1}').reasoning == "Hm."
    free = planned(FORMS["qwen3_thinking"], TEXT, OPEN, tools=())
    assert (free.grammar, free.grammar_after) == (None, None)
    assert free.read("Hm.</think>Yes.") == Reasoned("Hm.", Answer("Yes."))


@pytest.mark.parametrize("tools", [(), TOOLS], ids=["no tools", "tools"])
def test_reasoning_that_the_model_opens_itself_is_part_of_the_grammar(tools: tuple[Tool, ...]) -> None:
    """With it or without it, what comes behind is held to the type."""
    plan = planned(QWEN3, output_schema(Point), tools=tools)
    assert plan.grammar is not None
    assert plan.grammar_after is None
    thought = '<think>\nMaybe <tool_call>? {"x": \n</think>\n\n'
    assert matches(plan.grammar, thought + '{"x": 1}')
    assert matches(plan.grammar, '{"x": 1}')
    assert not matches(plan.grammar, thought + "no")
    assert not matches(plan.grammar, '<think>{"x": 1}')
    assert plan.read(thought + '{"x": 1}') == Reasoned('Maybe <tool_call>? {"x":', Answer('\n\n{"x": 1}'))


def test_calls_that_a_model_only_thinks_of_are_not_made() -> None:
    plan = planned(QWEN3)
    assert plan.grammar is not None
    thought = '<think>\nI could <tool_call>{"name": "format_disk"}</tool_call>.\n</think>\n'
    assert matches(plan.grammar, thought + "No.")
    assert plan.read(thought + "No.").answer == Answer("\nNo.")
    called = plan.read(thought + written(QWEN3, ("draw_all", "{}"))).answer
    assert isinstance(called, Calls)
    assert without_ids(called) == [("draw_all", {})]
    assert not matches(plan.grammar, thought + written(QWEN3, ("format_disk", "{}")))


def test_reasoning_that_is_never_closed_is_said_to_be() -> None:
    plan = planned(FORMS["qwen3_thinking"], TEXT, OPEN, tools=())
    with pytest.raises(AnswerRejected, match=r"not closed by </think> \(it ended there"):
        plan.read("I wonder")
    with pytest.raises(AnswerRejected, match="cut by max_tokens"):
        plan.read("I wonder", cut=True)
    with pytest.raises(AnswerRejected, match="the answer never came"):
        planned(QWEN3, tools=()).read("<think>I wonder")


def test_where_reasoning_is_off_nothing_is_split_off() -> None:
    plan = planned(QWEN3, TEXT, "<think>\n\n</think>\n\n", tools=())
    assert plan.read("<think> is a mark") == Reasoned("", Answer("<think> is a mark"))


def test_channels_are_read_as_reasoning_and_answer() -> None:
    plan = planned(FORMS["gpt_oss"], TEXT, "<|start|>assistant", tools=())
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
    read = plan.read(text)
    assert read.answer == Answer("Yes.")
    assert "Hm." in read.reasoning


def test_what_the_model_wrote_is_what_the_template_writes_of_it() -> None:
    """So that the KV cache of a call still counts in the next turn."""
    form = FORMS["qwen25"]
    plan = planned(form, choice="required")
    assert plan.grammar is not None
    for arguments in ('{"query": "a", "limit": 3}', '{"query": "\\u00e9"}'):
        assert matches(plan.grammar, written(form, ("search", arguments)))
    assert not matches(plan.grammar, written(form, ("search", '{"query":"a"}')))


def test_plans_are_remembered() -> None:
    plans, point = AnswerPlans(), output_schema(Point)
    plan = plans.of(TOOLS, point, QWEN3, "a prompt")
    assert plans.of(list(TOOLS), point, QWEN3, "another") is plan
    assert plans.of(TOOLS, point, QWEN3, OPEN) is not plan
    assert plans.of(TOOLS, TEXT, QWEN3, "a prompt") is not plan
    assert plan == planned(QWEN3, point)
    assert plans.of((), point, UNIFORM, "").grammar is point.grammar


def test_special_tokens_are_wanted_where_marks_may_come() -> None:
    assert planned(UNIFORM).show_special
    assert planned(QWEN3, tools=()).show_special
    assert planned(FORMS["command_r7b"], tools=()).show_special
    assert not planned(UNIFORM, output_schema(Point), tools=()).show_special
    assert not planned(QWEN3, TEXT, "</think>", tools=()).show_special


def test_the_fixtures_are_all_there() -> None:
    assert len(FORMS) == len(ALL) >= 15
    assert replace(FORMS["chatml"]) == UNIFORM
    assert chat_templates.CHATML.source


@forms
@settings(max_examples=20)
@given(calls=CALLS, before=st.sampled_from(["", "Let me see. <", "A [b] {"]), typed=st.booleans())
def test_what_is_streamed_is_never_part_of_a_call(
    form: CallFormat, calls: list[tuple[str, dict[str, Any]]], before: str, typed: bool
) -> None:
    before = "" if typed or form.anchored else before
    text = before + written(form, *((name, json.dumps(arguments)) for name, arguments in calls[:1]))
    plan = planned(form, output_schema(Point) if typed else TEXT)
    parts = [plan.shown(text[:end]) for end in range(len(text) + 1)]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(parts))
    assert before.startswith(parts[-1]) or parts[-1].strip() == before.strip()


@forms
@pytest.mark.parametrize("answer", ["Two < three, [a] {b}.", '{"x": 1, "y": ["<"]}'])
def test_answers_are_streamed_whole(form: CallFormat, answer: str) -> None:
    typed = answer.startswith("{")
    plan = planned(form, output_schema(Point) if typed else TEXT)
    for text in (answer, f"{form.answer_open}{answer}{form.answer_close}"):
        parts = [plan.shown(text[:end]) for end in range(len(text) + 1)]
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(parts))
        assert parts[-1] == answer


def test_reasoning_is_not_streamed_as_an_answer() -> None:
    text = "<think>\nHm <b>.\n</think>\n\nYes."
    plan = planned(QWEN3)
    parts = [plan.shown(text[:end]) for end in range(len(text) + 1)]
    assert {part.strip() for part in parts} == {"", "Y", "Ye", "Yes", "Yes."}
    opened = planned(FORMS["qwen3_thinking"], TEXT, OPEN)
    assert opened.shown("Hm.") == ""
    assert opened.shown("Hm.</think>Yes") == "Yes"
    assert {plan.reasoned(text[:end]) for end in range(len(text) + 1)} == {"", "Hm <b>."}
    assert (opened.reasoned("Hm."), opened.reasoned("Hm.</think>")) == ("", "Hm.")


@pytest.mark.parametrize("name", ["mistral_v3", "mistral_v11", "deepseek_v3", "command_r7b", "nemotron", "qwen25"])
def test_calls_are_read_where_an_engine_does_not_show_special_tokens(name: str) -> None:
    form = FORMS[name]
    calls = [("search", '{"query": "a [b]"}'), ("draw_all", "{}")]
    text = re.sub(r"<[^<>\s]+>|\[[A-Z_]+\]", "", written(form, *calls))
    said = planned(form).read(text).answer
    assert isinstance(said, Calls), text
    assert without_ids(said) == [(called, json.loads(arguments)) for called, arguments in calls]
    assert planned(form).read(text + " is how.").answer == Answer(text + " is how.")
