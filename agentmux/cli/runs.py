"""``agentmux runs``: what the journal knows of runs, taking one up again, and how long they are kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click

from agentmux.cli.opening import first_unless_configured
from agentmux.cli.output import Output, printable
from agentmux.cli.run import Listener, follow, listener_for, user_prints_elsewhere
from agentmux.cli.signals import run_to_end
from agentmux.cli.target import find_target
from agentmux.cli.tracing import TRACE, tracing
from agentmux.config import ModelSpec
from agentmux.errors import JournalError
from agentmux.journal import Journal, RunDetails, RunSummary, ShownTool, ShownTurn, Status
from agentmux.messages import Message, ToolCall
from agentmux.paths import journal_path
from agentmux.runtime import Runtime
from agentmux.tracing import TraceFile, is_page, recorded

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WIDTH = 100
"""Characters of a text that ``show`` gives for people; ``--json`` has all of it."""

JOURNAL = click.option(
    "--journal", "path", type=click.Path(), help="The journal. Default: journal.db in AGENTMUX_HOME."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


class Age(click.ParamType[float]):
    """Seconds: ``30d``, ``12h``, ``90m``, ``45s``, ``2w``."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds from text."""
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no age; write a number and a unit, such as 30d, 12h, 90m or 2w", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


@click.group()
def runs() -> None:
    """Recorded runs: list, show and draw them, resume one, remove old ones."""


@runs.command("list")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only runs with this status.")
@click.option("--limit", type=click.IntRange(min=1), help="The newest so many.")
@JOURNAL
@JSON
@DEBUG
def list_(status: Status | None, limit: int | None, path: str | None, as_json: bool, debug: bool) -> None:
    """List runs, newest first."""
    found = list[RunSummary]()
    # A list of nothing is no reason to make a journal.
    if os.path.lexists(_file(path)):
        with Journal.open(_file(path)) as journal:
            found = journal.runs(status=status, limit=limit)
    output = Output()
    if as_json:
        output.line(json.dumps([_summary_document(run) for run in found]))
        return
    for run in found:
        output.line(
            f"{printable(run.id):<32}  {run.status:<11}  {_local(run.began_s)}  "
            f"{_count(run.turns, 'turn'):>9}  {run.prompt_tokens + run.generated_tokens:>8} tokens  {_line(run.target)}"
        )


@runs.command()
@click.argument("run", metavar="ID")
@JOURNAL
@JSON
@DEBUG
def show(run: str, path: str | None, as_json: bool, debug: bool) -> None:
    """Show run ID, or the run whose id begins so: turns, tools, messages, output, error."""
    with _existing(path) as journal:
        details = journal.show(journal.find(run))
    output = Output()
    if as_json:
        output.line(json.dumps(_details_document(details)))
        return
    for line in _details_lines(details):
        output.line(line)


