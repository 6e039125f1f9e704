"""``agentmux run``: an agent or pipeline of the user's, from an importable module or a file."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click
from pydantic_core import to_jsonable_python

from agentmux.agent import Agent
from agentmux.cli.command import UsageProblem
from agentmux.cli.inputs import Inputs, from_json, from_texts
from agentmux.cli.opening import (
    DEVICE,
    WAIT_FOR_MODELS,
    LimitValues,
    NamedModels,
    first_unless_configured,
    open_runtime,
)
from agentmux.cli.options import Size
from agentmux.cli.output import LineBuffer, Output
from agentmux.cli.signals import run_to_end
from agentmux.cli.target import Target, UserCodeFailed, describe, find_target, is_from_user_code
from agentmux.cli.tracing import TRACE, tracing
from agentmux.config import Limits, ModelSpec, WaitForModels
from agentmux.errors import AgentmuxError
from agentmux.messages import Event, RunFinished, RunResult, TextStreamed, ToolCalled, TurnCompleted


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs, on what, with what."""

    target: Target
    inputs: Inputs
    models: Mapping[str, ModelSpec] | None
    limits: Limits | None
    journal: bool
    runtime: Mapping[str, Any]
    trace: Path | None = None


class Listener(Protocol):
    """Shows a run while it happens, and what it gave."""

    def event(self, event: Event) -> None:
        """An event, as it happens."""
        ...

    def result(self, result: RunResult[Any]) -> None:
        """The run has ended well."""
        ...


@click.command()
@click.argument("target", metavar="MODULE:NAME")
@click.argument("texts", metavar="[INPUT]...", nargs=-1)
@click.option(
    "--input-json", metavar="JSON", help="The inputs as JSON instead: an object by name, an array by position."
)
@click.option(
    "--models", type=NamedModels(), help="name=file.gguf,... for the agents' models. Default: the bundled ones."
)
@click.option("--vram", type=Size(), help="Budget for all models together. Default: nine tenths of what is free.")
@DEVICE
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: the cores it may use.")
@WAIT_FOR_MODELS
@click.option("--limits", type=LimitValues(), help="What the run may use, such as turns=10,tokens=4000,wall_s=60.")
@click.option("--no-journal", is_flag=True, help="Do not record the run; it cannot be resumed then.")
@TRACE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end, and nothing else.")
@click.option("--events", is_flag=True, help="Print every event as it happens, one line of JSON each.")
def run(
    target: str,
    texts: tuple[str, ...],
    input_json: str | None,
    models: dict[str, ModelSpec] | None,
    vram: int | None,
    device: str | None,
    threads: int | None,
    wait_for_models: WaitForModels | None,
    limits: Limits | None,
    no_journal: bool,
    trace: Path | None,
    as_json: bool,
    events: bool,
) -> None:
    """Run an agent or pipeline on INPUT.

    MODULE:NAME is an Agent class or instance, or a function marked by @pipeline, of an importable module (this folder's
    come first) or of a file, as path/file.py:name. Without :NAME it is the only one that the module defines.

    Each INPUT is an argument after ctx: text as it is where the annotation says str, else JSON that is validated
    against it. - reads one from standard input, as --input-json - does.

    At a terminal, what the agents say is shown as they say it; otherwise standard output has the run's output only.

    It begins as soon as the first model is loaded, unless --wait-for-models or the configuration says otherwise.
    """
    if as_json and events:
        raise click.UsageError("--json and --events exclude each other")
    if input_json is not None and texts:
        raise click.UsageError("INPUT and --input-json exclude each other")
    output = Output()
    with user_prints_elsewhere(as_json or events):
        found = find_target(target, Path.cwd())
        inputs = _inputs(found, texts, input_json)
        waiting = wait_for_models or first_unless_configured()
        runtime = {"vram": vram, "device": device, "threads": threads, "wait_for_models": waiting}
        setting = Setting(found, inputs, models, limits, not no_journal, runtime, trace)
        run_to_end(_run(setting, listener_for(output, found, as_json, events)))


