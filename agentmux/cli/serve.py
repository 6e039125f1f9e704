"""``agentmux serve``: OpenAI's interface to the models, and to agents and pipelines of the user's."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentmux.cli.command import UsageProblem
from agentmux.cli.opening import DEVICE, WAIT_FOR_MODELS, NamedModels, open_runtime
from agentmux.cli.options import Size
from agentmux.cli.output import Output
from agentmux.cli.signals import run_to_end
from agentmux.cli.target import find_target
from agentmux.cli.tracing import TRACE, tracing
from agentmux.config import ModelSpec, WaitForModels
from agentmux.errors import ConfigError

if TYPE_CHECKING:
    from agentmux.server import ServerSettings

_TRACE_BYTES = 256 * 1024 * 1024
"""A server runs for as long as it likes; a trace of all of it would fill the disk."""
_LEAST_TRACE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """What is served, and how."""

    targets: tuple[Any, ...]
    models: Mapping[str, ModelSpec] | None
    server: ServerSettings
    runtime: Mapping[str, Any]
    trace: Path | None
    trace_bytes: int


@click.command()
@click.argument("targets", metavar="[MODULE:NAME]...", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; other than loopback needs an API key.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any that is free.")
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keys that clients may bring, one a line; also AGENTMUX_API_KEY.",
)
@click.option("--models", type=NamedModels(), help="name=file.gguf,... Default: the configuration's, the bundled ones.")
@click.option("--vram", type=Size(), help="Budget for all models together. Default: nine tenths of what is free.")
@DEVICE
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: the cores it may use.")
@WAIT_FOR_MODELS
@click.option("--queue-limit", type=click.IntRange(min=0), help="Turns that may wait; more are 429. Default: 1024.")
@click.option("--no-live", is_flag=True, help="No live page, where who may ask sees what others asked.")
@click.option("--max-body", type=Size(), help="Of a request. Default: 8MiB.")
@click.option(
    "--reuse-prefixes",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Conversations without a session that go on where they were.",
)
@click.option(
    "--drain-s",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Seconds that requests under way get when it is told to end.",
)
@TRACE
@click.option("--trace-size", type=Size(), help="Of the trace, whose newest part is kept. Default: 256MiB.")
def serve(
    targets: tuple[str, ...],
    host: str,
    port: int,
    api_key_file: Path | None,
    models: dict[str, ModelSpec] | None,
    vram: int | None,
    device: str | None,
    threads: int | None,
    wait_for_models: WaitForModels | None,
    queue_limit: int | None,
    no_live: bool,
    max_body: int | None,
    reuse_prefixes: int,
    drain_s: float,
    trace: Path | None,
    trace_size: int | None,
) -> None:
    """Answer requests as OpenAI's interface does, at http://HOST:PORT/v1.

    The models can be asked by their names. Each MODULE:NAME, an agent or pipeline as in agentmux run, is one more name;
    it is run with the last message of the user.

    It answers once all models are loaded. With --wait-for-models first it does so once the first is: requests for the
    others wait for them, and /ready is 503 until all are there.

    SIGTERM and SIGINT end it: it takes no more requests, and those under way are answered first. The exit status is 0
    if all of them were.
    """
    server_settings = _settings_class()
    found = tuple(find_target(target, Path.cwd()).thing for target in targets)
    more = {"reuse_prefixes": reuse_prefixes} | ({} if max_body is None else {"max_body_bytes": max_body})
    try:
        settings = server_settings(host, port, _keys(api_key_file), drain_s=drain_s, live=not no_live, **more)
    except ConfigError as error:
        raise UsageProblem(str(error)) from error
    runtime = {"vram": vram, "device": device, "threads": threads, "queue_limit": queue_limit}
    runtime |= {"wait_for_models": wait_for_models}
    trace_bytes = _TRACE_BYTES if trace_size is None else trace_size
    if trace_bytes < _LEAST_TRACE_BYTES:
        raise UsageProblem(f"--trace-size {trace_bytes} is less than {_LEAST_TRACE_BYTES} bytes")
    run_to_end(_serve(Setting(found, models, settings, runtime, trace, trace_bytes), Output()))


def _settings_class() -> type[ServerSettings]:
    try:
        from agentmux.server import ServerSettings
    except ImportError as error:
        raise ConfigError(f"agentmux serve needs more packages ({error.name}): pip install agentmux[server]") from error
    return ServerSettings


def _keys(file: Path | None) -> tuple[str, ...]:
    """Keys of the file, and the environment's."""
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if file and not keys:
        raise UsageProblem(f"{file} has no API key")
    if one := os.environ.get("AGENTMUX_API_KEY"):
        keys.append(one)
    return tuple(dict.fromkeys(keys))


@contextmanager
def _settled() -> Iterator[None]:
    """What is there now stays: that garbage collections do not look at it spares each full one some 30 ms, in which
    nobody would be answered."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _serve(setting: Setting, output: Output) -> None:
    from agentmux.server import Live, Traffic, application, listen, serve

    traffic, live, settings = Traffic(), Live(), setting.server
    with listen(settings) as listening, tracing(setting.trace, setting.trace_bytes) as traced:
        observers = [traffic.observe, *([live.observe] if settings.live else []), *traced.observers]
        async with open_runtime(setting.models, observers=observers, **setting.runtime) as mux:
            app = application(mux, settings, traffic, setting.targets, live)
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            ready = f"serving http://{shown}:{port}/v1"
            with traced.sampling(mux.stats), _settled():
                await serve(app, listening, settings, lambda: output.line(ready), live.end)
