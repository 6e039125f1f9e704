"""The pytest plugin, in projects of its users' kind: what its fixtures give, and that it is not in anybody's way."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLUGIN = "agentmux.testing.agentmux_pytest"


def run(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    """Run a file of tests in a process of its own, with warnings as errors and strict markers."""
    pytester.makepyfile(code)
    # The exception is for editable installations, see pyproject.toml.
    warnings = ("-W", "error", "-W", "ignore:Module already imported so cannot be rewritten")
    strict = ("--strict-markers", "--strict-config", "-p", "no:cacheprovider")
    scope = ("-o", "asyncio_default_fixture_loop_scope=function")
    # As if installed, also where the entry point is not there yet.
    return pytester.runpytest_subprocess("-p", "no:agentmux", "-p", PLUGIN, *warnings, *strict, *scope)


FINE = """
import asyncio, os, pytest
from agentmux import Agent, EngineError, Runtime

class Coder(Agent):
    model = "coder"

@pytest.mark.asyncio
async def test_scripted(scripted):
    engine, mux = scripted({"coder": ["code"]}, queue_limit=3)
    async with mux:
        assert (await mux.run(Coder, "task")).output == "code"
    assert engine.calls[0].model == "coder"
    assert mux.config.queue_limit == 3

def test_not_strict(scripted):
    scripted({"coder": ["code"]}, strict=False)

def test_clock(fake_clock):
    fake_clock.advance(3)
    assert fake_clock.now() == 3

def test_home(agentmux_home, tmp_path):
    assert os.environ["AGENTMUX_HOME"] == str(agentmux_home)
    assert agentmux_home.is_dir() and agentmux_home.parent == tmp_path

def test_home_is_gone():
    assert os.environ["AGENTMUX_HOME"] == "before"

async def enter():
    async with Runtime(models={"m": "missing.gguf"}, device="cpu"):
        pass

def test_forbidden():
    with pytest.raises(EngineError, match="test_forbidden asked for a real engine"):
        asyncio.run(enter())

@pytest.mark.agentmux_real_engines
def test_allowed():
    assert "AGENTMUX_REAL_ENGINES" not in os.environ

def test_forbidden_again():
    assert os.environ["AGENTMUX_REAL_ENGINES"] == "0"
"""


def test_what_the_fixtures_and_the_switch_do(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMUX_HOME", "before")
    pytester.makeini("[pytest]\nagentmux_real_engines = forbid")
    run(pytester, FINE).assert_outcomes(passed=8)


WRONG = """
import os, pytest
from agentmux import Agent

class Coder(Agent):
    model = "coder"

@pytest.mark.asyncio
async def test_left_over(scripted):
    _, mux = scripted({"coder": ["code", "more"]})
    async with mux:
        await mux.run(Coder, "task")

def test_never_entered(scripted):
    scripted({"coder": ["code"]})

def test_failed_already(scripted):
    scripted({"coder": ["code"]})
    assert False

def test_allowed_unless_forbidden():
    assert "AGENTMUX_REAL_ENGINES" not in os.environ
"""


def test_scripts_that_are_not_used_up_are_errors(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG)
    # test_left_over fails; test_never_entered passes, then its fixture complains; test_failed_already only fails.
    result.assert_outcomes(passed=2, failed=2, errors=1)
    result.stdout.fnmatch_lines(["*steps that no turn asked for: {'coder': 1}*"])


def test_a_setting_that_makes_no_sense(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nagentmux_real_engines = never")
    result = run(pytester, "def test_it(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*agentmux_real_engines = 'never' makes no sense; it is allow or forbid*"])


def test_projects_that_do_not_use_it_load_nothing_of_agentmux() -> None:
    code = f"""
import importlib.util, sys
path = {str(ROOT / "agentmux/testing/agentmux_pytest/__init__.py")!r}
spec = importlib.util.spec_from_file_location("agentmux_pytest", path)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print([name for name in sys.modules if name.split(".")[0] in ("agentmux", "pydantic", "structlog")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_it_is_installed_as_a_package_of_its_own() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["entry-points"]["pytest11"] == {"agentmux": "agentmux_pytest"}
    included = settings["tool"]["scikit-build"]["wheel"]["force-include"]
    assert included[PLUGIN.replace(".", "/")] == "${SKBUILD_PLATLIB_DIR}/agentmux_pytest"
