"""Every example runs as its users run it, is short, and says what its docstring promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def test_examples_are_found() -> None:
    assert [path.name for path in EXAMPLES] == ["01_hello.py", "02_pipeline.py"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_at_most_fifty_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 50


def run(name: str) -> str:
    (path,) = [path for path in EXAMPLES if path.name == name]
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_hello_prints_a_numbered_plan() -> None:
    lines = run("01_hello.py").splitlines()
    assert lines[0].startswith("1. ")
    assert lines[-1].endswith(" tokens generated")


def test_pipeline_writes_three_functions_and_pages() -> None:
    *code, last = run("02_pipeline.py").splitlines()
    functions = "\n".join(code).split("\n\n")
    assert len([text for text in functions if "def f(" in text]) == 3
    switches, bytes_paged = [int(number) for number in re.findall(r"\d+", last)]
    assert switches > 0
    assert bytes_paged > 0
