"""What users install: a plain wheel, elsewhere; against another llama.cpp; with another llama-cpp-python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path

import pytest

from agentmux.engine import native
from agentmux.engine.base import EngineConfig
from agentmux.errors import EngineError

ROOT = Path(__file__).parents[2]
SITE = Path(sysconfig.get_path("platlib"))
LLAMA = Path(native.llama_cpp.__file__).parent

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")

USE_IT = """
import select
from importlib.resources import files

import agentmux
from agentmux.engine.base import EngineConfig, LoadSpec, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine

engine = NativeEngine(EngineConfig(device="cpu", device_bytes=2_000_000))
engine.load(LoadSpec("m", str(files("agentmux.agents") / "models" / "planner.gguf"), context_tokens=256))
engine.submit(TurnRequest(1, "m", "Return the sum.", max_tokens=4))
events = []
while not events or not isinstance(events[-1], TurnFinished):
    assert select.select([engine.fileno()], [], [], 60)[0]
    events += engine.poll()
engine.close()
maps = open("/proc/self/maps").read().split()
print(agentmux.__file__, len(events[-1].tokens), len({name for name in maps if "libllama" in name}))
"""


def call(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    """Standard output; the test fails with all that was said if the command does."""
    run = list(map(str, command))
    done = subprocess.run(
        run, cwd=cwd, env=os.environ | environ, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("version", ["0.3.35", "0.4.0"])
def test_another_llama_cpp_python_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.llama_cpp, "__version__", version)
    wanted = native.LLAMA_CPP_PYTHON_VERSION
    with pytest.raises(EngineError, match=rf"{version} is installed.* built for {wanted}: pip install .*=={wanted}"):
        native.NativeEngine(EngineConfig(device="cpu"))


def environment_beside_this_one(folder: Path) -> Path:
    """A new environment's Python: it has what this one has, agentmux excepted.

    Links rather than a path to here, because the extension looks for llama.cpp beside itself.
    """
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())
    for entry in SITE.iterdir():
        own = "agentmux" in entry.name or entry.suffix == ".pth" or entry.name == "__pycache__"
        if not own and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    return python


@needs_compiler
def test_a_plain_wheel_works_elsewhere(tmp_path: Path) -> None:
    build = ("--no-deps", "--no-build-isolation", f"--config-settings=build-dir={tmp_path / 'build'}")
    call(sys.executable, "-m", "pip", "wheel", ".", *build, "-w", tmp_path, CMAKE_BUILD_PARALLEL_LEVEL="2")
    (wheel,) = tmp_path.glob("agentmux-*.whl")
    python = environment_beside_this_one(tmp_path / "env")
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    package, n_tokens, n_copies = call(python, "-c", USE_IT, cwd=tmp_path).split()
    assert Path(package).is_relative_to(tmp_path / "env")
    assert (n_tokens, n_copies) == ("4", "1")
    assert "agentmux" in call(tmp_path / "env" / "bin" / "agentmux", "--version", cwd=tmp_path)


def test_an_editable_installation_makes_nothing_importable_but_the_repository(tmp_path: Path) -> None:
    """Not the folder above it: whatever lies there could be imported, as a namespace package at least."""
    python = environment_beside_this_one(tmp_path / "env")
    settings = ("--config-settings=wheel.cmake=false", f"--config-settings=build-dir={tmp_path / 'build'}")
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-build-isolation")
    call(*install, *settings, "-e", ".")
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())
    added = [line for file in site.glob("*.pth") for line in file.read_text().split("\n") if line.startswith("/")]
    assert added == [str(ROOT)]
    show = "import agentmux.agents.tasks, agentmux_pytest; from agentmux.models import bundled_models\n"
    show += "print(agentmux.agents.tasks.__file__, agentmux_pytest.__file__, bundled_models()['coder'].path)"
    found = call(python, "-c", show, cwd=tmp_path).split()
    places = ("agents/tasks.py", "agentmux/testing/agentmux_pytest/__init__.py", "agents/models/coder.gguf")
    assert found == [str(ROOT / place) for place in places], "each is where it is edited"


@needs_compiler
def test_another_llama_prefix_can_be_built_against(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    (prefix / "include").symlink_to(LLAMA.parent / "include")
    (prefix / "lib").symlink_to(LLAMA / "lib")
    cmake, build = (sys.executable, "-m", "cmake"), tmp_path / "build"
    # Debug: half the time to compile. The environment variable, because that is what README names.
    options = ("-DAGENTMUX_BUILD_EXTENSION=OFF", "-DCMAKE_BUILD_TYPE=Debug")
    configured = call(*cmake, "-S", ROOT / "native", "-B", build, *options, AGENTMUX_LLAMA_ROOT=str(prefix))
    assert f"llama.cpp: {prefix}/lib" in configured
    call(*cmake, "--build", build, "--target", "agentmux-vet", "-j", "2")
    loaded = call(build / "agentmux-vet", LD_TRACE_LOADED_OBJECTS="1")  # what ldd does
    assert f"{prefix}/lib/libllama.so" in loaded
    call(build / "agentmux-vet", str(files("agentmux.agents") / "models" / "planner.gguf"))
