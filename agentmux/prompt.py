"""From an agent's instructions and a prompt to the text that its model was trained to answer."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from agentmux.agent import Agent
from agentmux.calls import UNIFORM, CallFormat, plain_messages
from agentmux.calls import describe as probe_template
from agentmux.errors import ModelUnsupported, RequestInvalid
from agentmux.messages import Message
from agentmux.schema import OutputSchema
from agentmux.tools import Tool


def system_message(agent: Agent, schema: OutputSchema, name: str) -> Message | None:
    """The agent's instructions, and the JSON schema of its answer where the agent shows it. None where there is nothing
    to say."""
    parts = [agent.instructions] if agent.instructions else []
    if agent.show_schema and schema.schema_text is not None:
        parts.append(f"Answer with JSON that matches this schema:\n{schema.schema_text}")
    return Message("system", "\n\n".join(parts), name) if parts else None


def reflection(answer: str, problem: str, name: str) -> tuple[Message, Message]:
    """The rejected answer, and a user message that says what is wrong with it."""
    request = f"Your answer was not accepted: {problem}\nAnswer again, and avoid this error."
    return Message("assistant", answer, name), Message("user", request, name)


class ChatRenderer:
    """Renders messages by chat templates, each compiled and probed once. One instance belongs to one runtime."""

    def __init__(self, remembered: int = 64) -> None:
        self._compiled = functools.lru_cache(maxsize=remembered)(_Template)

    def form(self, model: str, template: str | None, bos: str, eos: str) -> CallFormat:
        """How the template writes calls and reasoning. Raises ModelUnsupported if the template is broken."""
        return UNIFORM if template is None else self._compiled(model, template, bos, eos).form

    def render(
        self,
        model: str,
        template: str | None,
        messages: Sequence[Message],
        bos: str,
        eos: str,
        *,
        tools: Sequence[Tool] = (),
        thinking: bool | None = None,
    ) -> str:
        """The prompt text, ready for the model's answer.

        Args:
            model: the model's name, for errors.
            template: Jinja source; None (a base model, or one made for tests): the contents are joined by blank lines,
                without roles. Such a model knows no roles, and names made up here would be one more thing to imitate.
            messages: the conversation. Calls and results of tools are written in the template's own way where it has
                one, else as plain text. What the template has no place for goes where it keeps its sense: a system
                message before the next user message, messages of one role in a row into one.
            bos, eos: texts of the tokens that begin and end.
            tools: what the model is told that it can call.
            thinking: asked of a template that can turn reasoning on and off; None: nothing is asked.

        Raises RequestInvalid if the template refuses these messages, or has no switch for ``thinking``;
        ModelUnsupported if the template itself is broken.
        """
        if template is None:
            plain, _ = plain_messages(messages, tools, UNIFORM)
            return "\n\n".join(message["content"] for message in plain) + "\n\n"
        compiled = self._compiled(model, template, bos, eos)
        try:
            variables = _variables(compiled.form, thinking)
            plain, described = plain_messages(messages, tools, compiled.form)
            text = compiled.render(plain, described, **variables)
            if all(message["content"].strip() in text for message in plain if message["role"] == "system"):
                return text
            # Some templates show system messages in some conversations only, such as those that end with a question.
            plain, described = plain_messages(messages, tools, replace(compiled.form, system_role=False))
            return compiled.render(plain, described, **variables)
        except RequestInvalid:
            raise
        # Templates are programs from a model file: they can raise whatever they like.
        except Exception as error:
            roles = ", ".join(message.role for message in messages)
            raise RequestInvalid(
                f"the chat template of model {model} refuses the messages ({roles}): {error}"
            ) from error


class Templated(Protocol):
    """What a loaded model's footprint says of its chat template."""

    @property
    def model(self) -> str: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def bos_text(self) -> str: ...
    @property
    def eos_text(self) -> str: ...


def describe(renderer: ChatRenderer, footprint: Templated) -> CallFormat:
    """How a loaded model writes calls and reasoning; remembered by the renderer."""
    return renderer.form(footprint.model, footprint.chat_template, footprint.bos_text, footprint.eos_text)


def _variables(form: CallFormat, thinking: bool | None) -> dict[str, Any]:
    """What to ask of the template. Raises RequestInvalid if it cannot be asked."""
    marks = form.reasoning
    if thinking is None or (marks is None and not thinking):
        return {}
    if marks is not None and marks.switch is not None:
        return {marks.switch: thinking}
    if marks is not None and marks.default == ("open" if thinking else "off"):
        return {}  # it is so in any case
    what = "no reasoning" if marks is None else "no switch for its reasoning"
    raise RequestInvalid(f"thinking={thinking} was asked of a model whose chat template knows {what}")


class _Template:
    """A compiled chat template, and what was found out about it."""

    def __init__(self, model: str, template: str, bos: str, eos: str) -> None:
        # Here, not at the top: importing llama_cpp loads the native library, which a plain `import agentmux` must not.
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        try:
            self._prompting = Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)
        except Exception as error:
            raise ModelUnsupported(f"the chat template of model {model} is broken: {error}") from error
        self._closing = copy.copy(self._prompting)  # the compiled template is shared
        self._closing.add_generation_prompt = False
        self.form = probe_template(self.render, template)

    def render(self, messages: Any, tools: Any = None, generation: bool = True, **variables: Any) -> str:
        """The text of plain messages; ``generation``: with what stands before the answer to come."""
        formatter = self._prompting if generation else self._closing
        return str(formatter(messages=messages, tools=tools, **variables).prompt)
