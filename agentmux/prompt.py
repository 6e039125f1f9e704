"""From an agent's instructions and a prompt to the text that its model was trained to answer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from agentmux.agent import Agent
from agentmux.errors import ModelUnsupported, RequestInvalid
from agentmux.messages import Message
from agentmux.schema import OutputSchema


def conversation(agent: Agent, schema: OutputSchema, prompt: str, name: str) -> tuple[Message, ...]:
    """System message (instructions, and the JSON schema where the agent shows it) and user message."""
    parts = [agent.instructions] if agent.instructions else []
    if agent.show_schema and schema.schema_text is not None:
        parts.append(f"Answer with JSON that matches this schema:\n{schema.schema_text}")
    system = (Message("system", "\n\n".join(parts), name),) if parts else ()
    return (*system, Message("user", prompt, name))


def reflection(answer: str, problem: str, name: str) -> tuple[Message, Message]:
    """The rejected answer, and a user message that says what is wrong with it."""
    request = f"Your answer was not accepted: {problem}\nAnswer again, and avoid this error."
    return Message("assistant", answer, name), Message("user", request, name)


class ChatRenderer:
    """Renders messages by chat templates, each compiled once. One instance belongs to one runtime."""

    def __init__(self, remembered: int = 64) -> None:
        self._compiled = functools.lru_cache(maxsize=remembered)(_compile)

    def render(self, model: str, template: str | None, messages: Sequence[Message], bos: str, eos: str) -> str:
        """The prompt text, ready for the model's answer.

        Without a template (a base model, or one made for tests) the contents are joined by blank lines, without
        roles: such a model knows no roles, and names for them made up here would be one more thing to imitate.

        Raises RequestInvalid if the template refuses these messages (some know no system role, or demand that user
        and assistant alternate), ModelUnsupported if the template itself is broken.
        """
        if template is None:
            return "\n\n".join(message.content for message in messages) + "\n\n"
        formatter = self._compiled(model, template, bos, eos)
        plain = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(formatter(messages=plain).prompt)
        # Templates are programs from a model file: they can raise whatever they like.
        except Exception as error:
            roles = ", ".join(message.role for message in messages)
            raise RequestInvalid(
                f"the chat template of model {model} refuses the messages ({roles}): {error}"
            ) from error


def _compile(model: str, template: str, bos: str, eos: str) -> Any:
    # Here, not at the top: importing llama_cpp loads the native library, which a plain `import agentmux` must not do.
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    try:
        return Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)
    except Exception as error:
        raise ModelUnsupported(f"the chat template of model {model} is broken: {error}") from error
