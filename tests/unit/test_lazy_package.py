"""``import agentmux`` loads nothing that is not asked for, and everything that it offers is there all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import agentmux


def printed(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_loads_next_to_nothing() -> None:
    code = "import sys, agentmux; print({'pydantic', 'asyncio', 'structlog'} & sys.modules.keys())"
    assert printed(code) == ["set()"]


@pytest.mark.parametrize(
    "first", ["import agentmux.pipeline", "import agentmux.agents", "from agentmux import Agent", "pass"]
)
def test_pipeline_is_the_function_whatever_was_imported_before(first: str) -> None:
    assert printed(f"{first}\nfrom agentmux import pipeline\nprint(type(pipeline).__name__)") == ["function"]


MODULES = sorted(path.stem for path in Path(agentmux.__file__).parent.glob("*.py") if path.stem != "__init__")


def test_any_module_may_be_the_first() -> None:
    code = """
import importlib, sys
for name in {names!r}:
    importlib.import_module("agentmux." + name)
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "agentmux"]:
        del sys.modules[loaded]
"""
    assert printed(code.format(names=MODULES)) == []


def test_star_import_and_dir_have_all_names() -> None:
    names: dict[str, object] = {}
    exec("from agentmux import *", names)
    assert set(agentmux.__all__) <= names.keys()
    assert set(agentmux.__all__) <= set(dir(agentmux))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
        agentmux.Nope  # type: ignore[attr-defined]  # noqa: B018
