"""``agentmux doctor``: on a sound installation, and on broken ones, which is what it is for."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agentmux.cli.health import build, devices, machine
from agentmux.cli.health.finding import Finding
from tests.cli.processes import agentmux, environment

REQUIRED = {"Python", "agentmux", "llama-cpp-python", "engine", "llama.cpp", "libraries", "link", "memory", "swap"}
REQUIRED |= {"page-locking", "home", "bundled models", "sandbox"}


def doctor(status: int, **env: str) -> dict[str, Any]:
    """The findings by name."""
    done = agentmux("doctor", "--json", env=environment(**env))
    assert (done.returncode, done.stderr) == (status, ""), done
    document = json.loads(done.stdout)
    assert document["usable"] is (status == 0)
    assert all(set(found) == {"name", "status", "text", "advice"} for found in document["findings"])
    return {found["name"]: found for found in document["findings"]}


def test_sound_installation(tmp_path: Path) -> None:
    found = doctor(0, AGENTMUX_HOME=str(tmp_path / "home"))
    assert found.keys() >= REQUIRED
    assert "device CPU" in found
    assert {found[name]["status"] for name in ("Python", "engine", "llama-cpp-python", "bundled models")} == {"ok"}
    assert found["home"]["text"].startswith(f"{tmp_path / 'home'} (not there yet), ")
    assert not (tmp_path / "home").exists(), "a doctor changes nothing"


def test_lines_for_people(tmp_path: Path) -> None:
    done = agentmux("doctor", env=environment(AGENTMUX_HOME=str(tmp_path)))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "      ")) for line in lines)
    assert any(line.startswith("ok    engine            loads, ") for line in lines)
    assert all(" -> " in line for line in lines if line.startswith("      "))


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("llama_cpp", "raise OSError('libllama.so.0: cannot open')", "libllama.so.0: cannot open"),
        ("llama_cpp", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ],
)
def test_llama_cpp_that_does_not_load(tmp_path: Path, module: str, code: str, said: str) -> None:
    (tmp_path / f"{module}.py").write_text(code)
    found = doctor(1, PYTHONPATH=str(tmp_path))
    assert found["engine"]["status"] == "fail"
    assert said in found["engine"]["text"]
    assert "reinstall" in found["engine"]["advice"]
    assert found["devices"]["status"] == "fail"
    assert found["memory"]["status"] in ("ok", "warn"), "the other checks go on"


def test_extension_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "extension_file", lambda: None)
    (finding,) = build.extension({})
    assert (finding.status, "is not there" in finding.text) == ("fail", True)


@pytest.mark.parametrize(
    ("versions", "status", "said"),
    [
        ({"agentmux": "1", "llama-cpp-python": "0.0.1"}, "fail", "0.0.1, agentmux needs "),
        ({"agentmux": "1"}, "fail", "is not installed"),
    ],
)
def test_wrong_llama_cpp_python(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], status: str, said: str
) -> None:
    monkeypatch.setattr(build, "installed", versions.get)
    finding = list(build.versions())[1]
    assert finding.status == status
    assert said in finding.text
    assert finding.advice.startswith("pip install llama-cpp-python==")


def test_libraries_from_two_places() -> None:
    loaded = ["/a/libllama.so", "/a/libggml.so", "/a/libggml.so.0", "/b/libllama.so.0"]
    first = next(build.libraries({"loaded": loaded}))
    assert first.status == "fail"
    assert "libllama loaded from several places: /a, /b" in first.text
    assert next(build.libraries({"loaded": loaded[:3]})).status == "ok"


def test_library_path_with_another_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libllama.so.0").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/usr/lib:{tmp_path}")
    found = [finding for finding in build.libraries({}) if finding.name == "library path"]
    assert [finding.status for finding in found] == ["warn"]
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert not [finding for finding in build.libraries({}) if finding.name == "library path"]


def test_cpu_that_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_cpu_flags", lambda: {"avx2", "sse3"})
    (old,) = build.llama_build({"system_info": "CPU : SSE3 = 1 | AVX2 = 0 | "})
    assert (old.status, "avx2 is not used" in old.text, "GGML_NATIVE" in old.advice) == ("warn", True, True)
    (new,) = build.llama_build({"system_info": "CPU : SSE3 = 1 | AVX2 = 1 | "})
    assert new.status == "ok"


@pytest.mark.parametrize(
    ("vendors", "driver", "backends", "text", "advice"),
    [
        (set(), False, {"cpu"}, "none in this machine", ""),
        ({"0x10de"}, True, {"cpu"}, "built without CUDA", 'CMAKE_ARGS="-DGGML_CUDA=on" pip install --no-cache-dir'),
        ({"0x10de"}, True, {"cpu", "cuda"}, "CUDA finds no device", "nvidia-smi"),
        ({"0x10de"}, False, {"cpu"}, "no driver", "install NVIDIA's driver"),
        ({"0x1002"}, False, {"cpu"}, "an AMD GPU", "GGML_VULKAN"),
        ({"0x8086"}, False, {"cpu"}, "an Intel GPU", "GGML_VULKAN"),
        ({"0x8086"}, False, {"cpu", "vulkan"}, "finds no device", "vulkaninfo"),
    ],
)
def test_why_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, vendors: set[str], driver: bool, backends: set[str], text: str, advice: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    finding = devices.no_gpu(vendors, driver, backends)
    assert finding.status == "warn"
    assert text in finding.text
    assert advice in finding.advice


def test_gpus_that_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "unset CUDA_VISIBLE_DEVICES" in devices.no_gpu({"0x10de"}, True, {"cuda"}).advice


@pytest.mark.parametrize(("speed", "status"), [(25e9, "ok"), (1e9, "warn")])
def test_link_is_measured_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch, speed: float, status: str) -> None:
    monkeypatch.setattr(devices, "ask", lambda _: {"bytes_per_s": speed, "bytes": 7 * 2**20, "device": "CUDA0"})
    (finding,) = devices.link({"devices": [{"is_cpu": False}]})
    assert finding.status == status
    assert finding.text.startswith(f"{speed / 1e9:.1f} GB/s to CUDA0, measured with 7.0 MiB")


def kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    monkeypatch.setenv("AGENTMUX_HOME", str(folder))
    return {finding.name: finding for finding in machine.storage()}


def test_damaged_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.json").write_text("{")
    (tmp_path / "agentmux.toml").write_text("a = ")
    (tmp_path / "old.db").write_text("something else")
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("y" * 500,)] * 200)
    connection.close()
    assert {name for name, one in kept(tmp_path, monkeypatch).items() if one.status == "fail"} == {
        "models.json",
        "agentmux.toml",
        "old.db",
    }
    whole = (tmp_path / "journal.db").read_bytes()
    (tmp_path / "journal.db").write_bytes(whole[:4096] + b"\xff" * 8192 + whole[12288:])
    assert kept(tmp_path, monkeypatch)["journal.db"].status == "fail"


def test_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    found = kept(file / "home", monkeypatch)["home"]
    assert (found.status, "AGENTMUX_HOME" in found.advice) == ("fail", True)


def test_models_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coder.gguf").write_bytes(b"GGUF")
    (tmp_path / "critic.gguf").write_bytes(b"<html>")
    monkeypatch.setattr(machine, "bundled_folder", lambda: tmp_path)
    (finding,) = machine.bundled()
    assert finding.status == "warn"
    assert "planner, critic in" in finding.text


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"landlock": 4, "namespaces": ""}, "ok"),
        ({"landlock": 0, "namespaces": ""}, "warn"),
        ({"landlock": 4, "namespaces": "Operation not permitted"}, "warn"),
        ({"crash": "no"}, "warn"),
    ],
)
def test_sandbox(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], status: str) -> None:
    monkeypatch.setattr(machine, "ask", lambda _: answer)
    (finding,) = machine.sandbox()
    assert finding.status == status
