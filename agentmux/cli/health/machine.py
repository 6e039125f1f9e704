"""Memory, disk, what agentmux keeps, the bundled models, and what the sandbox may do."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path

from agentmux import host_memory
from agentmux.cli.health.child import ask
from agentmux.cli.health.finding import Finding
from agentmux.cli.summary import size_text
from agentmux.errors import AgentmuxError
from agentmux.models import BUNDLED_MODELS, bundled_folder
from agentmux.paths import home

_LITTLE_MEMORY_BYTES = 2 * 2**30
_LITTLE_DISK_BYTES = 2**30
_SQLITE_MAGIC = b"SQLite format 3\0"


def memory() -> Iterator[Finding]:
    """Main memory, which holds all models' weights; swap; how much may be page-locked."""
    sizes = host_memory.sizes()
    free, total = sizes.get("MemAvailable", 0), sizes.get("MemTotal", 0)
    text = f"{size_text(free)} free of {size_text(total)}"
    limit = host_memory.cgroup_limit()
    if limit is not None and limit < total:
        text += f", limited to {size_text(limit)} by the control group"
        free = min(free, limit)
    if not total:
        yield Finding("memory", "warn", "this system does not say")
    elif free < _LITTLE_MEMORY_BYTES:
        yield Finding("memory", "warn", text, "host memory must hold the weights of all models: end other programs")
    else:
        yield Finding("memory", "ok", text)
    swap, swapped = sizes.get("SwapTotal", 0), sizes.get("SwapTotal", 0) - sizes.get("SwapFree", 0)
    if swapped > 2**30:
        text = f"{size_text(swapped)} of {size_text(swap)} in use: paging weights from there is slow"
        yield Finding("swap", "warn", text, "free memory before models are loaded")
    else:
        yield Finding("swap", "ok", f"{size_text(swapped)} of {size_text(swap)} in use" if swap else "none")
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    shown = ["unlimited" if bound == resource.RLIM_INFINITY else size_text(bound) for bound in (soft, hard)]
    text = f"limit {shown[0]} (at most {shown[1]}); NVIDIA's driver page-locks beyond it, others may not"
    yield Finding("page-locking", "ok", text)


def storage() -> Iterator[Finding]:
    """The folder of the registry and the journal, the room there, and whether the files in it can be read."""
    folder = home(os.environ)
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("home", "fail", f"{folder} cannot be written to", "set AGENTMUX_HOME to a folder of yours")
        return
    free = shutil.disk_usage(there).free
    text = f"{folder}{'' if there == folder else ' (not there yet)'}, {size_text(free)} free"
    few = free < _LITTLE_DISK_BYTES
    yield Finding("home", "warn" if few else "ok", text, "free some room there, or set AGENTMUX_HOME" if few else "")
    for path in sorted(folder.glob("*")):
        if path.is_file() and (problem := _damage(path)):
            yield Finding(path.name, "fail", f"{path}: {problem}", "move it away; it is made anew without its contents")


def _damage(path: Path) -> str:
    """What is wrong with a file of a known kind; empty if nothing is."""
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(16) == _SQLITE_MAGIC
        if is_sqlite:
            return _sqlite_damage(path)
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".toml":
            tomllib.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in (".db", ".sqlite") and path.stat().st_size:
            return "is no SQLite database"
    except (OSError, ValueError) as error:
        return " ".join(str(error).split())
    return ""


def _sqlite_damage(path: Path) -> str:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)
        try:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error)
    return "" if answer == "ok" else str(answer)


def bundled() -> Iterator[Finding]:
    """The demonstration models."""
    advice = "reinstall agentmux"
    try:
        folder = bundled_folder()
    except (AgentmuxError, ImportError) as error:
        yield Finding("bundled models", "warn", str(error), advice)
        return
    missing = [name for name in BUNDLED_MODELS if not _is_gguf(folder / f"{name}.gguf")]
    if missing:
        text = f"missing or damaged: {', '.join(missing)} in {folder}"
        yield Finding("bundled models", "warn", text, f"{advice}; only demo and the examples need them")
    else:
        yield Finding("bundled models", "ok", f"{', '.join(BUNDLED_MODELS)} in {folder}")


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def sandbox() -> Iterator[Finding]:
    """What keeps the demo's programs from doing harm here."""
    found = ask("sandbox")
    lacking = []
    if found.get("namespaces", "unknown"):
        lacking.append(f"namespaces (no network of their own, no sight of other processes): {found.get('namespaces')}")
    if not found.get("landlock"):
        lacking.append("Landlock (files out of reach)")
    if lacking:
        advice = "see agents/sandbox.py for what is left; a kernel from 5.13 on and user namespaces have all of it"
        yield Finding("sandbox", "warn", f"programs run with limits, but without {'; '.join(lacking)}", advice)
    else:
        yield Finding("sandbox", "ok", f"limits, namespaces, Landlock (version {found['landlock']})")
