"""The native engine passes the checks that any engine must pass, and maps one copy of llama.cpp."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files

import pytest

from agentmux.engine.base import Engine, EngineConfig, LoadSpec
from agentmux.engine.native import NativeEngine
from agentmux.testing.conformance import CHECKS

MODEL = str(files("agentmux.agents") / "models" / "critic.gguf")
ARENA_BYTES = 2_000_000
"""Less than the model, so that it is paged throughout."""

ONE_COPY = """
from agentmux.engine.native import NativeEngine
from agentmux.engine.base import EngineConfig
NativeEngine(EngineConfig(device="cpu")).close()
names = {line.split()[-1] for line in open("/proc/self/maps") if "libllama" in line or "libggml" in line}
for part in ("libllama.so", "libggml-base.so", "libggml-cpu.so"):
    mapped = [name for name in names if part in name]
    assert len(mapped) == 1, mapped
"""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_native_engine(check: Callable[[Callable[[], Engine], LoadSpec], None]) -> None:
    config = EngineConfig(device="cpu", device_bytes=ARENA_BYTES, threads=2, debug_poison=True)
    check(lambda: NativeEngine(config), LoadSpec("tiny", MODEL, context_tokens=256))


def test_one_copy_of_llama_cpp_is_mapped() -> None:
    subprocess.run([sys.executable, "-c", ONE_COPY], check=True, timeout=60)
