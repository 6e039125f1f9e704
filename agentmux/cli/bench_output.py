"""How the benches say what goes on, and where their documents go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentmux.cli.output import Output

if TYPE_CHECKING:
    from pydantic import BaseModel


def tell(line: str) -> None:
    """A line about the progress, for whoever watches."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(f"agentmux: {line}", err=True)


def is_printed(report: BaseModel, target: str | None, output: Output) -> bool:
    """Write the report's JSON where it is wanted. Whether that was standard output (``-``), where nothing else goes."""
    if target == "-":
        output.line(report.model_dump_json())
        return True
    if target is not None:
        Path(target).write_text(report.model_dump_json() + "\n", encoding="utf-8")
    return False