@runs.command()
@click.argument("run", metavar="ID")
@click.option("--rerun-in-doubt", is_flag=True, help="Run tools again that were under way when their process ended.")
@click.option("--events", is_flag=True, help="Print every event as it happens, one line of JSON each.")
@TRACE
@JOURNAL
@JSON
@DEBUG
def resume(
    run: str,
    rerun_in_doubt: bool,
    events: bool,
    trace: Path | None,
    path: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Take up run ID where it stopped; what it has done already is not done again.

    It runs on the models and the budget that it was begun with. Modules are looked for in this folder first.

    A tool that was under way when its process ended may or may not have taken effect. Unless it is declared
    idempotent, resuming stops there, and --rerun-in-doubt is your decision to run it again.
    """
    if as_json and events:
        raise click.UsageError("--json and --events exclude each other")
    with _existing(path) as journal:
        found = journal.find(run)
        journal.check_resumable(found)  # before any model is loaded
        details = journal.show(found)
    output = Output()
    with user_prints_elsewhere(as_json or events):
        target = find_target(details.summary.target, Path.cwd())
        listener = listener_for(output, target, as_json, events)
        run_to_end(_resume(_file(path), details, rerun_in_doubt, listener, trace))


async def _resume(
    path: Path, details: RunDetails, rerun_in_doubt: bool, listener: Listener, trace: Path | None
) -> None:
    """Bring the run to its end, in a runtime like the one that it was begun in."""
    settings = json.loads(details.settings)
    models = {name: ModelSpec(**spec) for name, spec in settings.pop("models").items()}
    with tracing(trace) as traced:
        settings |= {"wait_for_models": first_unless_configured(), "observers": traced.observers}
        async with Runtime(models, journal=path, **settings) as mux:
            with traced.sampling(mux.stats):
                again = mux.stream(None, resume=details.summary.id, rerun_in_doubt=rerun_in_doubt)
                await follow(again, listener)


@runs.command()
@click.argument("run", metavar="ID")
@click.option(
    "--output",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file. Default: ID.trace.json in this folder, or ID.trace.html.",
)
@click.option("--html", is_flag=True, help="A page that shows itself, rather than JSON for Perfetto.")
@JOURNAL
@DEBUG
def trace(run: str, target: Path | None, html: bool, path: str | None, debug: bool) -> None:
    """Write run ID as a timeline: JSON for Perfetto (ui.perfetto.dev), or a page.

    The journal has turns and tools with their times, and nothing of uploads or of what was computing when: run with
    --trace to see these.
    """
    with _existing(path) as journal:
        details = journal.show(journal.find(run))
    page = html or (target is not None and is_page(target))
    file = target or Path(f"{_file_name(details.summary.id)}.trace.{'html' if page else 'json'}")
    with TraceFile(file, page=page) as writing:
        for record in recorded(details):
            writing.write(record)
    Output().line(os.fspath(file))


def _file_name(run: str) -> str:
    """A run's id without what a file's name cannot have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", run).lstrip(".") or "run"


@runs.command()
@click.option("--older-than", "max_age_s", type=Age(), help="Remove runs without a sign of life for so long, as 30d.")
@click.option("--keep", "max_runs", type=click.IntRange(min=0), help="Remove all but the newest so many.")
@JOURNAL
@JSON
@DEBUG
def prune(max_age_s: float | None, max_runs: int | None, path: str | None, as_json: bool, debug: bool) -> None:
    """Remove old runs, but none that is running, and give their space back."""
    if max_age_s is None and max_runs is None:
        raise click.UsageError("say what to remove: --older-than AGE, --keep N, or both")
    removed = 0
    if os.path.lexists(_file(path)):
        with Journal.open(_file(path)) as journal:
            removed = journal.prune(max_age_s=max_age_s, max_runs=max_runs)
    Output().line(json.dumps({"removed": removed}) if as_json else f"removed {_count(removed, 'run')}")


def _file(path: str | None) -> Path:
    return journal_path(os.environ) if path is None else Path(path).expanduser()


@contextmanager
def _existing(path: str | None) -> Iterator[Journal]:
    """The journal, which must be there: asking for a run must not make one."""
    file = _file(path)
    if not os.path.lexists(file):
        raise JournalError(f"no journal {file}, so no runs; set AGENTMUX_HOME, or --journal")
    with Journal.open(file) as journal:
        yield journal


def _summary_document(run: RunSummary) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run.status,
        "target": run.target,
        "started": _utc(run.began_s),
        "ended": _utc(run.ended_s),
        "attempts": run.attempts,
        "turns": run.turns,
        "tokens": run.prompt_tokens + run.generated_tokens,
        "prompt_tokens": run.prompt_tokens,
        "generated_tokens": run.generated_tokens,
        "tool_calls": run.tool_calls,
        "error": run.error,
    }


