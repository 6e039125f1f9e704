"""The screen of ``agentmux top``. Needs the extra ``top``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Static

from agentmux.cli.live import Cells
from agentmux.cli.top_stream import Moment, Place, Refused, follow
from agentmux.cli.top_view import headline, memory_lines, turn_rows

ROWS = 100
REFRESH_S = 0.5
"""Times move on so often while there is work."""


class Top(App[str]):
    """What goes on in a server. Its result is why it could not go on; None if the user ended it."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "Quit")]
    CSS = "#headline { text-style: bold; } #memory { height: auto; margin: 1 0; } #turns { height: 1fr; }"

    def __init__(self, place: Place, cells: Cells) -> None:
        super().__init__()
        self._place = place
        self._cells = cells
        self._moment: Moment | None = None
        self._ended = threading.Event()

    def compose(self) -> ComposeResult:
        """Headline, memory and turns."""
        yield Static("connecting", id="headline", markup=False)
        yield Static("", id="memory", markup=False)
        yield DataTable(id="turns", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow."""
        columns = ("turn", "agent", "model", "state", "seconds", "tokens", "why")
        self.query_one("#turns", DataTable).add_columns(*columns)
        # A daemon: it may wait for the server's next words for long, and must not hold up the end.
        threading.Thread(target=self._follow, name="agentmux top", daemon=True).start()
        self.set_interval(REFRESH_S, self._on_tick)

    def on_unmount(self) -> None:
        """Stop following."""
        self._ended.set()

    def _follow(self) -> None:
        try:
            follow(self._place, self._told, self._ended.wait)
        except Refused as error:
            self._call(self.exit, str(error))

    def _told(self, said: Moment | str) -> None:
        self._call(self._show, said)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        with suppress(RuntimeError):  # it has ended meanwhile
            self.call_from_thread(function, argument)

    def _show(self, said: Moment | str) -> None:
        if isinstance(said, str):
            self.query_one("#headline", Static).update(said)
            self._moment = None
            return
        self._moment = said
        self._draw(said)

    def _on_tick(self) -> None:
        if self._moment and any("ended_s" not in turn for turn in self._moment.document["turns"].values()):
            self._draw(self._moment)

    def _draw(self, moment: Moment) -> None:
        now_s = moment.now_s + time.monotonic() - moment.seen_s
        self.query_one("#headline", Static).update(headline(moment.document, now_s))
        lines = memory_lines(moment.document, self.size.width, self._cells)
        self.query_one("#memory", Static).update("\n".join(lines))
        table = self.query_one("#turns", DataTable)
        row = table.cursor_row
        table.clear()
        for values in turn_rows(moment.document, now_s, ROWS):
            table.add_row(*map(Text, values))
        table.move_cursor(row=row)
