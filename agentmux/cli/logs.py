"""Where a command's logs go: standard error, as lines for people at a terminal, as JSON lines otherwise."""

from __future__ import annotations

import logging
import sys

import structlog

LEVELS = ("debug", "info", "warning", "error", "critical")
QUIET = "critical"
"""The level without ``--log-level``: what a user must know, a command says itself."""


def configure_logs(level: str) -> None:
    """Show events from ``level`` (one of LEVELS) on. The one place where the command line configures logging."""
    human = sys.stderr is not None and sys.stderr.isatty()
    shown: structlog.types.Processor
    shown = structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
