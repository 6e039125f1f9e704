"""Entry point of ``agentmux``: so little that Ctrl-C ends it in order from its first moment on.

What it needs is imported only once that is seen to, and each command only when it is the one: ``agentmux --help`` need
not load what ``agentmux demo`` does.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence

from agentmux.cli.interrupt import end_on_the_spot


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_on_the_spot)
    status = run(list(sys.argv[1:] if arguments is None else arguments))
    from agentmux.cli.output import flush

    flush()
    if status:
        # An error's traceback can be part of a cycle that holds an engine, which the extension would call leaked.
        gc.collect()
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run the command; the exit status. Errors are told on standard error."""
    from agentmux.cli.command import execute

    return execute(arguments)
