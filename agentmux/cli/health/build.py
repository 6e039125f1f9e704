"""The installation: versions, the extension, and which llama.cpp is loaded."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentmux.cli.health.finding import Finding
from agentmux.cli.versions import installed, llama_folder, llama_version

REINSTALL = "reinstall agentmux: pip install --force-reinstall --no-deps agentmux (or -e . in its source)"
_LEAST_PYTHON = (3, 11)


def python_version() -> Iterator[Finding]:
    """Python itself."""
    text = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < _LEAST_PYTHON:  # a command line that got this far may still be run by hand
        yield Finding("Python", "fail", text, "use Python 3.11 or later")
    else:
        yield Finding("Python", "ok", text)


def versions() -> Iterator[Finding]:
    """agentmux, and llama-cpp-python as pinned."""
    own = installed("agentmux")
    yield Finding("agentmux", "ok" if own else "warn", own or "runs from its source", "" if own else REINSTALL)
    there, pinned = installed("llama-cpp-python"), _pinned()
    if there is None:
        wanted = f"llama-cpp-python=={pinned}" if pinned else "llama-cpp-python"
        yield Finding("llama-cpp-python", "fail", "is not installed", f"pip install {wanted}")
    elif pinned and there != pinned:
        yield Finding(
            "llama-cpp-python", "fail", f"{there}, agentmux needs {pinned}", f"pip install llama-cpp-python=={pinned}"
        )
    else:
        yield Finding("llama-cpp-python", "ok", f"{there}, llama.cpp {llama_version() or 'of unknown version'}")


def _pinned() -> str | None:
    try:
        lines = requires("agentmux") or []
    except PackageNotFoundError:
        return None
    pins = (re.match(r"llama[-_]cpp[-_]python\s*==\s*([\w.]+)", line) for line in lines)
    return next((pin[1] for pin in pins if pin), None)


def extension_file() -> Path | None:
    """Where the extension lies; None without one."""
    try:
        found = find_spec("agentmux.engine._native")
    except ImportError:
        return None
    return Path(found.origin) if found is not None and found.origin else None


def extension(native: Mapping[str, Any]) -> Iterator[Finding]:
    """The extension: there, loadable, and its helper program beside it."""
    path = extension_file()
    if path is None:
        yield Finding("engine", "fail", "the extension agentmux.engine._native is not there", REINSTALL)
        return
    if "crash" in native:
        yield Finding("engine", "fail", f"loading it failed: {native['crash']}", REINSTALL)
    elif "llama_error" in native:
        text = f"llama_cpp cannot be loaded: {native['llama_error']}"
        yield Finding(
            "engine", "fail", text, "reinstall llama-cpp-python: pip install --force-reinstall llama-cpp-python"
        )
    elif "engine_error" in native:
        yield Finding("engine", "fail", f"{native['engine_error']}", REINSTALL)
    else:
        yield Finding("engine", "ok", f"loads, {path}")
    vet = path.with_name("agentmux-vet")
    if not os.access(vet, os.X_OK):
        yield Finding("model check", "fail", f"{vet} is not there or may not be run", REINSTALL)


def llama_build(native: Mapping[str, Any]) -> Iterator[Finding]:
    """How ggml was compiled, and whether that leaves some of the CPU unused."""
    if not native.get("system_info"):
        return
    features = re.findall(r"(\w+) = 1", native["system_info"])
    commit = f"ggml {native.get('ggml_version', '?')} ({native.get('ggml_commit', '?')})"
    text = f"{commit}, compiled with {', '.join(features) or 'no extensions'}"
    unused = [name for name in ("avx2", "avx512f") if name in _cpu_flags() and _built_as(name) not in features]
    if unused:
        advice = (
            'CMAKE_ARGS="-DGGML_NATIVE=on" pip install --no-cache-dir --force-reinstall '
            f"llama-cpp-python=={_pinned() or native.get('llama_cpp_python')}"
        )
        yield Finding("llama.cpp", "warn", f"{text}; the CPU's {', '.join(unused)} is not used", advice)
    else:
        yield Finding("llama.cpp", "ok", text)


def _built_as(flag: str) -> str:
    return {"avx512f": "AVX512"}.get(flag, flag.upper())


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def libraries(native: Mapping[str, Any]) -> Iterator[Finding]:
    """Which files of llama.cpp the engine uses; two copies in one process, or another one for the helper, are traps."""
    loaded = [Path(path) for path in native.get("loaded", []) if not Path(path).name.startswith("_native")]
    if loaded:
        folders = sorted({str(path.parent) for path in loaded})
        places = {(path.name.partition(".so")[0], path.parent) for path in loaded}
        names = [name for name, _ in places]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            text = f"{', '.join(twice)} loaded from several places: {', '.join(folders)}"
            yield Finding("libraries", "fail", text, "unset LD_LIBRARY_PATH and LD_PRELOAD, or set LLAMA_CPP_LIB_PATH")
        else:
            yield Finding("libraries", "ok", f"llama.cpp is loaded from {', '.join(folders)}")
    yield from _helper(loaded)
    yield from _search_path()


def _helper(loaded: list[Path]) -> Iterator[Finding]:
    """The helper is a program of its own and finds libllama by its run path."""
    path = extension_file()
    vet = path.with_name("agentmux-vet") if path else None
    if vet is None or not os.access(vet, os.X_OK) or sys.platform != "linux":
        return
    try:  # the dynamic loader lists what it would load, as ldd has it do, and does not run the program
        traced = subprocess.run(
            [vet], env={**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True, check=False
        ).stdout
    except OSError as error:
        yield Finding("run path", "fail", f"{vet} cannot be run: {error.strerror}", REINSTALL)
        return
    missing = re.findall(r"(\S+) => not found", traced)
    if missing:
        yield Finding("run path", "fail", f"{vet.name} does not find {', '.join(missing)}", REINSTALL)
        return
    uses = re.search(r"libllama\S* => (\S+)", traced)
    engines = next((library for library in loaded if library.name.startswith("libllama")), None)
    if uses and engines and not _same(Path(uses[1]), engines):
        text = f"model files are checked with {uses[1]}, but the engine runs {engines}"
        yield Finding("run path", "warn", text, f"build both against one llama.cpp: {REINSTALL}")


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _search_path() -> Iterator[Finding]:
    for name in ("LD_LIBRARY_PATH", "LD_PRELOAD"):
        for entry in filter(None, re.split(r"[:\s]", os.environ.get(name, ""))):
            path = Path(entry)
            mixes = path.name.startswith(("libllama", "libggml")) or (path.is_dir() and any(path.glob("libllama.so*")))
            if mixes and path != llama_folder():
                text = f"{name} has another llama.cpp, in {entry}"
                yield Finding("library path", "warn", text, f"take it out of {name}, or set LLAMA_CPP_LIB_PATH to it")
