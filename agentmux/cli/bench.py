"""``agentmux bench``: measurements beside their baselines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table
from rich.text import Text

from agentmux.cli.bench_paging import paging
from agentmux.cli.options import DEVICE, Counts, Size, loading_native
from agentmux.cli.output import Output, printable
from agentmux.cli.summary import size_text

if TYPE_CHECKING:
    from agentmux.bench.report import Ratio, Report


@click.group()
def bench() -> None:
    """Measurements, each beside its baseline in the same run."""


@bench.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--json", "target", metavar="FILE", help="Write the JSON document there; - prints it, and nothing else.")
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="Of each prompt.")
@click.option("--tokens", type=click.IntRange(min=2), default=128, show_default=True, help="Of each answer.")
@click.option("--slots", type=Counts(), default="1,8", show_default=True, help="Turns in one batch; several in turn.")
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="Of each measurement.")
@click.option(
    "--arena-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Arena of the paged runs, as a share of the model; 0 is the least that it runs with.",
)
@click.option("--device-bytes", type=Size(), help="Budget of the paged runs instead, such as 8GiB.")
@click.option("--batch-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="In one step at most.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: the cores it may use.")
@click.option("--no-mmap", is_flag=True, help="Plain llama.cpp copies the weights instead of mapping the file.")
@DEVICE
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def engine(
    models: tuple[str, ...],
    target: str | None,
    prompt_tokens: int,
    tokens: int,
    slots: tuple[int, ...],
    repetitions: int,
    arena_share: float,
    device_bytes: int | None,
    batch_tokens: int,
    threads: int | None,
    no_mmap: bool,
    device: str,
    debug: bool,
) -> None:
    """Measure the engine, resident and paged, beside plain llama.cpp in a loop.

    MODEL is a GGUF file, a bundled model (planner, coder, critic), or random:llama-tiny or random:llama-small, models
    of random weights that are written for the occasion (6 and 150 MB).

    A ratio is plain llama.cpp's time over the engine's in the same repetition, as median (least-most): 1 is as fast,
    less is slower. "all" is the time as the caller sees it, "computing" the time within llama.cpp alone, "CPU"
    that of all the process's threads, which other programs disturb least. The resident runs need room on the device
    for the model twice.
    """
    with loading_native():
        from agentmux.bench.engine import Settings, bench_engine
    settings = Settings(
        models=models,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        slots=slots,
        repetitions=repetitions,
        arena_share=arena_share,
        device_bytes=device_bytes,
        device=device,
        threads=threads,
        batch_tokens=batch_tokens,
        mapped=not no_mmap,
    )
    report = bench_engine(settings, sys.argv[1:], tell=_tell)
    output = Output()
    if target == "-":
        output.line(report.model_dump_json())
        return
    if target is not None:
        Path(target).write_text(report.model_dump_json() + "\n", encoding="utf-8")
    _show(report, output)


# Registered from its own file: it has a bench, a table and a picture of its own.
bench.add_command(paging)


def _tell(line: str) -> None:
    """Progress, for whoever watches."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(f"agentmux: {line}", err=True)


def _show(report: Report, output: Output) -> None:
    machine = report.machine
    where = f"{machine.cpu}, {machine.cores} cores" if machine.device == "CPU" else machine.device
    output.line(f"{printable(where)}; {report.threads} CPU threads; llama.cpp {report.versions.llama_cpp}")
    for model in report.models:
        sizes = f"{size_text(model.weight_bytes)} of units, paged through {size_text(model.paged_arena_bytes)}"
        output.line(f"{printable(model.model)}: {sizes}")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True, overflow="ellipsis")
    for name in ("slots", "phase", "weights"):
        table.add_column(name, no_wrap=True)
    for name in ("plain/s", "engine/s", "all", "computing", "CPU"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.comparisons:
        table.add_row(
            Text(printable(row.model)),
            str(row.slots),
            row.phase,
            row.contender,
            f"{row.plain_tokens_per_s:.1f}",
            f"{row.tokens_per_s:.1f}",
            _ratio(row.whole),
            _ratio(row.compute),
            f"{row.cpu.median:.3f}",
        )
    output.render(table)


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.3f} ({ratio.min:.2f}-{ratio.max:.2f})"
