"""``agentmux bench paging``: several models in less device memory than they take, beside what there is instead."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from agentmux.cli.bench_output import is_printed, tell
from agentmux.cli.options import DEVICE, Counts, Size, loading_native
from agentmux.cli.output import Output, printable
from agentmux.cli.summary import size_text

if TYPE_CHECKING:
    from agentmux.bench.paging_report import PagingReport, Summary

_THREE = ("random:llama3-8b",) * 3
_COUNT = click.IntRange(min=1)


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--json", "target", metavar="FILE", help="Write the JSON document there; - prints it, and nothing else.")
@click.option("--svg", metavar="FILE", help="Draw it: a timeline of two rounds, and bars.")
@click.option("--device-bytes", type=Size(), default="8GiB", show_default=True, help="Budget of the paged engine.")
@click.option("--contenders", help="Which to run. Default: paged,resident,reload,static; with --router also router.")
@click.option("--router", metavar="FILE", help="A llama-server: run it as a router, too (router, router-resident).")
@click.option("--llama-bench", metavar="FILE", help="Run it beside --alone 1.")
@click.option("--llama-batched-bench", metavar="FILE", help="Run it beside --alone with several slots.")
@click.option("--prompt-tokens", type=_COUNT, default=512, show_default=True, help="Of each turn's prompt.")
@click.option("--tokens", type=click.IntRange(min=2), default=128, show_default=True, help="Of each answer.")
@click.option("--turns", type=_COUNT, default=9, show_default=True, help="In each repetition.")
@click.option("--repetitions", type=_COUNT, default=3, show_default=True, help="Of what loads no model in a turn.")
@click.option("--agents", type=_COUNT, default=1, show_default=True, help="Of each model; several keep sessions.")
@click.option("--slots", type=_COUNT, default=1, show_default=True, help="Of each model.")
@click.option("--use", metavar="N,...", help="Each model's share of the turns, such as 80,15,5. Default: equal.")
@click.option("--alone", type=Counts(), help="Also measure the first model alone, with so many slots: 1,8,16.")
@click.option("--link-bytes-per-s", type=Size(), help="Hold uploads to this rate, such as 12GB.")
@click.option("--oversize", type=click.Choice(["auto", "stream", "host"]), default="auto", show_default=True)
@click.option("--batch-tokens", type=_COUNT, default=512, show_default=True, help="In one step at most.")
@click.option("--threads", type=_COUNT, help="CPU threads. Default: the cores it may use.")
@click.option("--folder", metavar="DIR", help="Write random models there and leave them. Default: until the end.")
@click.option("--tokenizer", metavar="FILE", help="Random models get this GGUF file's tokenizer.")
@DEVICE
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def paging(models: tuple[str, ...], target: str | None, svg: str | None, **options: Any) -> None:
    """Measure turns over several models that do not fit together, beside the same engine with room for all, llama.cpp
    that loads and frees a model at each turn, and llama.cpp with a fixed part of each on the device. With --router
    also llama.cpp's server as a router that has one model at a time (router) or, if asked for, all (router-resident).
    With --alone, also the first model resident, in the engine and in llama.cpp's own benches, if they are given.

    MODEL is a GGUF file, a bundled model, or random:SHAPE with SHAPE one of llama3-1b, llama3-3b, llama3-8b,
    mistral-7b, qwen3-8b, qwen3-14b, gemma3-4b, tiny: random weights in that shape, Q4_0, written for the occasion.
    Without any: three of llama3-8b. The memory that is reported is the whole device's, above what was in use before;
    let nothing else run there.
    """
    with loading_native():
        from agentmux.bench.paging import Settings, bench_paging
    options.pop("debug")
    use, alone, contenders = options.pop("use"), options.pop("alone"), options.pop("contenders")
    settings = Settings(
        models=models or _THREE,
        contenders=() if contenders is None else tuple(name.strip() for name in contenders.split(",")),
        use=_shares(use),
        single_slots=alone or (),
        **options,
    )
    report = bench_paging(settings, sys.argv[1:], tell=tell)
    if svg is not None:
        from agentmux.bench.paging_picture import picture

        Path(svg).write_text(picture(report), encoding="utf-8")
    output = Output()
    if not is_printed(report, target, output):
        _show(report, output)


def _shares(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise click.BadParameter(f"{text!r} is no list of whole numbers, such as 80,15,5", param_hint="--use")
    return tuple(int(part) for part in parts)


def _show(report: PagingReport, output: Output) -> None:
    machine = report.machine
    where = f"{machine.cpu}, {machine.cores} cores" if machine.device == "CPU" else machine.device
    weights = sum(model.weight_bytes for model in report.models)
    held = "" if report.device_bytes is None else f", held to {size_text(report.device_bytes)}"
    output.line(f"{printable(where)}{held}; llama.cpp {report.versions.llama_cpp}")
    output.line(f"{len(report.models)} models, {size_text(weights)} of units, arena {size_text(report.arena_bytes)}")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("contender", no_wrap=True)
    for name in ("tokens/s", "first ms", "95 %", "wait ms", "MB/turn", "peak", "J/token"):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in report.summaries:
        table.add_row(*_row(summary))
    output.render(table)
    for summary in report.summaries:
        if summary.bound_tokens_per_s is not None and summary.bound_first_token_s is not None:
            bound = f"{summary.bound_tokens_per_s:.1f} tokens/s, first token {1e3 * summary.bound_first_token_s:.1f} ms"
            output.line(f"{summary.contender}: no faster than {bound} by arithmetic")
    for summary in report.summaries:
        if summary.returning_first_token_s is not None and summary.returning_of_needed is not None:
            back = f"first token {1e3 * summary.returning_first_token_s:.1f} ms, {summary.returning_of_needed:.2f}"
            output.line(f"{summary.contender}: sessions from host memory: {back} of what their bytes need on the link")
    if report.singles:
        output.render(_singles(report))
    for run in report.tools:
        caches = {None: "", True: ", one KV cache for all slots", False: ", a KV cache for each slot"}[run.unified_kv]
        said = run.version or "no version"
        output.line(f"{run.tool}, {run.slots} slot(s): {printable(said)}{caches}")


def _row(summary: Summary) -> tuple[str, ...]:
    peak, joules = summary.peak_device_bytes, summary.joules_per_token
    return (
        summary.contender,
        f"{summary.tokens_per_s:.1f}",
        f"{1e3 * summary.first_token_s:.1f}",
        f"{1e3 * summary.first_token_p95_s:.1f}",
        f"{1e3 * summary.upload_wait_s:.1f}",
        f"{summary.uploaded_bytes_per_turn / 1e6:.0f}",
        "-" if peak is None else size_text(peak),
        "-" if joules is None else f"{joules:.2f}",
    )


def _singles(report: PagingReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("alone", "phase"):
        table.add_column(name, no_wrap=True)
    for name in ("slots", "depth", "tokens/s", "engine is"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in report.singles:
        share = "" if one.engine_share is None else f"{100 * one.engine_share:.1f} %"
        row = (one.contender, one.phase, str(one.slots), str(one.depth_tokens), f"{one.tokens_per_s:.1f}", share)
        table.add_row(*(Text(cell) for cell in row))
    return table
