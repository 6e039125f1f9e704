"""Draws a board on the terminal's second screen, ten times a second at most and for a small share of one core."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from agentmux.cli.live import ASCII, Board, Cells
from agentmux.cli.output import Output
from agentmux.engine.base import EngineStats

FRAME_S = 0.1
"""Least time between two pictures."""
CPU_SHARE = 0.02
"""Of one core that drawing may take; on a slow machine there are fewer pictures instead."""
_AS_BEFORE = b"\x1b[?1049l\x1b[?25h"


def wants_live(output: Output, environ: Mapping[str, str]) -> bool:
    """Whether standard output is a terminal that can be drawn on, and nobody asked for plain lines."""
    return output.is_terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") not in ("dumb", "unknown")


def cells_for(encoding: str | None) -> Cells:
    """Signs that can be written in this encoding."""
    try:
        "█▌▒·─".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return Cells()


def restore_terminal() -> None:
    """Leave the second screen and show the cursor: for an end on the spot, when nothing else is cleaned up."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.write(sys.stdout.fileno(), _AS_BEFORE)


class Screen:
    """Draws while its context is open. ``frames`` and ``cpu_s`` say what it took."""

    def __init__(self, board: Board, stats: Callable[[], EngineStats], console: Console | None = None) -> None:
        self.frames = 0
        self.cpu_s = 0.0
        self._board = board
        self._stats = stats
        self._console = console or Console(highlight=False)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """The terminal is as before when this is left, however that comes about."""
        live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        with live:
            drawing = asyncio.create_task(self._draw(live))
            try:
                yield
            finally:
                drawing.cancel()
                await asyncio.wait({drawing})
                if not drawing.cancelled() and (error := drawing.exception()) is not None:
                    raise error

    async def _draw(self, live: Live) -> None:
        while True:
            began_s = time.thread_time()
            live.update(_Picture(self._board, self._stats(), time.monotonic()), refresh=True)
            cost_s = time.thread_time() - began_s
            self.frames += 1
            self.cpu_s += cost_s
            await asyncio.sleep(max(FRAME_S, cost_s / CPU_SHARE))


class _Picture:
    """The board at one moment, in whatever size the terminal has when it is drawn."""

    def __init__(self, board: Board, stats: EngineStats, now_s: float) -> None:
        self._board = board
        self._stats = stats
        self._now_s = now_s

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One text of as many lines as fit."""
        width, height = console.size
        lines = self._board.lines(self._stats, width, height, self._now_s)
        yield Text("\n", no_wrap=True, overflow="crop", end="").join(lines)
