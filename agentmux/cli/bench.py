"""``agentmux bench``: measurements beside their baselines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table
from rich.text import Text

from agentmux.cli.bench_output import is_printed, tell
from agentmux.cli.bench_paging import paging
from agentmux.cli.bench_server import server
from agentmux.cli.options import DEVICE, Counts, Size, loading_native
from agentmux.cli.output import Output, printable
from agentmux.cli.summary import size_text

if TYPE_CHECKING:
    from agentmux.bench.framework_report import FrameworkReport
    from agentmux.bench.report import Ratio, Report
    from agentmux.bench.scheduler import SchedulerReport


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
    report = bench_engine(settings, sys.argv[1:], tell=tell)
    output = Output()
    if not is_printed(report, target, output):
        _show(report, output)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document, and nothing else.")
@click.option("--output", "target", metavar="FILE", help="Write the JSON document there.")
@click.option("--turns", type=click.IntRange(min=1), default=300, show_default=True, help="One after another.")
@click.option("--at-once", type=click.IntRange(min=1), default=1000, show_default=True, help="Runs at the same time.")
@click.option("--repetitions", type=click.IntRange(min=1), default=7, show_default=True, help="Of each measurement.")
@click.option(
    "--memory-turns", type=click.IntRange(min=0), default=50_000, show_default=True, help="While memory is watched."
)
@click.option("--no-baseline", is_flag=True, help="Leave out LangGraph.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def framework(
    as_json: bool,
    target: str | None,
    turns: int,
    at_once: int,
    repetitions: int,
    memory_turns: int,
    no_baseline: bool,
    debug: bool,
) -> None:
    """Measure what the framework itself costs a turn, beside LangGraph's graph of one node.

    The engine answers at once, so nothing of a model is in these times. LangGraph is measured where it is installed
    (pip install 'agentmux[bench]').
    """
    # Not needed by the other commands, which start fast.
    from agentmux.bench.framework import Settings, bench_framework

    settings = Settings(turns, at_once, repetitions, memory_turns, baseline=not no_baseline)
    report = bench_framework(settings, sys.argv[1:], tell=tell)
    if target is not None:
        Path(target).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    output = Output()
    if as_json:
        output.line(report.model_dump_json())
    else:
        _show_framework(report, output)


def _show_framework(report: FrameworkReport, output: Output) -> None:
    output.line(f"{printable(report.machine.cpu)}, {report.machine.cores} cores")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("contender", "turns"):
        table.add_column(name, no_wrap=True)
    for name in ("ms a turn", "CPU ms", "of LangGraph's"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.comparisons:
        ratio = "" if row.of_langgraph is None else f"{row.of_langgraph:.2f}"
        table.add_row(row.contender, row.shape, f"{1000 * row.turn_s:.3f}", f"{1000 * row.turn_cpu_s:.3f}", ratio)
    output.render(table)
    if report.baseline_missing:
        output.line(f"LangGraph was not measured: {report.baseline_missing}")
    if (memory := report.memory) is not None:
        grown = memory.traced_bytes_at_end - memory.traced_bytes_halfway
        output.line(
            f"memory: {grown:+} bytes over the second half of {memory.turns} turns, "
            f"{memory.turns_finished} finished, {memory.turns_ended_otherwise} ended otherwise, "
            f"{memory.turns_ended_twice} twice, {memory.turns_without_end} never"
        )


@bench.command()
@click.option(
    "--workload", "names", metavar="NAME|FILE.json", multiple=True, help="Which one; may be repeated. Default: all."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is random in the workloads.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document, and nothing else.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON document there.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def scheduler(names: tuple[str, ...], seed: int, as_json: bool, output: Path | None, debug: bool) -> None:
    """Simulate the scheduler beside simpler ones, and beside the offline optimum where that can be computed.

    The scheduler is the real one; the engine is a cost model, by default of 8 B models on a small GPU behind 12 GB/s.
    Workloads: three, pipelines, loops, uneven, bursts, long, agents, adversarial, or a JSON file. "fifo" is first come,
    first served; "collate" lets the resident model go first without any bound.
    """
    from agentmux.bench.scheduler import bench_scheduler
    from agentmux.bench.simulator_workloads import WORKLOADS, make_workload, read_workload

    workloads = [
        read_workload(Path(name)) if name.endswith(".json") else make_workload(name, seed)
        for name in names or tuple(WORKLOADS)
    ]
    report = bench_scheduler(workloads, seed, sys.argv[1:])
    document = report.model_dump_json()
    if output is not None:
        output.write_text(document + "\n", encoding="utf-8")
    if as_json:
        Output().line(document)
    else:
        _show_schedules(report, Output())


def _show_schedules(report: SchedulerReport, output: Output) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("workload", no_wrap=True, overflow="ellipsis")
    table.add_column("policy", no_wrap=True)
    for name in ("seconds", "optimum", "switches", "optimum", "lost", "wait", "longest", "run"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.results:
        table.add_row(
            Text(printable(row.workload)),
            row.policy,
            f"{row.makespan_s:.1f}",
            "" if row.optimum_makespan_s is None else f"{row.optimum_makespan_s:.1f}",
            str(row.switches),
            "" if row.optimum_switches is None else str(row.optimum_switches),
            f"{100 * row.lost_share:.1f} %",
            f"{row.mean_wait_s:.1f}",
            f"{row.longest_wait_s:.1f}",
            f"{row.mean_run_s:.1f}",
        )
    output.render(table)
    output.line("wait, longest: of a turn, to its admission; run: mean, from its arrival to its end; seconds")


# Registered from their own files: each has a bench and a table of its own.
bench.add_command(paging)
bench.add_command(server)


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
