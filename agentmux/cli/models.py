"""``agentmux models``: model files and what they need."""

from __future__ import annotations

import dataclasses
from itertools import groupby
from typing import TYPE_CHECKING

import click

from agentmux.cli.options import DEVICE, loading_native
from agentmux.cli.output import Output, printable
from agentmux.cli.summary import size_text
from agentmux.models import named

if TYPE_CHECKING:
    from agentmux.inspection import Inspection


@click.group()
def models() -> None:
    """Model files: what they are and what they need."""


@models.command()
@click.argument("model", metavar="FILE")
@click.option("--context-tokens", type=click.IntRange(min=1), help="Of each slot. Default: 4096, bundled models 1024.")
@click.option("--slots", type=click.IntRange(min=1), default=1, show_default=True, help="Turns decoded in one batch.")
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def inspect(model: str, context_tokens: int | None, slots: int, device: str, as_json: bool, debug: bool) -> None:
    """Load FILE, or a bundled model (planner, coder, critic), and say what it is and what it takes.

    All sizes are measured on the device, for the given context and slots. On the CPU the budget is the arena's:
    contexts lie in host memory and do not count.
    """
    with loading_native():
        from agentmux.inspection import inspect_model
    spec = dataclasses.replace(named(model), slots=slots)
    if context_tokens is not None:
        spec = dataclasses.replace(spec, context_tokens=context_tokens)
    inspection = inspect_model(model, spec, device)
    output = Output()
    if as_json:
        output.line(inspection.model_dump_json())
    else:
        for name, value in _rows(inspection).items():
            output.line(f"{name:<17}{printable(value)}")


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
