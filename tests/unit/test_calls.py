"""How models write calls: found out from their chat templates, and written again as they do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux import Message, RequestInvalid, ToolCall
from agentmux.calls import UNIFORM, CallFormat, describe
from agentmux.prompt import ChatRenderer
from agentmux.tools import Tool

from . import chat_templates
from .chat_templates import ALL, Fixture

RENDERER = ChatRenderer()


def look_up(word: str, times: int = 1) -> str:
    """Looks a word up."""
    return word * times


TOOLS = (Tool.of(look_up),)


def form_of(fixture: Fixture) -> CallFormat:
    return RENDERER.form("m", fixture.source, "<s>", fixture.eos)


def render(fixture: Fixture, *messages: Message, **asked: Any) -> str:
    return RENDERER.render("m", fixture.source, messages, "<s>", fixture.eos, **asked)


def calling(*arguments: str, content: str = "") -> Message:
    calls = tuple(ToolCall(f"call-{i}", "f", text) for i, text in enumerate(arguments))
    return Message("assistant", content, tool_calls=calls)


fixtures = pytest.mark.parametrize("fixture", ALL.values(), ids=ALL.keys())


@fixtures
def test_the_format_is_found_out(fixture: Fixture) -> None:
    form = form_of(fixture)
    assert form.native == fixture.native
    if not form.native:
        assert replace(form, system_role=True, alternating=False, reasoning=None) == UNIFORM
        return
    assert form.parallel == bool(fixture.calls)
    assert fixture.call in render(fixture, Message("user", "Q"), calling('{"x": 1}'))
    if fixture.calls:
        assert fixture.calls in render(fixture, Message("user", "Q"), calling('{"x": 1}', '{"x": 1}'))


@fixtures
def test_a_whole_conversation_with_tools_is_written(fixture: Fixture) -> None:
    """Instructions, tools, question, call and result are all there, in this order."""
    call = ToolCall("a", "look_up", '{"word": "aardvark", "times": 2}')
    messages = (
        Message("system", "Instructed."),
        Message("user", "Asked."),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "Resulted.", tool_call=call),
    )
    text = render(fixture, *messages, tools=TOOLS)
    at = [text.find("Instructed."), text.find("Looks a word up."), text.find("Asked."), text.find("aardvark")]
    assert -1 not in at
    assert max(at[:3]) < at[3] < text.find("Resulted.")
    assert text.count("Asked.") == 1
    again = render(fixture, *messages, Message("assistant", "Done."), Message("user", "More."), tools=TOOLS)
    assert again.rfind("Done.") < again.rfind("More.")


@fixtures
def test_several_calls_and_results_are_written(fixture: Fixture) -> None:
    form = form_of(fixture)
    if not form.parallel:
        return
    calls = tuple(ToolCall(f"id-{i}", "look_up", json.dumps({"word": f"w{i}"})) for i in range(3))
    results = tuple(Message("tool", f"r{i}", tool_call=call) for i, call in enumerate(calls))
    text = render(
        fixture, Message("user", "Q"), Message("assistant", "", tool_calls=calls), *results, tools=TOOLS
    )  # fmt: skip
    places = [text.rfind(word) for word in ("w0", "w1", "w2", "r0", "r1", "r2")]
    assert places == sorted(places)
    assert -1 not in places


def test_messages_without_tools_are_rendered_as_ever() -> None:
    text = render(chat_templates.CHATML, Message("system", "S"), Message("user", "U"), Message("assistant", "A"))
    expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    assert text == expected + "<|im_start|>assistant\n"


def test_without_a_template_tools_are_explained_and_called_in_plain_text() -> None:
    assert RENDERER.form("m", None, "", "") is UNIFORM
    messages = (Message("user", "U"), calling('{"x": 1}', content="Hm."), Message("tool", "R", tool_call=None))
    text = RENDERER.render("m", None, messages, "", "", tools=TOOLS)
    assert text.startswith("You can use tools.")
    assert "- look_up: Looks a word up.\n" in text
    assert text.endswith('U\n\nHm.\n{"tool": "f", "arguments": {"x": 1}}\n\nResult of tool:\nR\n\n')


def test_a_system_message_goes_where_the_template_has_a_place_for_it() -> None:
    text = render(chat_templates.GEMMA, Message("system", "S."), Message("user", "U."))
    assert text == "<s><start_of_turn>user\nS.\n\nU.<end_of_turn>\n<start_of_turn>model\n"


def test_messages_of_one_role_are_joined_where_roles_must_alternate() -> None:
    text = render(chat_templates.GEMMA, Message("user", "A."), Message("user", "B."))
    assert "A.\n\nB." in text
    unchanged = render(chat_templates.CHATML, Message("user", "A."), Message("user", "B."))
    assert unchanged.count("<|im_start|>user") == 2


def test_what_no_template_can_say_is_one_clear_error() -> None:
    with pytest.raises(RequestInvalid, match=r"model m refuses the messages \(assistant\): roles must alternate"):
        render(chat_templates.GEMMA, Message("assistant", "A."))


def test_ids_are_of_the_form_that_templates_take() -> None:
    calls = tuple(ToolCall(f"a very long id, {i}", "f", "{}") for i in range(2))
    results = tuple(Message("tool", "R", tool_call=call) for call in reversed(calls))
    text = render(
        chat_templates.MISTRAL_V3, Message("user", "Q"), Message("assistant", "", tool_calls=calls), *results
    )  # fmt: skip
    assert text.index('"id": "call00000"') < text.index('"id": "call00001"')
    assert text.index('"call_id": "call00001"') < text.index('"call_id": "call00000"')


def test_arguments_come_as_the_template_takes_them() -> None:
    """Text where it adds texts together, values where it writes JSON itself."""
    assert form_of(chat_templates.DEEPSEEK_V3).text_arguments
    assert not form_of(chat_templates.LLAMA31).text_arguments


def test_text_before_calls_is_kept_where_the_template_shows_it() -> None:
    message = calling('{"x": 1}', content="Let me see.")
    shown = render(chat_templates.QWEN25, Message("user", "Q"), message)
    assert f"Let me see.\n{chat_templates.QWEN25.call}" in shown
    hidden = render(chat_templates.DEEPSEEK_V3, Message("user", "Q"), message)
    assert chat_templates.DEEPSEEK_V3.call in hidden
    assert "Let me see." not in hidden


@pytest.mark.parametrize("thinking", [None, True, False])
def test_reasoning_is_turned_on_and_off(thinking: bool | None) -> None:
    text = render(chat_templates.QWEN3, Message("user", "Q"), thinking=thinking)
    assert text.endswith("<think>\n\n</think>\n\n") == (thinking is False)
    reasoning = form_of(chat_templates.QWEN3).reasoning
    assert reasoning is not None
    assert reasoning.state(text) == ("off" if thinking is False else "free")


def test_where_there_is_no_switch_only_what_is_so_anyway_can_be_asked() -> None:
    assert render(chat_templates.QWEN3_THINKING, Message("user", "Q"), thinking=True).endswith("<think>\n")
    assert render(chat_templates.CHATML, Message("user", "Q"), thinking=False)
    with pytest.raises(RequestInvalid, match="no switch for its reasoning"):
        render(chat_templates.QWEN3_THINKING, Message("user", "Q"), thinking=False)
    with pytest.raises(RequestInvalid, match="no reasoning"):
        render(chat_templates.CHATML, Message("user", "Q"), thinking=True)


def test_the_prompt_tells_whether_it_opens_the_reasoning() -> None:
    """DeepSeek's does so behind a question, and not behind a result."""
    reasoning = form_of(chat_templates.DEEPSEEK_V3).reasoning
    assert reasoning is not None
    call = ToolCall("a", "look_up", "{}")
    asked = render(chat_templates.DEEPSEEK_V3, Message("user", "Q"))
    answered = render(
        chat_templates.DEEPSEEK_V3,
        Message("user", "Q"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "R", tool_call=call),
    )
    assert (reasoning.state(asked), reasoning.state(answered)) == ("open", "free")


