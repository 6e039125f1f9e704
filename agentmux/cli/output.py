"""Standard output of a command: whole lines, safe for a terminal, quiet when nobody reads them any more."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS: Mapping[str, str] = {"planner": "cyan", "coder": "green", "critic": "magenta", "examples": "yellow"}


def flush() -> None:
    """Flush standard output; what cannot be written any more is dropped, so that the exit status stays."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class OutputClosed(Exception):
    """Whoever read standard output is gone (``| head``)."""


class Output:
    """Writes to what standard output is now. Raises OutputClosed when it was closed, OSError when it is full."""

    def __init__(self) -> None:
        self._stream = sys.stdout
        self.is_terminal = self._stream is not None and self._stream.isatty()
        self.colour = self.is_terminal and not os.environ.get("NO_COLOR")
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="replace")  # a terminal that knows only ASCII still gets its lines

    def line(self, text: str = "") -> None:
        """One line, at once."""
        self.write(text + "\n")

    def text(self, text: str) -> None:
        """Part of what a model says to somebody at a terminal, at once: control characters are made visible."""
        self.write("\n".join(map(printable, text.split("\n"))))

    def write(self, text: str) -> None:
        """``text`` as it is, at once."""
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            # Python would try again to write what is left when it exits, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
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
        from rich.console import Console  # only tables and pictures need it

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
        self._pending: dict[tuple[str, int], str] = {}

    def feed(self, tag: str, text: str, span: int = 0) -> None:
        """More of what ``tag`` says; ``span`` tells several of one tag apart."""
        *lines, rest = (self._pending.pop((tag, span), "") + text).split("\n")
        for line in lines:
            self._output.tagged(tag, line)
        if rest:
            self._pending[tag, span] = rest

    def end(self, tag: str, span: int = 0) -> None:
        """``tag`` has said all: what is left is a line too."""
        if rest := self._pending.pop((tag, span), ""):
            self._output.tagged(tag, rest)
