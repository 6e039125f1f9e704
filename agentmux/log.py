"""Logs by structlog. The library is quiet until an application configures it, the command line or the environment does.

What a logger does is decided when it is made, which is when a Runtime is opened:

1. The application has configured structlog (``configure`` here, or in its own way): its settings hold.
2. Else ``AGENTMUX_LOG`` names a level: events go to standard error, as by ``configure``.
3. Else they go to the standard library's logger of that name, which by default shows warnings and above. structlog's
   own default would print every event to standard output, which belongs to the application.

Events within a run carry ``run``, ``agent``, ``span`` and, where there is one, ``turn``. Prompts and answers are in no
event at level info or above.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from types import TracebackType
from typing import Any, Literal, TextIO, get_args

import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars, reset_contextvars

from agentmux.errors import ConfigError

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["auto", "human", "json"]
LEVEL_VARIABLE = "AGENTMUX_LOG"
FORMAT_VARIABLE = "AGENTMUX_LOG_FORMAT"


def configure(level: str | None = None, format: str | None = None, stream: TextIO | None = None) -> None:
    """Configure structlog for an application, its own events as well as agentmux's, before it opens a Runtime.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``; None: ``AGENTMUX_LOG``, else ``warning``.
        format: ``human`` (a line with colours), ``json`` (an object a line), or ``auto``: human at a terminal; None:
            ``AGENTMUX_LOG_FORMAT``, else ``auto``.
        stream: where to; None: standard error as it is now.

    Raises ConfigError for any other level or format.
    """
    structlog.configure(**_settings(level, format, stream))


def get_logger(name: str) -> Any:
    """A structlog logger called ``name``; see above for where its events go. Raises ConfigError if the environment's
    level or format is none."""
    if structlog.is_configured():
        return structlog.get_logger(name).bind(logger=name)
    if os.environ.get(LEVEL_VARIABLE):
        settings = _settings(None, None, None)
        wrapped = settings["logger_factory"]()
        return structlog.wrap_logger(wrapped, settings["processors"], settings["wrapper_class"]).bind(logger=name)
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            merge_contextvars,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind()


def binder() -> Callable[..., AbstractContextManager[None]]:
    """``bound``, or a function that binds nothing where nobody has asked for logs (1 and 2 above): an agent's run takes
    a twentieth less time then."""
    if structlog.is_configured() or os.environ.get(LEVEL_VARIABLE):
        return bound
    nothing = nullcontext()
    return lambda **values: nothing


class bound:  # used as a function, like contextlib.suppress
    """``with bound(run=..., agent=...):`` all events within, in tasks begun within too, carry these values.

    A class and not a generator, because it is entered for every agent and turn: it takes about three microseconds.
    """

    __slots__ = ("_tokens", "_values")

    def __init__(self, **values: object) -> None:
        self._values = values
        self._tokens: Mapping[str, Token[Any]] = {}

    def __enter__(self) -> None:
        self._tokens = bind_contextvars(**self._values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        reset_contextvars(**self._tokens)


class _Lines:
    """A text stream that whoever logs need not worry about: closed, full or missing, the run goes on."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            if self._stream is not None:
                self._stream.write(text)
        except (OSError, ValueError):
            self._stream = None

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def _settings(level: str | None, format: str | None, stream: TextIO | None) -> dict[str, Any]:
    """Arguments of ``structlog.configure``."""
    chosen = _one_of(Level, "log level", level or os.environ.get(LEVEL_VARIABLE) or "warning")
    shape = _one_of(Format, "log format", format or os.environ.get(FORMAT_VARIABLE) or "auto")
    stream = sys.stderr if stream is None else stream
    is_terminal = stream is not None and not stream.closed and stream.isatty()
    human = shape == "human" or (shape == "auto" and is_terminal)
    return {
        "processors": [
            merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
            *(_human(colours=is_terminal and not os.environ.get("NO_COLOR")) if human else _json()),
        ],
        "wrapper_class": structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[chosen.upper()]),
        "logger_factory": structlog.WriteLoggerFactory(_Lines(stream)),  # type: ignore[arg-type]  # all it uses
    }


def _human(colours: bool) -> list[Any]:
    # Texts are quoted: what a model or a file says must not reach the terminal as control characters. Tracebacks are
    # plain: rich's would show local variables, prompts among them.
    return [
        structlog.dev.ConsoleRenderer(
            colors=colours, repr_native_str=True, exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _json() -> list[Any]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=repr, ensure_ascii=False)]


def _one_of(choices: Any, what: str, value: str) -> str:
    if value.lower() not in get_args(choices):
        raise ConfigError(f"{value!r} is no {what}; there are: {', '.join(get_args(choices))}")
    return value.lower()