@contextlib.contextmanager
def user_prints_elsewhere(wanted: bool) -> Iterator[None]:
    """Have what the user's code prints go to standard error, where standard output is for a program to read."""
    if not wanted:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _inputs(found: Target, texts: tuple[str, ...], input_json: str | None) -> Inputs:
    if input_json is not None:
        return from_json(found.thing, _stdin() if input_json == "-" else input_json)
    if texts.count("-") > 1:
        raise UsageProblem("standard input can be one INPUT only")
    return from_texts(found.thing, [_stdin().removesuffix("\n") if text == "-" else text for text in texts])


def _stdin() -> str:
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageProblem(f"standard input is no text: {error}") from error


async def _run(setting: Setting, listener: Listener) -> None:
    inputs, thing = setting.inputs, setting.target.thing
    with tracing(setting.trace) as traced:
        given = {**setting.runtime, "observers": traced.observers}
        async with open_runtime(setting.models, journal=setting.journal, **given) as mux:
            with traced.sampling(mux.stats):
                await follow(mux.stream(thing, *inputs.args, limits=setting.limits, **inputs.kwargs), listener)


async def follow(stream: AsyncGenerator[Event, None], listener: Listener) -> None:
    """Show a run from its first event to its result. Raises UserCodeFailed for what the user's own code raised."""
    try:
        async with aclosing(stream) as events:
            async for event in events:
                listener.event(event)
                if isinstance(event, RunFinished):
                    listener.result(event.result)
    except AgentmuxError:
        raise
    except Exception as error:
        if not is_from_user_code(error):
            raise
        raise UserCodeFailed(describe(error)) from error


def listener_for(output: Output, found: Target, as_json: bool, events: bool) -> Listener:
    """How a run of this target is shown."""
    if as_json:
        return Document(output)
    if events:
        return Events(output)
    if not output.is_terminal:
        return Quiet(output)
    kind = found.thing if isinstance(found.thing, type) else type(found.thing)
    alone = issubclass(kind, Agent) and kind.run is Agent.run and kind.output is str
    return Speech(output) if alone else Voices(output)


class Document:
    """``--json``: one document at the end."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: Event) -> None:
        """Nothing is said meanwhile."""

    def result(self, result: RunResult[Any]) -> None:
        """The whole result."""
        self._output.line(_json(result))


class Events:
    """``--events``: a line an event; the last has the result."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: Event) -> None:
        """The event's fields, and its class as ``event``."""
        self._output.line(_json({"event": type(event).__name__, **to_jsonable_python(event, fallback=repr)}))

    def result(self, result: RunResult[Any]) -> None:
        """Said by the last event."""


class Quiet:
    """Not at a terminal: the output only."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: Event) -> None:
        """Nothing is said meanwhile."""

    def result(self, result: RunResult[Any]) -> None:
        """Text as it is, all else as JSON; nothing for None."""
        if result.output is not None:
            self._output.line(result.output if isinstance(result.output, str) else _json(result.output))


class Speech:
    """One agent at a terminal, whose text is the output: as it comes."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: Event) -> None:
        """More text."""
        if isinstance(event, TextStreamed):
            self._output.text(event.text)

    def result(self, result: RunResult[Any]) -> None:
        """All has been said."""
        self._output.line()


class Voices(Quiet):
    """Several agents at a terminal: whole lines, each with its speaker; then the output."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self._lines = LineBuffer(output)

    def event(self, event: Event) -> None:
        """More of what somebody says."""
        match event:
            case TextStreamed(agent=agent, span=span, text=text):
                self._lines.feed(agent, text, span)
            case TurnCompleted(agent=agent, span=span):
                self._lines.end(agent, span)
            case ToolCalled(agent=agent, span=span, call=call):
                self._lines.end(agent, span)
                self._lines.feed(agent, f"{call.name}({call.arguments})\n", span)
            case _:
                pass


def _json(value: object) -> str:
    return json.dumps(to_jsonable_python(value, fallback=repr), ensure_ascii=False)
