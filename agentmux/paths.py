"""Where agentmux keeps its files: one folder, ``AGENTMUX_HOME``, else ``~/.agentmux``.

One folder rather than XDG's three (data, state, cache): the registry and the journal that refers to it belong
together, and are backed up, moved and removed together; and one variable then moves all of it, as a container or a
test wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentmux.errors import ConfigError


def home(environ: Mapping[str, str]) -> Path:
    """The folder of the registry and the journal, absolute. It need not exist yet.

    ``AGENTMUX_HOME`` if that is set and not empty (``~`` is resolved, a relative path is taken from the working
    directory), else ``.agentmux`` in the user's home directory. Raises ConfigError where that is not known.
    """
    chosen = environ.get("AGENTMUX_HOME")
    try:
        return Path(chosen).expanduser().absolute() if chosen else _user_home(environ) / ".agentmux"
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"no folder for agentmux's files: {error}; set AGENTMUX_HOME") from error


def journal_path(environ: Mapping[str, str]) -> Path:
    """The journal's file within ``home``."""
    return home(environ) / "journal.db"


def _user_home(environ: Mapping[str, str]) -> Path:
    # Path.home() would ask the process's own environment, not the one that was given.
    given = environ.get("HOME")
    return Path(given).absolute() if given else Path.home()
