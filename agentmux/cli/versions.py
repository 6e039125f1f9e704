"""Versions of what is installed, read off files: nothing native is loaded for it."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_LIBRARY = re.compile(r"libllama\.so\.(\d+\.\d+\.\d+)|libllama\.(\d+\.\d+\.\d+)\.dylib")


def installed(package: str) -> str | None:
    """The installed version of a distribution, None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def llama_folder() -> Path | None:
    """The folder whose libllama is loaded: ``LLAMA_CPP_LIB_PATH``, else llama-cpp-python's; None without one."""
    if override := os.environ.get("LLAMA_CPP_LIB_PATH"):
        return Path(override)
    found = find_spec("llama_cpp")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations))) / "lib"


def llama_version() -> str | None:
    """llama.cpp's version, as the name of its library says it; None where it does not."""
    folder = llama_folder()
    if folder is None or not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        if match := _LIBRARY.fullmatch(path.name):
            return match[1] or match[2]
    return None


def version_line() -> str:
    """What ``agentmux --version`` says."""
    python = installed("llama-cpp-python")
    llama = f"llama.cpp {llama_version() or 'of unknown version'}"
    parts = f"{llama}, llama-cpp-python {python}" if python else "llama-cpp-python is not installed"
    return f"agentmux {installed('agentmux') or 'of unknown version'} ({parts})"
