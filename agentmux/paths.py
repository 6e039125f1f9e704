"""Where agentmux keeps what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def home(environ: Mapping[str, str]) -> Path:
    """The folder of the registry and the journal: ``AGENTMUX_HOME`` if it is set, else ``~/.agentmux``. Not created."""
    chosen = environ.get("AGENTMUX_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".agentmux"
