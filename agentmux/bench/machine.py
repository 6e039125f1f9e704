"""What a measurement was made on: without that its numbers say little."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Machine(BaseModel):
    """The computer. Texts are empty where it does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str = Field(description="model name of the first CPU")
    cores: int = Field(description="cores that this process may use")
    memory_bytes: int = Field(description="main memory; 0: unknown")
    device: str = Field(description="the ggml device that was measured")
    driver: str = Field(description="version line of the NVIDIA driver")
    system: str = Field(description="operating system and release")


class Versions(BaseModel):
    """The software."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agentmux: str
    llama_cpp_python: str
    llama_cpp: str = Field(description="version of the llama.cpp that is loaded")
    ggml: str = Field(description="version and commit of the ggml that is loaded")
    python: str


def this_machine(device: str) -> Machine:
    """The computer that this runs on, with the ggml device of that name."""
    return Machine(
        cpu=_field("/proc/cpuinfo", "model name") or platform.processor(),
        cores=usable_cores(),
        memory_bytes=1024 * int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]),
        device=device,
        driver=_field("/proc/driver/nvidia/version", "NVRM version"),
        system=f"{platform.system()} {platform.release()}",
    )


def these_versions(llama_cpp: str, ggml: str) -> Versions:
    """The software that this runs on; the loaded libraries' own versions are given."""
    return Versions(
        agentmux=_installed("agentmux"),
        llama_cpp_python=_installed("llama-cpp-python"),
        llama_cpp=llama_cpp,
        ggml=ggml,
        python=platform.python_version(),
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_cpu_s(pid: int) -> float:
    """CPU time that a process has had, all its threads. Raises OSError where there is no /proc, or no such process."""
    return _cpu_s(Path(f"/proc/{pid}/stat"))


def main_thread_cpu_s(pid: int) -> float:
    """CPU time that a process's first thread has had. Raises OSError as ``process_cpu_s`` does."""
    return _cpu_s(Path(f"/proc/{pid}/task/{pid}/stat"))


def _cpu_s(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _field(path: str, name: str) -> str:
    """The value of the first line ``name : value`` of a file of /proc; empty where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
