"""Loads the native libraries and says what they are, as JSON on standard output. Run in a process of its own, because a
broken library may end the process that loads it: ``python -m agentmux.cli.health.probe [link]``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_LANDLOCK_CREATE, _LANDLOCK_VERSION = 444, 1


def probe() -> dict[str, Any]:
    """Everything, each part as far as it goes; ``*_error`` says why one does not."""
    found: dict[str, Any] = {}
    try:
        import llama_cpp
        from llama_cpp import _ggml

        found["llama_cpp_python"] = llama_cpp.__version__
        found["system_info"] = llama_cpp.llama_print_system_info().decode()
        found |= ggml(ctypes.CDLL(_ggml.libggml._name))
    except Exception as error:
        found["llama_error"] = f"{type(error).__name__}: {error}"
    try:
        import agentmux.engine.native  # noqa: F401
    except Exception as error:
        found["engine_error"] = f"{type(error).__name__}: {error}"
    found["loaded"] = loaded_libraries()
    return found


def ggml(library: ctypes.CDLL) -> dict[str, Any]:
    """Version, commit and devices of the ggml that is loaded."""
    found: dict[str, Any] = {"devices": list(_devices(library))}
    for name in ("version", "commit"):
        with contextlib.suppress(AttributeError):
            function = getattr(library, f"ggml_{name}")
            function.restype = ctypes.c_char_p
            found[f"ggml_{name}"] = function().decode()
    return found


def _devices(library: ctypes.CDLL) -> Iterator[dict[str, Any]]:
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    for name in ("name", "description"):
        getattr(library, f"ggml_backend_dev_{name}").restype = ctypes.c_char_p
        getattr(library, f"ggml_backend_dev_{name}").argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_pointer, size_pointer]
    for index in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        yield {
            "name": library.ggml_backend_dev_name(device).decode(),
            "description": library.ggml_backend_dev_description(device).decode(),
            "is_cpu": library.ggml_backend_dev_type(device) == 0,
            "free_bytes": free.value,
            "total_bytes": total.value,
        }


def loaded_libraries() -> list[str]:
    """Files of llama.cpp and of the extension that this process has mapped."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return sorted(path for path in paths if Path(path).name.startswith(("libllama", "libggml", "_native")))


def link() -> dict[str, Any]:
    """Bytes per second from host to device, as the engine sees them: it uploads a bundled model and asks it once."""
    from agentmux.engine.base import EngineConfig, LoadSpec, TurnFailed, TurnFinished, TurnRequest
    from agentmux.engine.native import NativeEngine
    from agentmux.models import bundled_models

    engine = NativeEngine(EngineConfig())
    try:
        engine.load(LoadSpec("coder", str(bundled_models()["coder"].path), context_tokens=256))
        engine.submit(TurnRequest(1, "coder", "x", max_tokens=1))
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if any(isinstance(event, TurnFinished | TurnFailed) for event in engine.poll()):
                break
            time.sleep(0.001)
        stats = engine.stats()
        return {"bytes_per_s": stats.upload_bytes_per_s, "bytes": stats.uploaded_bytes, "device": stats.device}
    finally:
        engine.close()


def sandbox() -> dict[str, Any]:
    """What the kernel lets this user do: namespaces (this process is in new ones afterwards), Landlock's version."""
    libc = ctypes.CDLL(None, use_errno=True)
    landlock = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION))
    flags = _CLONE_NEWPID | _CLONE_NEWNET | (_CLONE_NEWUSER if os.geteuid() else 0)
    refused = libc.unshare(flags) != 0
    return {"landlock": max(0, landlock), "namespaces": "" if not refused else os.strerror(ctypes.get_errno())}


if __name__ == "__main__":
    wanted = {"link": link, "sandbox": sandbox}.get(sys.argv[1] if len(sys.argv) > 1 else "", probe)
    print(json.dumps(wanted()))
