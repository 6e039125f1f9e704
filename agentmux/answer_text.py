"""What of a turn's text is the answer's own, piece by piece as it comes."""

from __future__ import annotations

from collections.abc import Callable

from agentmux.calls import AnswerPlan
from agentmux.calls.answer import reasoning_state


class AnswerText:
    """Passes on the answer's text: no reasoning, no calls of tools.

    A piece that may turn out to begin a mark is held back until that is known. What the model says before it calls a
    tool is passed on; the call itself is not.

    Args:
        plan: what the turn's text may be.
        emit: gets the answer's text.
    """

    def __init__(self, plan: AnswerPlan, emit: Callable[[str], None]) -> None:
        self._emit = emit
        form, self._held = plan.form, ""
        state = reasoning_state(form, plan.thinking)
        marks = form.reasoning if state in ("open", "free") else None
        self._open = marks.open if marks else ""
        self._close = marks.close if marks else ""
        self._where = "reasoning" if state == "open" else "begin" if state == "free" else "answer"
        self._call = _squeezed(form.mark or (form.head if form.native else '{"tool"')) if plan.tools else ""
        self._anchored = form.anchored
        self._begun = False
        self._strip = False

    def feed(self, text: str) -> None:
        """New text of the turn."""
        self._held += text
        if self._where == "begin":
            begin = self._held.lstrip()
            if begin.startswith(self._open):
                self._where = "reasoning"
            elif not self._open.startswith(begin):
                self._where = "answer"
        if self._where == "reasoning":
            _, found, rest = self._held.partition(self._close)
            if found:
                # Behind the reasoning, white space before the answer is not part of it.
                self._where, self._held, self._strip = "answer", rest, True
        if self._where == "answer":
            self._pass_on()

    def finish(self) -> None:
        """The turn has answered: pass on what was held back."""
        if self._where in ("answer", "begin"):
            self._give(self._held)
        self._held = ""

    def _pass_on(self) -> None:
        if self._strip:
            self._held = self._held.lstrip()
            self._strip = not self._held
        if not self._call or (self._anchored and self._begun):
            self._give(self._held)
            self._held = ""
            return
        at = 0
        while at < len(self._held):
            verdict = _begins(self._held[at:], self._call)
            if verdict is None:  # a call, or it may become one
                break
            at = len(self._held) if self._anchored else at + 1
        self._give(self._held[:at])
        self._held = self._held[at:]
        if self._held and _begins(self._held, self._call) is None and _is_call(self._held, self._call):
            self._where = "call"

    def _give(self, text: str) -> None:
        if text:
            self._begun = True
            self._emit(text)


def _begins(text: str, call: str) -> bool | None:
    """None if the text begins like the call, as far as either goes; else False."""
    squeezed = _squeezed(text[: 4 * len(call)])
    return None if squeezed.startswith(call) or call.startswith(squeezed) else False


def _is_call(text: str, call: str) -> bool:
    return _squeezed(text).startswith(call)


def _squeezed(text: str) -> str:
    return "".join(text.split())
