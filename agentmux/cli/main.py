"""The command ``agentmux``: one file a subcommand, and here what all of them share.

Exit status: 0 only on success, 1 on failure, 2 when the command line makes no sense, 130 and 143 after SIGINT and
SIGTERM, 141 when standard output was closed. An error is one line on standard error; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

import click
import structlog

from agentmux.cli.bench import bench
from agentmux.cli.demo import demo
from agentmux.cli.models import models
from agentmux.cli.output import OutputClosed
from agentmux.cli.runs import runs
from agentmux.cli.signals import Stopped
from agentmux.errors import AgentmuxError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("agentmux"), prog_name="agentmux", message="%(prog)s %(version)s")
def cli() -> None:
    """Several AI agents, each bound to its own LLM, on one small GPU."""


for command in (demo, models, bench, runs):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and exits with its status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    status = run(arguments)
    with contextlib.suppress(OSError, ValueError):
        _flush()
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run the command; the exit status. Errors are told on standard error."""
    debug = "--debug" in arguments
    _configure_logs(debug)
    try:
        status = cli.main(args=list(arguments), prog_name="agentmux", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except BaseException as error:
        if debug:
            traceback.print_exc()
        return _explain(_leaf(error))


def _configure_logs(debug: bool) -> None:
    """Logs go to standard error, and only with ``--debug``: what a user must know, a command says itself."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.CRITICAL),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _leaf(error: BaseException) -> BaseException:
    """The first error of a group, which is how a TaskGroup reports."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explain(error: BaseException) -> int:
    if isinstance(error, click.ClickException):
        usage = isinstance(error, click.UsageError)
        _complain(f"error: {error.format_message()}")
        return 2 if usage else 1
    if isinstance(error, click.exceptions.Exit | SystemExit):
        return error.exit_code if isinstance(error, click.exceptions.Exit) else int(error.code or 0)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        _complain("interrupted")
        return 130
    if isinstance(error, Stopped):
        _complain(error.word)
        return error.status
    if isinstance(error, OutputClosed):
        return 141
    if isinstance(error, AgentmuxError | OSError):
        _complain(f"error: {error}")
        return 1
    _complain(f"error: internal error, {type(error).__name__}: {error} (--debug shows where)")
    return 1


def _complain(message: str) -> None:
    """One line on standard error, whatever the message holds."""
    line = " ".join(message.split())
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"agentmux: {line}\n")
        sys.stderr.flush()


def _flush() -> None:
    """Flush standard output; what cannot be written any more is dropped, so that the exit status stays."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
