"""What is known of how a model writes calls and reasoning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Choice = Literal["auto", "required", "none"] | str
"""Whether to call: as the model likes, at least once, not at all, or the tool of this name."""

ID, INDEX = "\ue000", "\ue001"
"""Within the literals of a format: where the call's id stands, and its number in the message (from 0 or 1 on)."""

HARMONY = "<|channel|>analysis<|message|>"
"""Opens the reasoning of models that write in channels."""
ID_LENGTH = 9
"""Letters and digits of an id as templates see it: Mistral's take nothing else."""


ReasoningState = Literal["open", "free", "off"]
"""The prompt opens the reasoning; the model may do so itself; there is none."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How a model that thinks before it answers marks that."""

    open: str
    close: str
    default: ReasoningState
    """What a prompt says where nothing is asked of the template."""
    switch: str | None = None
    """The template's own variable that turns reasoning on and off."""

    def state(self, prompt: str) -> ReasoningState:
        """What a rendered prompt says of the answer to come; templates differ by what was said last, too."""
        end = prompt.rstrip()
        return "open" if end.endswith(self.open) else "off" if end.endswith(self.close) else "free"


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How one model's chat template writes calls. All texts are literal, but for ID and INDEX::

    {begin}{before}NAME{between}ARGUMENTS{after}[{separator}{before}NAME{between}ARGUMENTS{after}]*{end}
    """

    native: bool
    """The template's own; False: ours, in plain text."""
    begin: str
    before: str
    between: str
    after: str
    separator: str
    end: str
    parallel: bool = True
    """One message may hold several calls."""
    text_arguments: bool = False
    """The template takes arguments as JSON text, not as a mapping."""
    empty_content: str | None = ""
    """What the template takes as the content of a message that only calls."""
    shows_text: bool = True
    """The template shows the text before the calls of a message, too."""
    system_role: bool = True
    """The template knows system messages; else what they say is put before the first user message."""
    alternating: bool = False
    """The template demands that user and assistant alternate; messages of one role in a row are joined."""
    reasoning: Reasoning | None = None
    answer_open: str = ""
    answer_close: str = ""
    """Marks that the model writes around an answer, and that are no part of it."""

    def state(self, prompt: str) -> ReasoningState:
        """What the end of a rendered prompt says of the reasoning to come."""
        return self.reasoning.state(prompt) if self.reasoning else "off"

    @property
    def head(self) -> str:
        """What stands before the first name."""
        return self.begin + self.before

    @property
    def mark(self) -> str:
        """The mark, such as ``<tool_call>``, that a message's first call begins with; "" where it has none."""
        found = re.match(r"<[^<>\s\"{}]+>|\[[A-Z_]+\]", self.head)
        return found[0] if found else ""

    @property
    def trigger(self) -> str:
        """Expression of the text that begins a message's first call, wherever it stands; see ``anchored``."""
        if self.mark:
            return re.escape(self.mark)
        if not self.native:
            return r"\{\s*" + re.escape(_KEY)
        return loose(self.head)

    @property
    def forced(self) -> str:
        """What must stand between the trigger and the name."""
        if self.mark:
            return self.head[len(self.mark) :]
        return "" if self.native else self.head[len("{" + _KEY) :]

    @property
    def anchored(self) -> bool:
        """Calls count at the beginning of an answer only: elsewhere, such text is nothing special."""
        return self.native and not self.mark and self.head[:1] in ("{", "[")


_KEY = '"tool"'
UNIFORM = CallFormat(
    native=False, begin="", before=f'{{{_KEY}: "', between='", "arguments": ', after="}", separator="\n", end=""
)
"""Ours: ``{"tool": "NAME", "arguments": {...}}``, each call a line."""


def loose(text: str) -> str:
    """An expression of the text in whichever way it is spaced."""
    parts = re.split(r"([\s{}\[\]:,]+)", text)
    return "".join(_loose_punctuation(part) if i % 2 else re.escape(part) for i, part in enumerate(parts))


def _loose_punctuation(text: str) -> str:
    marks = [re.escape(mark) for mark in text if not mark.isspace()]
    return r"\s*" + "".join(rf"{mark}\s*" for mark in marks)
