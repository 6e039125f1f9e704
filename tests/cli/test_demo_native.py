"""``agentmux demo`` as users start it: a process of its own, the native engine, the bundled models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmux.agents.code_loop import DEFAULT_ROUNDS
from agentmux.models import bundled_models

AGENTMUX = (sys.executable, "-c", "from agentmux.cli.main import main; main()")
OWN = ("--task", "Return the sum of the even numbers in the list.", "--example", "f([1, 2, 4]) == 6")
SPAWN_S = 300.0


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two that compute wait long for each other where other tests compute, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTMUX_THREADS", "1")
        yield


def agentmux(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AGENTMUX, *arguments], capture_output=True, text=True, timeout=SPAWN_S, stdin=subprocess.DEVNULL, check=False
    )


def one_line_error(done: subprocess.CompletedProcess[str]) -> str:
    """The error's text; exit status 1, nothing on standard output but lines from before it, one line on stderr."""
    assert done.returncode == 1, done
    assert done.stderr.startswith("agentmux: error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("agentmux: error: ").strip()


@pytest.fixture(scope="module")
def built_in() -> subprocess.CompletedProcess[str]:
    return agentmux("demo", "--json")


def test_built_in_tasks_pass_in_two_fifths_of_the_models_size(built_in: subprocess.CompletedProcess[str]) -> None:
    assert built_in.returncode == 0, built_in.stderr
    assert built_in.stderr == ""
    document = json.loads(built_in.stdout)
    totals = document["totals"]
    sizes = sum(os.stat(spec.path).st_size for spec in bundled_models().values())
    assert totals["models_bytes"] == sizes
    assert totals["budget_bytes"] == int(0.4 * sizes)
    assert totals["arena_bytes"] <= totals["budget_bytes"]
    assert totals["tasks"] == len(document["tasks"]) == 12
    assert totals["passed"] == sum(task["passed"] for task in document["tasks"])
    assert totals["passed"] >= 0.6 * totals["tasks"]
    assert totals["switches"] > 0
    assert totals["bytes_paged"] > sizes, "every model was uploaded once, and some of it again"
    assert totals["tokens"] > 0
    for task in document["tasks"]:
        assert task["error"] is None
        assert 1 <= task["rounds"] <= DEFAULT_ROUNDS


def test_own_task(tmp_path: Path) -> None:
    done = agentmux("demo", *OWN)
    assert done.stderr == ""
    assert "[task 1 planner] " in done.stdout
    assert "[task 1 coder] def f(" in done.stdout
    assert "[task 1 examples] " in done.stdout
    assert done.returncode == (0 if "[task 1] passed" in done.stdout else 1)


def test_missing_file(tmp_path: Path) -> None:
    error = one_line_error(agentmux("demo", *OWN, "--models", f"coder={tmp_path}/none.gguf"))
    assert f"{tmp_path}/none.gguf" in error


def test_directory_as_model(tmp_path: Path) -> None:
    assert str(tmp_path) in one_line_error(agentmux("demo", *OWN, "--models", f"coder={tmp_path}"))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "header"])
def test_damaged_model(tmp_path: Path, damage: str) -> None:
    whole = Path(bundled_models()["coder"].path).read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "garbage": os.urandom(100_000),
            "empty": b"",
            "header": whole[:8] + b"\xff" * 16 + whole[24:],
        }[damage]
    )
    assert str(broken) in one_line_error(agentmux("demo", *OWN, "--models", f"coder={broken}"))


def test_budget_smaller_than_one_unit() -> None:
    one_line_error(agentmux("demo", *OWN, "--vram", "4KiB", "--device", "cpu"))


def test_prompt_longer_than_the_context() -> None:
    words = " ".join(f"word{number}" for number in range(10_000))
    error = one_line_error(agentmux("demo", "--task", words, "--example", "f(1) == 1"))
    assert "context" in error


def test_unknown_device() -> None:
    assert "no_such_device" in one_line_error(agentmux("demo", *OWN, "--device", "no_such_device"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that has begun to answer."""
    process = subprocess.Popen(
        [*AGENTMUX, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert any(line.startswith("[task ") for line in process.stdout)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signal_in_mid_run(
    running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, status: int, word: str
) -> None:
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == status
    assert err == f"agentmux: {word}\n"
    assert list(tmp_path.glob("agentmux-*")) == [], "scratch folders are gone"
    assert _sandboxes_of(running.pid) == []


def test_killed_in_mid_run_leaves_no_process(running: subprocess.Popen[str]) -> None:
    running.kill()
    running.communicate(timeout=60)
    end = time.monotonic() + 30
    while _sandboxes_of(running.pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_closed_standard_output_ends_it_quietly() -> None:
    process = subprocess.Popen(
        [*AGENTMUX, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=SPAWN_S) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_full_disk_under_standard_output() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*AGENTMUX, "demo", *OWN], stdout=full, stderr=subprocess.PIPE, text=True, timeout=SPAWN_S, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("agentmux: error: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def _sandboxes_of(parent: int) -> list[str]:
    """Running sandbox processes that this process started; they have its id on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(word.endswith("sandbox_child.py") for word in words) and str(parent) in words:
            found.append(path.parent.name)
    return found
