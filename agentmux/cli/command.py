"""The command ``agentmux``: one file a subcommand, and here what all of them share.

Exit status: 0 only on success, 1 on failure, 2 when the command line makes no sense, 130 and 143 after SIGINT and
SIGTERM, 141 when standard output was closed. An error is one line on standard error; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import click

from agentmux.cli.interrupt import INTERRUPTED, end_on_the_spot
from agentmux.cli.logs import LEVELS, configure_logs
from agentmux.cli.output import OutputClosed
from agentmux.cli.signals import Stopped
from agentmux.errors import AgentmuxError, ConfigError, first_of

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "demo": ("agentmux.cli.demo", "Let planner, coder and critic solve programming tasks."),
        "run": ("agentmux.cli.run", "Run an agent or pipeline of yours."),
        "chat": ("agentmux.cli.chat", "Talk with a model."),
        "serve": ("agentmux.cli.serve", "Serve models and agents to clients of OpenAI's interface."),
        "top": ("agentmux.cli.top", "Show what goes on in a server."),
        "models": ("agentmux.cli.models", "Models: register, fetch, list, remove, inspect them."),
        "runs": ("agentmux.cli.runs", "Recorded runs: list, show and draw them, resume one, remove old ones."),
        "trace": ("agentmux.cli.trace", "Draw what a trace file has, or take a part out of it."),
        "config": ("agentmux.cli.config", "Settings: which hold here, and what their file may have."),
        "bench": ("agentmux.cli.bench", "Measurements, each beside its baseline in the same run."),
        "doctor": ("agentmux.cli.doctor", "Say whether this machine and installation are fit, and what to mend."),
    }
)
"""Name -> the module that has the command under the same name, and what it does, so that help need not load it."""


class UsageProblem(ConfigError):
    """What the command line asks for makes no sense, as it turns out once files or models are looked at."""


class LazyGroup(click.Group):
    """Knows its commands by name, and loads the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, loaded; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        _share_options(command)
        if signal.getsignal(signal.SIGINT) is end_on_the_spot:  # from here on there is something to clean up
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. A near miss is suggested."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from what is known without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _share_options(command: click.Command) -> None:
    """Give a command, and all of a group's, the options that every command has, unless it has its own."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _share_options(one)
    own = {parameter.name for parameter in command.params}
    if "debug" not in own:
        text = "Show the traceback of an error."
        command.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, help=text))
    if "log_level" not in own:
        command.params.append(_log_level_option())


def _log_level_option() -> click.Option:
    return click.Option(
        ["--log-level"],
        type=click.Choice(LEVELS),
        expose_value=False,
        callback=_use_log_level,
        help="Show what is logged from this level on, on standard error. Default: nothing; with --debug all.",
    )


def _use_log_level(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        configure_logs(value)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, wanted: _version(ctx, wanted),
    help="Show the version, and llama.cpp's, and exit.",
)
def cli() -> None:
    """Several AI agents, each bound to its own LLM, on one small GPU."""


def _version(ctx: click.Context, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from agentmux.cli.versions import version_line

    click.echo(version_line())
    ctx.exit()


_share_options(cli)


def execute(arguments: Sequence[str]) -> int:
    """Run the command; the exit status. Errors are told on standard error."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    try:
        configure_logs("debug" if debug else None)
        status = cli.main(args=list(arguments), prog_name="agentmux", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except BaseException as error:
        if debug:
            traceback.print_exc()
        return _explain(first_of(error))


def _explain(error: BaseException) -> int:
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, OutputClosed):
        return 141
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    status, message = _told(error)
    _complain(message)
    return status


def _told(error: BaseException) -> tuple[int, str]:
    """Exit status and line."""
    match error:
        case click.ClickException():
            return (2 if isinstance(error, click.UsageError) else 1), f"error: {error.format_message()}"
        case UsageProblem():
            return 2, f"error: {error}"
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED, "interrupted"
        case Stopped():
            return error.status, error.word
        case AgentmuxError() | OSError():
            return 1, f"error: {error}"
        case _:
            return 1, f"error: internal error, {type(error).__name__}: {error} (--debug shows where)"


def _complain(message: str) -> None:
    """One line on standard error, whatever the message holds."""
    line = " ".join(message.split())
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"agentmux: {line}\n")
        sys.stderr.flush()
