"""Standard output of a command: whole lines, safe for a terminal, quiet when nobody reads them any more."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping

import click
from rich.console import Console, RenderableType

_COLOURS: Mapping[str, str] = {"planner": "cyan", "coder": "green", "critic": "magenta", "examples": "yellow"}


class OutputClosed(Exception):
    """Whoever read standard output is gone (``| head``)."""


class Output:
    """Writes to standard output. Raises OutputClosed when it was closed, OSError when it is full."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout is not None and sys.stdout.isatty()
        self.colour = self.is_terminal and not os.environ.get("NO_COLOR")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that knows only ASCII still gets its lines

    def line(self, text: str = "") -> None:
        """One line, at once."""
        if sys.stdout is None:
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except OSError as error:
            # Python would try again to write what is left when it exits, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                raise OutputClosed from None
            raise OSError(error.errno, f"cannot write to standard output: {error.strerror}") from error

    def tagged(self, tag: str, text: str) -> None:
        """``[tag] text``, where text came from a model or program: control characters are made visible."""
        shown = f"[{tag}]"
        if self.colour:
            shown = click.style(shown, fg=_COLOURS.get(tag.rsplit(" ", 1)[-1], "white"), bold=True)
        self.line(f"{shown} {printable(text)}".rstrip())

    def render(self, what: RenderableType) -> None:
        """Something of rich's, as wide as the terminal, or as 110 characters."""
        drawn = io.StringIO()
        width = None if self.is_terminal else 110
        Console(file=drawn, force_terminal=self.colour, width=width, no_color=not self.colour).print(what)
        self.line("\n".join(line.rstrip() for line in drawn.getvalue().rstrip("\n").split("\n")))


def printable(text: str) -> str:
    """``text`` without anything that a terminal would act on."""
    return "".join(c if c.isprintable() else "    " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


class LineBuffer:
    """Puts the pieces of several concurrent answers together to whole lines, each with its speaker's tag."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._pending: dict[str, str] = {}

    def feed(self, tag: str, text: str) -> None:
        """More of what ``tag`` says."""
        *lines, rest = (self._pending.pop(tag, "") + text).split("\n")
        for line in lines:
            self._output.tagged(tag, line)
        if rest:
            self._pending[tag] = rest

    def end(self, tag: str) -> None:
        """``tag`` has said all: what is left is a line too."""
        if rest := self._pending.pop(tag, ""):
            self._output.tagged(tag, rest)
