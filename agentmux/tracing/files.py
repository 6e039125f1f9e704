"""The file that a trace is written to, record by record, so that what is there can be read whatever happens next.

JSON: an array with a record a line. Its format lets the closing bracket be missing, and so do readers. HTML: a page
that has its program first and the same lines last, as the text of an element that a parser closes at the file's end.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from agentmux.errors import AgentmuxError, ConfigError
from agentmux.tracing.records import Record
from agentmux.tracing.under_way import UnderWay

_PLACE = "@RECORDS@"
"""In the page, where the lines go."""
_JSON = json.JSONEncoder(separators=(",", ":"))


def before(path: Path) -> Path:
    """Where the records go that a bounded trace had before those in ``path``: ``trace.json`` -> ``trace.1.json``."""
    return path.with_name(f"{path.stem}.1{path.suffix}")


def is_page(path: Path) -> bool:
    """Whether a file of this name gets a page rather than JSON."""
    return path.suffix.lower() in (".html", ".htm")


class TraceFile:
    """Takes records until it is closed. What cannot be written any more is left out, and closing says so.

    Args:
        path: an existing file is overwritten.
        page: HTML rather than JSON; None: if its name ends in ``.html`` or ``.htm``.
        most_bytes: about as much is kept, the newest: a file that has half of it is renamed (see ``before``), in place
            of the one that was before, and a new one begun, which has the tracks' names and what is under way. None:
            everything is kept.

    Entering it raises ConfigError where the file cannot be made; leaving it AgentmuxError if not all was written.
    """

    def __init__(self, path: Path, *, page: bool | None = None, most_bytes: int | None = None) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._under_way = None if most_bytes is None else UnderWay()
        self._bytes = 0
        self._is_page = is_page(path) if page is None else page
        self._tail = ""
        self._file: IO[str] | None = None
        self._failed: OSError | None = None
        self._is_first = True

    def __enter__(self) -> Self:
        try:
            self._begin()
        except OSError as error:
            raise ConfigError(f"cannot write the trace {os.fspath(self._path)}: {error.strerror}") from error
        return self

    def _begin(self) -> None:
        begin, self._tail = _page() if self._is_page else ("", "")
        # A line at a time reaches the system: a process that is killed loses none.
        self._file = open(self._path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  # `_end` closes it
        self._bytes, self._is_first = 0, True
        self._put(begin + "[\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        if self._failed is not None and error is None:
            reason = self._failed.strerror or self._failed
            raise AgentmuxError(f"the trace {os.fspath(self._path)} is not complete: {reason}") from self._failed

    def _end(self) -> None:
        self._put(f"\n]\n{self._tail}")
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as closing:
                self._failed = self._failed or closing

    def write(self, record: Record) -> None:
        """One more record. None after the file was closed, or could not be written."""
        self._write(record)
        if self._most_bytes is not None and self._under_way is not None:
            self._under_way.note(record)
            if self._bytes > self._most_bytes / 2 and self._file is not None and self._failed is None:
                self._go_on_in_another(self._under_way)

    def _go_on_in_another(self, under_way: UnderWay) -> None:
        self._end()
        try:
            os.replace(self._path, before(self._path))
            self._begin()
        except OSError as error:
            self._failed = self._failed or error
        for record in under_way.records():
            self._write(record)

    def _write(self, record: Record) -> None:
        line = _JSON.encode(record)
        if self._is_page:
            line = line.replace("<", "\\u003c")  # no text may end the element that it is in
        # The comma comes before a record, not behind it, so that the array is one however many there are.
        self._put(line if self._is_first else f",\n{line}")
        self._is_first = False

    def _put(self, text: str) -> None:
        if self._file is None or self._failed is not None:
            return
        try:
            self._bytes += len(text)  # nearly all of it is ASCII
            self._file.write(text)
        except OSError as error:
            self._failed = error


def _page() -> tuple[str, str]:
    """The page before its records, and behind them."""
    text = resources.files("agentmux.tracing").joinpath("timeline.html").read_text(encoding="utf-8")
    before, _, behind = text.partition(_PLACE)
    return before, behind
