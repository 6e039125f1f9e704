"""The C++ core's own tests, built without Python, plain and under sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"

needs_tools = pytest.mark.skipif(
    not Path("/usr/include/doctest/doctest.h").exists() or not shutil.which("g++"),
    reason="needs g++ and doctest (Debian: doctest-dev)",
)


@needs_tools
@pytest.mark.parametrize("sanitizer", ["", "address,undefined", "thread"])
def test_core(sanitizer: str, tmp_path: Path) -> None:
    settings = [
        "-DAGENTMUX_BUILD_TESTS=ON",
        "-DAGENTMUX_BUILD_EXTENSION=OFF",
        f"-DAGENTMUX_SANITIZE={sanitizer}",
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
    ]
    cmake = [sys.executable, "-m", "cmake"]
    _run([*cmake, "-S", str(NATIVE), "-B", str(tmp_path), *settings])
    _run([*cmake, "--build", str(tmp_path), "--target", "core_tests", "-j", "2"])
    environment = os.environ | {"TSAN_OPTIONS": f"suppressions={NATIVE / 'tests' / 'tsan.supp'}"}
    _run([str(tmp_path / "tests" / "core_tests")], environment)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
