"""Prompts: messages of an agent, and chat templates as model files bring them."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from agentmux import Agent, Message, ModelUnsupported, RequestInvalid
from agentmux.prompt import ChatRenderer, reflection, system_message
from agentmux.schema import output_schema

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ messages[0].content }}"
)
MESSAGES = (Message("system", "Be brief."), Message("user", "Hi {{ bos_token }}"))


class Point(BaseModel):
    x: int


class Bare(Agent):
    model = "m"


class Full(Agent):
    model = "m"
    instructions = "Find the point."
    output = Point


def test_an_agent_without_instructions_sends_no_system_message() -> None:
    assert system_message(Bare(), output_schema(str), "Bare") is None


def test_instructions_and_schema_make_the_system_message() -> None:
    system = system_message(Full(), output_schema(Point), "Full")
    assert system is not None
    assert (system.role, system.agent) == ("system", "Full")
    assert system.content.startswith("Find the point.\n\nAnswer with JSON that matches this schema:\n{")


def test_what_is_fed_back_names_the_problem() -> None:
    answer, request = reflection("{}", "x: Field required", "Full")
    assert (answer.role, answer.content, request.role) == ("assistant", "{}", "user")
    assert "x: Field required" in request.content


def test_a_chat_template_is_rendered_with_its_special_tokens() -> None:
    text = ChatRenderer().render("m", CHATML, MESSAGES, "<s>", "</s>")
    assert text == "<s><|system|>Be brief.</s>\n<|user|>Hi {{ bos_token }}</s>\n<|assistant|>"


def test_without_a_template_contents_are_joined() -> None:
    assert ChatRenderer().render("m", None, MESSAGES, "<s>", "") == "Be brief.\n\nHi {{ bos_token }}\n\n"


def test_a_template_that_refuses_is_a_clear_error() -> None:
    renderer = ChatRenderer()
    refusing = "{{ raise_exception('not today') }}"
    with pytest.raises(RequestInvalid, match=r"m refuses the messages \(system, user\): not today"):
        renderer.render("m", refusing, MESSAGES, "", "")


def test_a_template_without_system_messages_gets_none() -> None:
    assert ChatRenderer().render("m", NO_SYSTEM, MESSAGES, "", "") == "Be brief.\n\nHi {{ bos_token }}"


@pytest.mark.parametrize("template", ["{{ messages | nothing }}", "{% for %}"])
def test_a_broken_template_is_a_model_error(template: str) -> None:
    with pytest.raises(ModelUnsupported, match="chat template of model m is broken"):
        ChatRenderer().render("m", template, MESSAGES, "", "")


@pytest.mark.parametrize("template", ["{{ messages[7].content.x }}", "{{ 1 / 0 }}", "{{ messages.append(1) }}"])
def test_a_template_that_fails_while_rendering_is_a_clear_error(template: str) -> None:
    with pytest.raises(RequestInvalid, match="chat template of model m"):
        ChatRenderer().render("m", template, MESSAGES, "", "")
