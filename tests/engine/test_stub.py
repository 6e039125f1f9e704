"""The committed stub of the extension is what nanobind makes of it, order of imports and layout aside."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from agentmux.engine import _native, base

stubgen = pytest.importorskip("nanobind.stubgen", reason="nanobind makes the stub")


def _statements(source: str) -> list[str]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = inspect.cleandoc(node.value)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    rest = [node for node in tree.body if node not in imports]
    return sorted(ast.dump(node) for node in imports) + [ast.dump(node) for node in rest]


def test_the_stub_is_up_to_date() -> None:
    generator = stubgen.StubGen(_native)
    generator.put(_native)
    committed = Path(base.__file__).with_name("_native.pyi").read_text()
    assert _statements(committed) == _statements(generator.get()), "the extension changed: make its stub again"
