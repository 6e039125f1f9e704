"""``agentmux trace``: a picture of a file that ``--trace`` wrote, or a part of it as a file of its own."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

from agentmux.cli.options import DEBUG
from agentmux.cli.output import Output
from agentmux.errors import ConfigError
from agentmux.tracing import TraceFile, excerpt, is_page, picture, read, window
from agentmux.tracing.records import DEVICE, Record, micros


class Moment(click.ParamType[float]):
    """Seconds since the trace began: ``0.35``."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds from text."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= 1e9:
            self.fail(f"{value!r} is no moment of a trace; write seconds since it began, such as 0.35", param, ctx)
        return seconds


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write: .svg, .json or .html. Default: FILE with the ending .svg.",
)
@click.option("--from", "from_s", type=Moment(), metavar="SECONDS", help="Only what was there from this moment on.")
@click.option("--to", "to_s", type=Moment(), metavar="SECONDS", help="Only what was there up to this moment.")
@click.option("--title", default="", metavar="TEXT", help="A line above the picture.")
@DEBUG
def trace(file: Path, output: Path | None, from_s: float | None, to_s: float | None, title: str, debug: bool) -> None:
    """Draw FILE, which --trace wrote, as a picture: what computed, what was uploaded meanwhile, what waited.

    An output that ends in .json or .html is a trace again, of the part between --from and --to.
    """
    target = output or file.with_suffix(".svg")
    is_picture = target.suffix.lower() == ".svg"
    if not is_picture and not is_page(target) and target.suffix.lower() != ".json":
        raise click.UsageError(f"{target.name}: a picture ends in .svg, a trace in .json or .html")
    if title and not is_picture:
        raise click.UsageError("--title is for a picture")
    if from_s is not None and to_s is not None and from_s >= to_s:
        raise click.UsageError("--from must be before --to")
    part = _part(file, from_s, to_s)
    if target.resolve() == file.resolve():
        raise ConfigError(f"{os.fspath(target)} is the trace itself; give another --output")
    if is_picture:
        if all(one["pid"] != DEVICE for one in part):
            raise ConfigError(f"{os.fspath(file)} has nothing of the device, as traces from the journal: no picture")
        _write(target, picture(part, title))
    else:
        with TraceFile(target) as writing:
            for record in part:
                writing.write(record)
    Output().line(os.fspath(target))


def _part(file: Path, from_s: float | None, to_s: float | None) -> list[Record]:
    """What the file has between these moments. Raises ConfigError where there is nothing."""
    records = read(file)
    first_us, last_us = window(records)
    from_us = first_us if from_s is None else micros(from_s)
    to_us = last_us if to_s is None else micros(to_s)
    part = excerpt(records, from_us, to_us)
    if not part:
        has = f"it lasts from {first_us / 1e6:g} to {last_us / 1e6:g} s" if last_us else "it has no slices"
        raise ConfigError(f"there is nothing to draw in that part of {os.fspath(file)}: {has}")
    return part


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {os.fspath(path)}: {error.strerror}") from error
