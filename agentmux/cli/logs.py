"""What a command logs goes to standard error: lines for people at a terminal, JSON lines otherwise."""

from __future__ import annotations

import os

from agentmux.log import LEVEL_VARIABLE, configure

LEVELS = ("debug", "info", "warning", "error", "critical")
QUIET = "critical"
"""The level where nobody chose one: what a user must know, a command says itself."""


def configure_logs(level: str | None) -> None:
    """Show events from ``level`` (one of LEVELS) on. The one place where the command line configures logging.

    Raises ConfigError if the environment chooses a level that there is not.
    """
    configure(level or os.environ.get(LEVEL_VARIABLE) or QUIET)
