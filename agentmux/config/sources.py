"""Where settings come from besides keyword arguments: a TOML file, and the environment.

The file is ``AGENTMUX_CONFIG``, else the nearest ``agentmux.toml``, or ``pyproject.toml`` with a ``[tool.agentmux]``
table, in the current folder or one above it, up to the home folder or the root.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

from agentmux.config.values import is_path
from agentmux.errors import ConfigError

FILE: Final = "agentmux.toml"
PYPROJECT: Final = "pyproject.toml"
PREFIX: Final = "AGENTMUX_"
_NEAR = 0.75
"""How alike (``difflib``) an unknown variable is to a known one for it to be taken as misspelt."""
_NO_SETTINGS = frozenset({"HOME", "CONFIG", "LLAMA_ROOT", "BUILD_EXTENSION", "BUILD_TESTS", "SANITIZE"})
"""``AGENTMUX_*`` variables with another meaning than a setting."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file with settings, read, not yet checked."""

    path: Path
    table: Mapping[str, Any]
    """Paths in it are absolute."""


def find_file(environ: Mapping[str, str], folder: Path) -> ConfigFile | None:
    """The configuration that holds in ``folder``, if any. Raises ConfigError if it cannot be read or trusted."""
    if chosen := environ.get("AGENTMUX_CONFIG"):
        return read_file(Path(expanded(chosen, environ)), environ, folder)
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    for place in (folder, *folder.parents):
        if (found := _in_folder(place, environ)) is not None:
            return found
        if place == home:
            break
    return None


def read_file(path: Path, environ: Mapping[str, str], folder: Path) -> ConfigFile:
    """That very file; a relative one is looked for in ``folder``. Raises ConfigError."""
    path = folder / path
    table = _parsed(path)
    if path.name == PYPROJECT:
        table = _tool_table(table) or {}
    return _anchored(path, table, environ)


def _in_folder(folder: Path, environ: Mapping[str, str]) -> ConfigFile | None:
    own, shared = folder / FILE, folder / PYPROJECT
    shared_table = _tool_table(_parsed(shared)) if _mentions_us(shared) else None
    if not os.path.isfile(own):
        if shared_table is None:
            return None
        _require_trusted(shared)
        return _anchored(shared, shared_table, environ)
    if shared_table is not None:
        raise ConfigError(f"both {own} and [tool.agentmux] in {shared} configure agentmux; keep one of them")
    _require_trusted(own)
    return _anchored(own, _parsed(own), environ)


def _mentions_us(path: Path) -> bool:
    """Whether it is worth parsing; what is wrong with another project's file is not ours to tell."""
    try:
        return path.is_file() and b"agentmux" in path.read_bytes()
    except OSError:
        return False


def _tool_table(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    tool = document.get("tool")
    table = tool.get("agentmux") if isinstance(tool, Mapping) else None
    return table if isinstance(table, Mapping) else None


def _require_trusted(path: Path) -> None:
    """In a folder that everyone may write to, such as /tmp, anyone could have left a file for us to obey."""
    try:
        folder, owner = path.parent.stat(), path.stat().st_uid
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if folder.st_mode & stat.S_IWOTH and owner not in (0, os.getuid()):
        raise ConfigError(
            f"{path} belongs to another user, in a folder open to all; set AGENTMUX_CONFIG if it is meant"
        )


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}") from None


def _anchored(path: Path, table: Mapping[str, Any], environ: Mapping[str, str]) -> ConfigFile:
    """The file with its paths made absolute: they are relative to its folder, wherever the program was started."""

    def located(value: Any, key: str, always: bool) -> Any:
        if isinstance(value, Mapping):
            return {**value, "path": located(value["path"], key, always)} if "path" in value else value
        if not isinstance(value, str) or not value:
            return value
        try:
            text = value if value.startswith("hf:") else expanded(value, environ)
        except ConfigError as error:
            raise ConfigError(f"{path}: {key}: {error}") from None
        return str(path.parent / text) if always or is_path(text) else text

    result = dict(table)
    models = result.get("models")
    if isinstance(models, Mapping):
        result["models"] = {name: located(value, f"models.{name}", False) for name, value in models.items()}
    if "journal" in result:
        result["journal"] = located(result["journal"], "journal", True)
    return ConfigFile(path, result)


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """``~``, ``$NAME`` and ``${NAME}`` replaced; ``$$`` is a dollar. Raises ConfigError for a variable that is not
    set."""
    try:
        text = Template(text).substitute(environ) if "$" in text else text
    except KeyError as error:
        raise ConfigError(f"{text!r}: the environment variable {error.args[0]} is not set") from None
    except ValueError:
        raise ConfigError(f"{text!r}: a $ that is no variable is written $$") from None
    if (text == "~" or text.startswith("~/")) and environ.get("HOME"):
        return environ["HOME"] + text[1:]
    return os.path.expanduser(text)


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting that the environment may hold."""

    name: str
    """With its prefix."""
    keys: tuple[str, ...]
    """``("vram",)``, or table and key: ``("limits", "turns")``."""
    convert: Callable[[str], Any]
    """Value from text. Raises ValueError with the reason."""

    def value(self, text: str) -> Any:
        """Raises ConfigError that names the variable."""
        try:
            return self.convert(text)
        except ValueError as error:
            raise ConfigError(f"{self.name}={text!r}: {error}") from None


def variables_set(variables: Iterable[Variable], environ: Mapping[str, str]) -> Iterator[tuple[Variable, Any]]:
    """Those that are set, with their values. An empty one counts as not set.

    Raises ConfigError for a value that cannot be meant, and for an ``AGENTMUX_*`` variable that is like a known one and
    is none: a misspelt budget must not be ignored. Others are left alone, since they may be another program's; for a
    service called ``agentmux``, for example, Kubernetes sets ``AGENTMUX_SERVICE_HOST`` and ``AGENTMUX_PORT``.
    """
    known = {variable.name: variable for variable in variables}
    everything = {*known, *(PREFIX + name for name in _NO_SETTINGS)}
    for name in sorted(environ):
        if name in known and environ[name]:
            yield known[name], known[name].value(environ[name])
        elif name.startswith(PREFIX) and name not in everything and (near := _near_variable(name, everything)):
            raise ConfigError(f"the environment variable {name} is not known; did you mean {near}?")


def _near_variable(name: str, known: Iterable[str]) -> str | None:
    rest = {one.removeprefix(PREFIX): one for one in known}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), rest, n=1, cutoff=_NEAR)
    return rest[near[0]] if near else None


def as_bool(text: str) -> bool:
    """``1``, ``true``, ``yes``, ``on`` and their opposites, in any case. Raises ValueError."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("write 1 or 0")


def as_int(text: str) -> int:
    """A whole number. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("is not a whole number") from None


def as_float(text: str) -> float:
    """A number. Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("is not a number") from None
