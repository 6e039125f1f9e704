"""What all commands share: loading only what is needed, one-line errors, early Ctrl-C, logs, versions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from agentmux.cli.command import COMMANDS
from agentmux.cli.main import run
from tests.cli.processes import AGENTMUX, agentmux, environment, one_line


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_where_the_table_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(getattr(import_module(COMMANDS[name][0]), name), click.Command)
    assert run([name, "--help"]) == 0
    assert "--debug" in capsys.readouterr().out or isinstance(
        getattr(import_module(COMMANDS[name][0]), name), click.Group
    )


@pytest.mark.parametrize(("arguments", "loaded"), [(["--help"], False), (["--version"], False), (["demo", "-h"], True)])
def test_help_loads_only_what_it_needs(arguments: list[str], loaded: bool) -> None:
    code = f"""
import sys
from agentmux.cli.main import run
run({arguments!r})
print(sorted({{"agentmux.cli.demo", "pydantic", "llama_cpp"}} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ("['agentmux.cli.demo', 'pydantic']" if loaded else "[]")


def test_version_names_llama_cpp_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    out = capsys.readouterr().out
    own, python = version("agentmux"), version("llama-cpp-python")
    assert re.fullmatch(rf"agentmux {own} \(llama\.cpp \d+\.\d+\.\d+, llama-cpp-python {python}\)\n", out), out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dmeo"], "No such command 'dmeo'. Did you mean 'demo'?"),
        (["xyzzy"], "No such command 'xyzzy'. There are: demo, run,"),
        (["demo", "--rouns", "3"], "No such option"),
        (["demo", "--log-level", "loud"], "'loud' is not one of"),
    ],
)
def test_nonsense_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentmux: error: ")
    assert err.count("\n") == 1
    assert said in err


def test_no_command_is_help_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(f"\n  {name} " in err for name in COMMANDS)


@pytest.mark.parametrize("module", ["click", "structlog", "pydantic", "rich"])
def test_ctrl_c_while_modules_are_loaded(tmp_path: Path, module: str) -> None:
    fake = f"import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('{module} went on')"
    (tmp_path / f"{module}.py").write_text(fake)
    done = agentmux("demo", "--json", env=environment(PYTHONPATH=str(tmp_path)))
    assert done.returncode == 130
    assert done.stderr == "agentmux: interrupted\n"


def test_ctrl_c_that_is_ignored_stays_so(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(7)")
    code = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{AGENTMUX[2]}"
    env = environment(PYTHONPATH=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", code, "demo"], env=env, check=False).returncode == 7


def test_debug_and_logs_go_to_standard_error() -> None:
    done = agentmux("run", "nowhere:thing", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("agentmux: error: no module named 'nowhere'")


def test_logs_are_json_lines_where_no_terminal_is(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import structlog\nfrom agentmux import Run, pipeline\n"
        "@pipeline\nasync def f(ctx: Run) -> int:\n"
        "    structlog.get_logger().info('seen', n=1)\n    structlog.get_logger().debug('unseen')\n    return 1\n"
    )
    done = agentmux("run", "mine.py", "--log-level", "info", cwd=tmp_path)
    assert done.stdout == "1\n"
    (line,) = done.stderr.splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["n"], logged["level"]) == ("seen", 1, "info")
    assert agentmux("run", "mine.py", cwd=tmp_path).stderr == ""


def test_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "many.py").write_text(
        "from agentmux import Run, pipeline\n@pipeline\nasync def f(ctx: Run) -> str:\n    return 'x\\n' * 1000000\n"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*AGENTMUX, "run", "many.py"],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""


def test_directory_of_the_caller_is_looked_at_first(tmp_path: Path) -> None:
    assert "no module named 'mine'" in one_line(agentmux("run", "mine:f", cwd=tmp_path), 2)
