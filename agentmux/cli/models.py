"""``agentmux models``: which there are, where they come from, and what they need."""

from __future__ import annotations

import dataclasses
import json
import os
from itertools import groupby
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table
from rich.text import Text

from agentmux.cli.options import BATCH_TOKENS, CONTEXT_TOKENS, DEBUG, DEVICE, JSON, SLOTS, loading_native
from agentmux.cli.output import Output, printable
from agentmux.cli.summary import size_text
from agentmux.config import RuntimeConfig
from agentmux.models import BUNDLED_MODELS, Names, named, storing
from agentmux.models.listing import Row, row_of, rows

if TYPE_CHECKING:
    from agentmux.inspection import Inspection


@click.group()
def models() -> None:
    """Models: which there are, where they come from, and what they need."""


@models.command()
@click.argument("name")
@click.argument("source", metavar="FILE|hf:OWNER/REPO:PATTERN")
@CONTEXT_TOKENS
@SLOTS
@BATCH_TOKENS
@click.option("--replace", is_flag=True, help="Take the place of a registered model of that name.")
@click.option("--no-checksum", is_flag=True, help="Do not read the file whole for its sha256; its size is kept anyway.")
@JSON
@DEBUG
def add(
    name: str,
    source: str,
    context_tokens: int | None,
    slots: int | None,
    batch_tokens: int | None,
    replace: bool,
    no_checksum: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Register a model as NAME, so that agents and commands know it.

    FILE stays where it is; of a split model, name any part. A model on the hub is downloaded into the hub's own cache:
    hf:owner/repo:*Q4_K_M.gguf, hf:owner/repo/file.gguf, or owner/repo:Q4_K_M.
    """
    settings = {"context_tokens": context_tokens, "slots": slots, "batch_tokens": batch_tokens}
    entry = storing.add(_names(), name, source, settings, replace=replace, checksum=not no_checksum)
    _tell_one(row_of(name, entry), "added", as_json)


@models.command("list")
@click.option("--verify", is_flag=True, help="Read the registered files whole and compare their sha256.")
@JSON
@DEBUG
def list_models(verify: bool, as_json: bool, debug: bool) -> None:
    """List the models that have names: the configuration file's, the registered and the bundled ones."""
    names = _names()
    found = rows(names, verify=verify)
    output = Output()
    if as_json:
        document = ",".join(row.model_dump_json() for row in found)
        output.line(f'{{"models":[{document}]}}')
        return
    output.render(_table(found))


@models.command()
@click.argument("name", metavar="NAME|hf:OWNER/REPO:PATTERN")
@JSON
@DEBUG
def pull(name: str, as_json: bool, debug: bool) -> None:
    """Download a model from the hub into the hub's cache, or bring a registered one up to date."""
    path = storing.pull(_names(), name)
    output = Output()
    output.line(_as_object(name=name, path=str(path)) if as_json else printable(str(path)))


@models.command()
@click.argument("name")
@click.option("--delete-file", is_flag=True, help="Delete the model's file too, all parts of a split one.")
@JSON
@DEBUG
def remove(name: str, delete_file: bool, as_json: bool, debug: bool) -> None:
    """Take a registered model out of the registry. Its file stays, unless --delete-file is given."""
    deleted = storing.remove(_names(), name, delete_file=delete_file)
    output = Output()
    if as_json:
        output.line(_as_object(name=name, deleted=[str(path) for path in deleted]))
        return
    again = f"; {name} is the bundled model again" if name in BUNDLED_MODELS else ""
    output.line(f"removed {name} from the registry{again}")
    for path in deleted:
        output.line(f"deleted {printable(str(path))}")


@models.command()
@click.argument("model")
@CONTEXT_TOKENS
@SLOTS
@DEVICE
@JSON
@DEBUG
def inspect(model: str, context_tokens: int | None, slots: int | None, device: str, as_json: bool, debug: bool) -> None:
    """Load MODEL and say what it is and what it takes.

    MODEL is a GGUF file, a registered, configured or bundled model (planner, coder, critic), or one on the hub
    (hf:owner/repo:*Q4_K_M.gguf). All sizes are measured on the device, for the given context and slots. On the CPU the
    budget is the arena's: contexts lie in host memory and do not count.
    """
    with loading_native():
        from agentmux.inspection import inspect_model
    spec = named(model)
    spec = dataclasses.replace(spec, context_tokens=context_tokens or spec.context_tokens, slots=slots or spec.slots)
    inspection = inspect_model(model, spec, device)
    output = Output()
    if as_json:
        output.line(inspection.model_dump_json())
    else:
        for name, value in _rows(inspection).items():
            output.line(f"{name:<17}{printable(value)}")


def _names() -> Names:
    return Names.of(RuntimeConfig.make(os.environ), os.environ)


def _as_object(**values: object) -> str:
    return json.dumps(values)


def _tell_one(row: Row, what: str, as_json: bool) -> None:
    output = Output()
    if as_json:
        output.line(row.model_dump_json())
        return
    size = size_text(row.size_bytes or 0)
    output.line(printable(f"{what} {row.name}: {row.architecture}, {size}, {row.path}"))
    if row.name in BUNDLED_MODELS:
        output.line(f"it goes before the bundled model {row.name}")


def _table(found: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("name", "from", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("architecture", no_wrap=True)
    table.add_column("context", justify="right", no_wrap=True)
    table.add_column("slots", justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    for row in found:
        table.add_row(
            Text(printable(row.name)),
            row.origin,
            "hidden" if row.hidden else row.state,
            "" if row.size_bytes is None else size_text(row.size_bytes),
            Text(printable(row.architecture or "")),
            "" if row.context_tokens is None else str(row.context_tokens),
            str(row.slots),
            Text(printable(row.source or row.path)),
        )
    return table


def _rows(found: Inspection) -> dict[str, str]:
    mix = ", ".join(f"{size_text(share.bytes)} {share.type} ({share.tensors})" for share in found.types)
    template = "with" if found.chat_template else "without"
    vocabulary = f"{found.vocabulary_tokens} tokens" if found.vocabulary_tokens else "none, token ids only"
    measured = f"context of {found.context_tokens} tokens, {_count(found.slots, 'slot')}, on {found.device}"
    return {
        "model": found.model,
        "architecture": found.architecture,
        "file": f"{size_text(found.file_bytes)}: {mix}",
        "trained for": f"context of {found.training_context_tokens} tokens",
        "vocabulary": f"{vocabulary}, {template} chat template",
        "measured with": measured,
        "host memory": f"{size_text(found.host_bytes)} of weights",
        "units": f"{len(found.unit_bytes)}, {size_text(found.weight_bytes)} together: {_units(found.unit_bytes)}",
        "small tensors": f"{size_text(found.static_bytes)} on the device",
        "context": f"{size_text(found.context_bytes)} on the device",
        "KV cache": f"{size_text(found.kv_bytes_per_token)} a token",
        "smallest budget": size_text(found.min_budget_bytes),
        "resident from": size_text(found.resident_budget_bytes),
    }


def _units(unit_bytes: tuple[int, ...]) -> str:
    """Neighbours of one size together: ``8 x 714.0 KiB, 1 x 544.0 KiB``."""
    return ", ".join(f"{len(list(run))} x {size_text(size)}" for size, run in groupby(unit_bytes))


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
