"""Kill -9, several processes at once, forks, full and read-only disks: with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentmux.journal import Journal

from .steps import begin


def done(*arguments: object) -> None:
    script = Path(__file__).with_name("processes.py")
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_no_step_is_lost_or_done_twice(tmp_path: Path, seed: int) -> None:
    done("killed_again_and_again", tmp_path / "j.db", seed)
    with Journal.open(tmp_path / "j.db") as journal:
        shown = journal.show("run")
    assert shown.summary.status == "finished"
    assert len(shown.turns) == 40
    assert len([tool for tool in shown.tools if tool.state == "returned"]) == 20
    assert {tool.state for tool in shown.tools} <= {"returned", "run again"}


def test_a_forked_child_does_not_keep_a_run_alive(tmp_path: Path) -> None:
    done("left_behind", tmp_path / "j.db")


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    done("side_by_side", tmp_path / "new" / "j.db")


def test_one_of_several_that_resume_gets_the_run(tmp_path: Path) -> None:
    done("raced", tmp_path / "j.db")


def test_a_full_disk_fails_the_step_and_nothing_else(tmp_path: Path) -> None:
    done("full", tmp_path / "j.db")


def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    with Journal.open(folder / "j.db") as journal:
        begin(journal).end("finished", "1", None)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    parent = folder.parent
    while os.getuid() == 0 and parent != parent.parent and not parent.stat().st_mode & 0o001:
        parent.chmod(parent.stat().st_mode | 0o011)  # another user has to get there
        parent = parent.parent
    done("read_only", folder / "j.db")
    folder.chmod(0o755)