@given(st.text(alphabet="{}%'\"<>[] \n|abctool_", max_size=60))
def test_nothing_that_a_template_does_makes_the_search_fail(source: str) -> None:
    """Whatever it writes or raises: the format is then ours."""

    def strange(messages: Any, tools: Any = None, generation: bool = True, **variables: Any) -> str:
        if len(messages) > 2:
            raise ZeroDivisionError(source)
        return source + str(messages) + str(tools)

    form = describe(strange, source)
    assert isinstance(form, CallFormat)


_WHOLE = "c.function.arguments if c.function.arguments is string else c.function.arguments | tojson"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (_WHOLE, "(c.function.arguments | tojson)[:40]"),
        (_WHOLE, "{'key': c.function.arguments.key} | tojson"),
        (_WHOLE, "c.function.arguments | tojson | upper"),
        ("m.content + '\\n</tool_response>'", "'\\n</tool_response>'"),
        ("c.function.name", "(c.function.name | upper)"),
        ("{{- '# Tools", "{%- set tools = [] %}{{- '# Tools"),
    ],
)
def test_a_format_that_a_second_probe_does_not_confirm_is_not_used(old: str, new: str) -> None:
    broken = replace(chat_templates.QWEN25, source=chat_templates.QWEN25.source.replace(old, new))
    assert broken.source != chat_templates.QWEN25.source
    assert not form_of(broken).native


def test_several_calls_are_asked_for_only_where_all_are_written() -> None:
    source = chat_templates.QWEN25.source.replace("in m.tool_calls or []", "in (m.tool_calls or [])[:2]")
    form = form_of(replace(chat_templates.QWEN25, source=source))
    assert form.native
    assert not form.parallel
