"""``agentmux config``: the settings that hold, and the schema of their file."""

from __future__ import annotations

import json
import os

import click
from pydantic import TypeAdapter

from agentmux.cli.output import Output, printable
from agentmux.config import RuntimeConfig
from agentmux.config.schema import file_schema


@click.group()
def config() -> None:
    """Settings: which hold here, and what their file may have."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def show(as_json: bool, debug: bool) -> None:
    """Print the settings that hold in this folder, from the environment and the configuration file."""
    settings = RuntimeConfig.make(os.environ)
    document = TypeAdapter(RuntimeConfig).dump_python(settings, mode="json", exclude={"configured"})
    output = Output()
    if as_json:
        output.line(json.dumps(document))
        return
    output.line(f"# {printable(str(settings.source or 'no configuration file'))}")
    for name, value in document.items():
        if name != "source":
            output.line(f"{name:<22}{printable(json.dumps(value, ensure_ascii=False))}")


@config.command()
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def schema(debug: bool) -> None:
    """Print the JSON Schema of agentmux.toml, for editors."""
    Output().line(json.dumps(file_schema(), indent=2))
