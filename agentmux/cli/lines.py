"""Lines from somebody at a terminal, with editing and a history that is kept."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

HISTORY_LINES = 1000


class LineReader:
    """Reads lines by readline, where Python has it. The history lies in ``folder``, for its owner's eyes only; where it
    cannot be read or written, there is none."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "chat_history"

    def __enter__(self) -> Self:
        with contextlib.suppress(ImportError, OSError):
            import readline

            readline.set_history_length(HISTORY_LINES)
            readline.read_history_file(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ImportError, OSError):
            import readline

            if not readline.get_current_history_length():
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
            readline.write_history_file(self._path)

    def read(self, prompt: str) -> str | None:
        """The next line; None at the end of input. Raises KeyboardInterrupt on Ctrl-C."""
        try:
            return input(prompt)
        except EOFError:
            print()
            return None
