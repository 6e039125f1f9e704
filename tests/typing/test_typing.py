"""What users' type checkers say: nothing about right code, and about wrong code at exactly the marked lines.

A mark is ``# E: CODES | RULE``: mypy reports one of these codes there, and pyright (where it is installed) this rule.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "cases"
MARK = re.compile(r"# E: ([\w -]+) \| (\w+)$", re.MULTILINE)

Flagged = Mapping[int, set[str]]
"""[line] codes of what is reported there."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it is installed: an editable installation is a hook, which type checkers ignore."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "agentmux").mkdir()
    for part in (ROOT / "agentmux").iterdir():
        if part.name != "__pycache__":
            (folder / "agentmux" / part.name).symlink_to(part)
    (folder / "agentmux" / "agents").symlink_to(ROOT / "agents")
    return folder


def mypy(package: Path, case: Path) -> Flagged:
    options = ["--strict", "--config-file=", "--cache-dir", str(package / "cache"), "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--show-error-codes", str(case)],
        env={"MYPYPATH": str(package), "PATH": ""},
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    flagged: dict[int, set[str]] = {}
    for line in done.stdout.splitlines():
        if found := re.search(rf"{case.name}:(\d+): error: .*\[([\w-]+)\]$", line):
            flagged.setdefault(int(found[1]), set()).add(found[2])
        else:
            assert ": note: " in line, line
    return flagged


def pyright(package: Path, case: Path) -> Flagged:
    shutil.copy(case, package)  # it looks at nothing outside of its project
    settings = {"include": [case.name], "typeCheckingMode": "standard"}
    (package / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        ["pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(package)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    flagged: dict[int, set[str]] = {}
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            flagged.setdefault(one["range"]["start"]["line"] + 1, set()).add(one["rule"])
    return flagged


def marks(case: Path) -> dict[int, tuple[set[str], str]]:
    """[line] codes of mypy, one of which is expected, and the rule of pyright."""
    found = {}
    for number, line in enumerate(case.read_text().splitlines(), start=1):
        if mark := MARK.search(line):
            found[number] = (set(mark[1].split()), mark[2])
    return found


def test_mypy_accepts_right_code(package: Path) -> None:
    assert mypy(package, CASES / "right.py") == {}


def test_mypy_flags_wrong_code_where_it_is_wrong(package: Path) -> None:
    flagged, expected = mypy(package, CASES / "wrong.py"), marks(CASES / "wrong.py")
    assert len(expected) >= 15
    assert sorted(flagged) == sorted(expected)
    for line, (codes, _) in expected.items():
        assert flagged[line] & codes, f"line {line}: {flagged[line]}, not {codes}"


needs_pyright = pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")


@needs_pyright
def test_pyright_accepts_right_code(package: Path) -> None:
    assert pyright(package, CASES / "right.py") == {}


@needs_pyright
def test_pyright_flags_wrong_code_where_it_is_wrong(package: Path) -> None:
    flagged, expected = pyright(package, CASES / "wrong.py"), marks(CASES / "wrong.py")
    assert sorted(flagged) == sorted(expected)
    for line, (_, rule) in expected.items():
        assert rule in flagged[line], f"line {line}: {flagged[line]}, not {rule}"
