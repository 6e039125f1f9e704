"""``agentmux doctor``: whether this machine and installation are fit, and what to mend. It works where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click

from agentmux.cli.health import build, devices, machine
from agentmux.cli.health.child import ask
from agentmux.cli.health.finding import Finding
from agentmux.cli.output import Output, printable

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def doctor(as_json: bool) -> int:
    """Look at this machine and this installation, and say what is wrong and what to do about it.

    Exit status 0: usable (nothing failed, though there may be warnings). 1: not usable.
    """
    output = Output()
    found = []
    for finding in examine():
        found.append(finding)
        if not as_json:
            _show(finding, output)
    usable = all(finding.status != "fail" for finding in found)
    if as_json:
        output.line(json.dumps({"usable": usable, "findings": [asdict(finding) for finding in found]}))
    return 0 if usable else 1


def examine() -> Iterator[Finding]:
    """All checks, one after the other; one that breaks is itself a finding."""
    native: dict[str, Any] = {}

    def load() -> Iterator[Finding]:
        native.update(ask())
        yield from build.extension(native)

    for check in (build.python_version, build.versions, load):
        yield from _guarded(check)
    for with_native in (build.llama_build, build.libraries, devices.devices, devices.link):
        yield from _guarded(with_native, native)
    for check in (machine.memory, machine.storage, machine.bundled, machine.sandbox):
        yield from _guarded(check)


def _guarded(check: Callable[..., Iterator[Finding]], *args: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        yield from check(*args)
    # A doctor that falls ill himself helps nobody: whatever a strange machine makes a check raise is one more line.
    except Exception as error:
        text = f"the check itself failed, {type(error).__name__}: {error}"
        yield Finding(check.__name__.replace("_", " "), "warn", text)


def _show(finding: Finding, output: Output) -> None:
    status = f"{finding.status:<4}"
    if output.colour:
        status = click.style(status, fg=_COLOURS[finding.status])
    output.line(f"{status}  {finding.name:<17} {printable(' '.join(finding.text.split()))}".rstrip())
    if finding.advice:
        output.line(f"      {'':<17} -> {printable(finding.advice)}")
