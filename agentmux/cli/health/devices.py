"""The devices that ggml can compute on, and the way to them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentmux.cli.health.child import ask
from agentmux.cli.health.finding import Finding
from agentmux.cli.summary import size_text
from agentmux.cli.versions import installed, llama_folder

_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
_DISPLAY_CLASS = "0x03"


def devices(native: Mapping[str, Any]) -> Iterator[Finding]:
    """A line a device, and where there is no GPU, why."""
    found = native.get("devices")
    if found is None:
        yield Finding("devices", "fail", "unknown, because llama.cpp cannot be loaded", "mend that first")
        return
    for device in found:
        memory = f"{size_text(device['free_bytes'])} free of {size_text(device['total_bytes'])}"
        yield Finding(f"device {device['name']}", "ok", f"{device['description'].strip()}, {memory}")
    if all(device["is_cpu"] for device in found):
        yield no_gpu(gpus_of_the_machine(), _has_nvidia_driver(), _backends())


def no_gpu(vendors: set[str], nvidia_driver: bool, backends: set[str]) -> Finding:
    """Why ggml has no GPU, from the PCI vendors of the machine's GPUs, its driver, and the backends that are built."""
    package = f"llama-cpp-python=={installed('llama-cpp-python') or '0.3.36'}"
    build = 'CMAKE_ARGS="-D{}=on" pip install --no-cache-dir --force-reinstall ' + package
    if "cuda" in backends and os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Finding("GPU", "warn", "CUDA_VISIBLE_DEVICES hides all of them", "unset CUDA_VISIBLE_DEVICES")
    if nvidia_driver and "cuda" not in backends:
        text = "the NVIDIA driver is there, but llama.cpp is built without CUDA"
        return Finding("GPU", "warn", text, "with the CUDA toolkit installed: " + build.format("GGML_CUDA"))
    if nvidia_driver:
        text = "llama.cpp is built with CUDA, and the NVIDIA driver is there, but CUDA finds no device"
        return Finding("GPU", "warn", text, "see whether nvidia-smi works; the driver may be too old for this CUDA")
    if _NVIDIA in vendors:
        return Finding("GPU", "warn", "there is an NVIDIA GPU, but no driver for it", "install NVIDIA's driver")
    if _AMD in vendors and not backends & {"hip", "vulkan"}:
        text = "there is an AMD GPU, but llama.cpp is built for the CPU only"
        return Finding("GPU", "warn", text, build.format("GGML_VULKAN") + " (or GGML_HIP, with ROCm installed)")
    if _INTEL in vendors and "vulkan" not in backends:
        text = "there is an Intel GPU, but llama.cpp is built for the CPU only"
        return Finding("GPU", "warn", text, build.format("GGML_VULKAN"))
    if vendors & {_AMD, _INTEL}:
        return Finding("GPU", "warn", "llama.cpp finds no device", "see whether vulkaninfo or rocminfo finds one")
    return Finding("GPU", "warn", "none in this machine: models are computed by the CPU, which saves no memory")


def gpus_of_the_machine() -> set[str]:
    """PCI vendors of display controllers."""
    vendors = set()
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            if (device / "class").read_text().startswith(_DISPLAY_CLASS):
                vendors.add((device / "vendor").read_text().strip())
        except OSError:
            continue
    return vendors


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _backends() -> set[str]:
    """Names of ggml's backends that are installed as libraries, such as ``cpu`` and ``cuda``."""
    folder = llama_folder()
    if folder is None or not folder.is_dir():
        return set()
    return {path.name.removeprefix("libggml-").partition(".")[0] for path in folder.glob("libggml-*")} - {"base"}


def link(native: Mapping[str, Any]) -> Iterator[Finding]:
    """How fast weights get to the device, measured with a bundled model."""
    if all(device["is_cpu"] for device in native.get("devices", [])):
        yield Finding("link", "ok", "not measured: on the CPU nothing has to be uploaded")
        return
    measured = ask("link")
    if "crash" in measured or not measured.get("bytes_per_s"):
        yield Finding("link", "warn", f"not measured: {measured.get('crash', 'nothing was uploaded')}")
        return
    speed, size = measured["bytes_per_s"] / 1e9, size_text(measured["bytes"])
    text = f"{speed:.1f} GB/s to {measured['device']}, measured with {size}"
    if speed < 3:
        advice = "is the card in a slot with few lanes (lspci -vv: LnkSta), or its memory not page-locked?"
        yield Finding("link", "warn", f"{text}: switches between models will take long", advice)
    else:
        yield Finding("link", "ok", text)
