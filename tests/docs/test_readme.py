"""What README says is so: its Python blocks run, its two commands are the ones that are promised, its links lead on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentmux.models import bundled_models

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code.strip() for language, code in BLOCKS if language == "sh"]


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_block_runs(code: str, tmp_path: Path) -> None:
    models = bundled_models()
    (tmp_path / "writer.gguf").symlink_to(models["planner"].path)
    (tmp_path / "editor.gguf").symlink_to(models["coder"].path)
    program = tmp_path / "block.py"
    program.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.strip()


def test_blocks_are_found() -> None:
    assert len(PYTHON) == 3
    assert sum(1 for line in PYTHON[0].splitlines() if line.strip()) <= 20


def test_the_two_commands_are_there_to_be_copied() -> None:
    assert "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/agentmux demo" in SHELL
    assert ".venv/bin/pip install -e '.[test]' && .venv/bin/pytest" in SHELL


@pytest.mark.parametrize(
    "target", sorted({*re.findall(r"\]\(([^)#:]+)\)", README), *re.findall(r'src="([^"]+)"', README)})
)
def test_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()
