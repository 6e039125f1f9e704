"""``agentmux top``: what goes on in a server, in a terminal."""

from __future__ import annotations

import os
import sys

import click

from agentmux.cli.command import UsageProblem
from agentmux.cli.live_screen import cells_for
from agentmux.cli.top_stream import Place
from agentmux.errors import ConfigError, EngineError


@click.command()
@click.argument("url", default="http://127.0.0.1:8080")
def top(url: str) -> None:
    """Show what goes on in the server at URL: memory by model, who waits for what, recent turns.

    Its API key, if it wants one, is taken from AGENTMUX_API_KEY. q ends it.
    """
    try:
        place = Place.of(url, os.environ.get("AGENTMUX_API_KEY", ""))
    except ConfigError as error:
        raise UsageProblem(str(error)) from error
    try:
        from agentmux.cli.top_app import Top
    except ImportError as error:
        raise ConfigError(f"agentmux top needs more packages ({error.name}): pip install agentmux[top]") from error
    if not sys.stdout.isatty():
        raise ConfigError("agentmux top needs a terminal")
    why = Top(place, cells_for(sys.stdout.encoding)).run()
    if why:
        raise EngineError(why)
