"""``agentmux bench server``: many streaming clients of a server, beside the engine that is asked without one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from agentmux.cli.bench_output import is_printed, tell
from agentmux.cli.options import loading_native
from agentmux.cli.output import Output, printable
from agentmux.errors import ConfigError

if TYPE_CHECKING:
    from agentmux.bench.server_report import ServerReport

_COUNT = click.IntRange(min=1)


@click.command()
@click.option("--json", "target", metavar="FILE", help="Write the JSON document there; - prints it, and nothing else.")
@click.option("--clients", type=_COUNT, default=64, show_default=True, help="At the same time, all of them streaming.")
@click.option("--models", default="planner,coder,critic", show_default=True, help="Bundled models, or random:SHAPE.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=20.0, show_default=True, help="Of each measurement.")
@click.option("--tokens", type=_COUNT, default=256, show_default=True, help="Of an answer at most.")
@click.option("--questions", type=_COUNT, default=16, show_default=True, help="Different ones, to each model.")
@click.option("--repetitions", type=_COUNT, default=3, show_default=True, help="Of both contenders.")
@click.option("--threads", type=_COUNT, default=1, show_default=True, help="CPU threads of the engine.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def server(target: str | None, models: str, debug: bool, **options: Any) -> None:
    """Measure a server with many streaming clients, beside the same runtime that is asked without HTTP.

    Server, clients and the runtime alone have a process each; the two contenders run one after another, in turn. Each
    answer is compared with the engine's own to the same prompt. Last comes a server whose queue is too short for the
    clients, which says how soon a refusal is there. The clients take cores too: give the machine nothing else to do.

    random:SHAPE, such as random:smollm2-135m, is a model of random weights in the shape of a real one; named several
    times, it is as many models.
    """
    with loading_native():
        try:
            from agentmux.bench.server import Settings, bench_server
        except ImportError as error:
            raise ConfigError(f"this bench needs more packages ({error.name}): pip install agentmux[server]") from error
    settings = Settings(models=tuple(name.strip() for name in models.split(",") if name.strip()), **options)
    report = bench_server(settings, sys.argv[1:], tell=tell)
    output = Output()
    if not is_printed(report, target, output):
        _show(report, output)


def _show(report: ServerReport, output: Output) -> None:
    one = report.summary
    output.line(f"{printable(report.machine.cpu)}, {report.machine.cores} cores; {report.threads} threads")
    output.line(f"{report.clients} clients of {len(report.models)} models, {report.seconds:g} s each time")
    output.line(f"engine alone {one.alone_tokens_per_s:.0f} tokens/s, {one.alone_cpu_us_per_token:.0f} us CPU a token")
    output.line(
        f"server       {one.server_tokens_per_s:.0f} tokens/s, {one.server_cpu_us_per_token:.0f} us CPU a token, "
        f"its clients {one.client_cpu_us_per_token:.0f}"
    )
    output.line(
        f"its loop     {one.added_cpu_us_per_token:.0f} us CPU a token more than the runtime's own, "
        f"{one.added_cpu_share:.1%} of all that the runtime takes"
    )
    output.line(f"ratio        {one.ratio:.3f} ({one.ratio_least:.3f}-{one.ratio_most:.3f})")
    served = [pair.server for pair in report.pairs]
    output.line(
        f"{sum(each.answers for each in served)} streams, {sum(each.cut for each in served)} cut, "
        f"{sum(each.wrong for each in served)} wrong, {sum(sum(each.errors.values()) for each in served)} errors"
    )
    if report.refused is not None:
        refusals = report.refused.refusals
        output.line(
            f"{refusals.count} refusals: first byte after {1e3 * refusals.first_byte_median_s:.1f} ms, "
            f"99 % within {1e3 * refusals.first_byte_p99_s:.1f}, all within {1e3 * refusals.first_byte_most_s:.1f}"
        )
