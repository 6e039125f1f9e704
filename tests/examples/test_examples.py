"""Every example runs as its users run it, is short, and says what its docstring promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def test_examples_are_found() -> None:
    assert [path.name[:2] for path in EXAMPLES] == [f"0{number}" for number in range(1, 8)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_at_most_fifty_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 50


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMUX_HOME", str(tmp_path))
    monkeypatch.setenv("AGENTMUX_THREADS", "1")


def run(name: str, *arguments: str) -> str:
    (path,) = [path for path in EXAMPLES if path.name == name]
    command = [sys.executable, str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_hello_prints_a_numbered_plan() -> None:
    lines = run("01_hello.py").splitlines()
    assert lines[0].startswith("1. ")
    assert lines[-1].endswith(" tokens generated")


def test_structured_output_prints_a_plan_of_the_type() -> None:
    assert json.loads(run("02_structured_output.py"))["steps"]


def test_the_tool_is_called_and_judged() -> None:
    called, verdict = run("03_tools.py").splitlines()
    assert called == "run_tests: ok f([1, 2]) == 3"
    assert verdict


def test_parallel_agents_share_two_models() -> None:
    lines = run("04_parallel_agents.py").splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("# 6 turns, ")


def test_pipeline_writes_three_functions_and_pages() -> None:
    *code, last = run("05_custom_pipeline.py").splitlines()
    functions = "\n".join(code).split("\n\n")
    assert len([text for text in functions if "def f(" in text]) == 3
    switches, bytes_paged = [int(number) for number in re.findall(r"\d+", last)]
    assert switches > 0
    assert bytes_paged > 0


def test_a_killed_run_is_resumed_to_the_same_plans() -> None:
    _, *computed, first, second = run("06_resume.py").splitlines()
    assert computed == ["  turn computed"] * 2
    command = [sys.executable, str(next(path for path in EXAMPLES if path.name == "06_resume.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().split()[1]
        assert process.stdout.readline() == "  turn computed\n"
        process.kill()
    lines = run("06_resume.py", run_id).splitlines()
    assert lines[1] == "  turn from the journal"
    assert lines[-2:] == [first, second]


def test_own_models_say_what_their_turns_took() -> None:
    _, writer, editor = run("07_own_models.py").splitlines()
    assert writer.startswith("writer: first token after ")
    assert editor.startswith("editor: first token after ")