def _details_document(details: RunDetails) -> dict[str, Any]:
    totals = _summary_document(details.summary)
    totals["turn_count"], totals["tool_count"] = totals.pop("turns"), totals.pop("tool_calls")
    return totals | {
        "arguments": _parsed(details.arguments),
        "session": None if details.session is None else details.session.name,
        "settings": _parsed(details.settings),
        "limits": _parsed(details.limits),
        "output": _parsed(details.output),
        "turns": [_turn_document(turn) for turn in details.turns],
        "tools": [_tool_document(tool) for tool in details.tools],
        "messages": [_message_document(message) for message in details.messages],
    }


def _turn_document(turn: ShownTurn) -> dict[str, Any]:
    return {
        "order": turn.order,
        "at": _utc(turn.at_s),
        "agent": turn.agent,
        "model": turn.numbers.model,
        "prompt": [_message_document(message) for message in turn.prompt],
        "answer": turn.answer,
        "finish_reason": turn.finish_reason,
        "prompt_tokens": turn.numbers.prompt_tokens,
        "generated_tokens": turn.numbers.generated_tokens,
    }


def _tool_document(tool: ShownTool) -> dict[str, Any]:
    return {
        "order": tool.order,
        "at": _utc(tool.at_s),
        "ended": _utc(tool.ended_s),
        "agent": tool.agent,
        "id": tool.id,
        "name": tool.name,
        "arguments": tool.arguments,
        "state": tool.state,
        "text": tool.text,
    }


def _message_document(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "agent": message.agent,
        "content": message.content,
        "tool_calls": [_call_document(call) for call in message.tool_calls],
        "tool_call": None if message.tool_call is None else _call_document(message.tool_call),
    }


def _call_document(call: ToolCall) -> dict[str, str]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def _details_lines(details: RunDetails) -> Iterator[str]:
    """For people: a head, what happened in order, and how it ended."""
    run = details.summary
    tokens = f"{run.prompt_tokens} prompt tokens, {run.generated_tokens} generated"
    head = {
        "run": run.id,
        "target": run.target,
        "status": run.status + (f", {run.attempts} attempts" if run.attempts > 1 else ""),
        "started": _local(run.began_s),
        "ended": "" if run.ended_s is None else _local(run.ended_s),
        "arguments": details.arguments,
        "session": "" if details.session is None else details.session.name,
        "used": f"{_count(run.turns, 'turn')}, {tokens}, {_count(run.tool_calls, 'tool call')}",
    }
    yield from (f"{name:<11}{_line(value)}" for name, value in head.items() if value)
    steps: list[ShownTurn | ShownTool] = [*details.turns, *details.tools]
    for step in sorted(steps, key=lambda step: step.order):
        yield from _turn_lines(step) if isinstance(step, ShownTurn) else _tool_lines(step)
    if details.output is not None:
        yield f"{'output':<11}{printable(details.output)}"
    if run.error is not None:
        yield f"{'error':<11}{_line(run.error)}"


def _turn_lines(turn: ShownTurn) -> Iterator[str]:
    for message in turn.prompt:
        yield f"[{printable(turn.agent)}] {message.role}: {_line(message.content, _WIDTH)}"
    tokens = f"{turn.numbers.generated_tokens} tokens" + (", cut" if turn.finish_reason == "length" else "")
    yield f"[{printable(turn.agent)}] answer: {_line(turn.answer, _WIDTH)} ({tokens})"


def _tool_lines(tool: ShownTool) -> Iterator[str]:
    call = f"{printable(tool.name)}({_line(tool.arguments, _WIDTH)})"
    text = "" if tool.text is None else f": {_line(tool.text, _WIDTH)}"
    yield f"[{printable(tool.agent)}] tool {call} {tool.state}{text}"


def _line(text: str, characters: int | None = None) -> str:
    """``text`` as one line without anything that a terminal would act on."""
    line = printable(" ".join(text.split()))
    return line if characters is None or len(line) <= characters else line[:characters] + "..."


def _parsed(text: str | None) -> Any:
    """The value of JSON; the text itself if it is none, so that a document can always be printed."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
