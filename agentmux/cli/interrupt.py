"""Ctrl-C before a command has begun."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 128 + signal.SIGINT


def end_on_the_spot(number: int, frame: object) -> None:
    """Ctrl-C while modules are loaded: nothing has begun yet, and an exception in an import may be swallowed."""
    os.write(2, b"agentmux: interrupted\n")
    os._exit(INTERRUPTED)
