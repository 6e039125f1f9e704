"""The rules of the house: layers, sizes, no shared state, and an import that costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "agentmux").rglob("*.py"), *(ROOT / "agents").rglob("*.py")])
INSTALLED = [path for path in SOURCES if "training" not in path.relative_to(ROOT).parts]
"""Without the scripts that made the demonstration models."""
FILE_LINES = 400
FUNCTION_LINES = 50


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_layers() -> None:
    # In a process of its own: import-linter imports the package it looks at in its own way.
    run = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_fit_on_a_screen(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES, f"{name_of(path)} has more than {FILE_LINES} lines: it has two jobs"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = code_lines(node)
            assert lines <= FUNCTION_LINES, f"{name_of(path)}:{node.lineno} {node.name} has {lines} lines"


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which may be as long as it has to be."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", INSTALLED, ids=name_of)
def test_no_module_level_mutable_state(path: Path) -> None:
    problems = [f"{name_of(path)}:{line} {what}" for line, what in mutable_state(ast.parse(path.read_text()))]
    assert not problems


STATEFUL = frozenset(
    {"deque", "defaultdict", "Counter", "Event", "Lock", "RLock", "count", "cycle", "local", "ContextVar"}
)
CHANGES = frozenset({"append", "add", "update", "pop", "clear", "setdefault", "extend", "insert", "remove", "discard"})


def mutable_state(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Module-level things that are made to change, caches, and collections that the module itself changes."""
    assigned = [statement for statement in module.body if isinstance(statement, ast.Assign | ast.AnnAssign)]
    functions = [statement for statement in module.body if isinstance(statement, ast.FunctionDef)]
    names: set[str] = set()
    for statement in assigned:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(statement.value, ast.Call) and called(statement.value) in STATEFUL:
            yield statement.lineno, ast.unparse(statement)
    for function in functions:
        if any("cache" in ast.unparse(decorator) for decorator in function.decorator_list):
            yield function.lineno, f"{function.name} keeps a cache"
    for node in ast.walk(module):
        if isinstance(node, ast.Global) or changes(node, names):
            yield node.lineno, ast.unparse(node)  # type: ignore[attr-defined]


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def changes(node: ast.AST, names: set[str]) -> bool:
    """Whether ``node`` changes one of these collections in place."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        owner: ast.expr = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
        owner = node.func.value
    else:
        return False
    return isinstance(owner, ast.Name) and owner.id in names


@pytest.mark.parametrize(
    "code",
    [
        "import threading\nlock = threading.Lock()",
        "seen = []\ndef f(x):\n    seen.append(x)",
        "table = {}\ndef f(x):\n    table[x] = 1",
        "n = 0\ndef f():\n    global n\n    n += 1",
        "import functools\n@functools.cache\ndef f(): ...",
    ],
)
def test_mutable_state_is_found(code: str) -> None:
    assert list(mutable_state(ast.parse(code)))


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_no_native_library_and_no_engine() -> None:
    code = """
import sys, agentmux, agentmux.testing, agentmux.testing.conformance
heavy = {"llama_cpp", "numpy", "jinja2", "click", "agentmux.engine.native", "agentmux.engine._native"}
print(sorted(heavy & sys.modules.keys()))
try:
    maps = open("/proc/self/maps").read()
except FileNotFoundError:
    maps = ""
print([name for name in ("libllama", "libggml", "_native") if name in maps])
"""
    assert in_a_fresh_process(code).split() == ["[]", "[]"]


def test_a_scripted_run_loads_no_native_library_either() -> None:
    code = """
import asyncio, sys
from agentmux import Agent, Runtime
from agentmux.testing import ScriptedEngine

class Counter(Agent):
    model = "m"
    output = list[int]

async def main():
    async with Runtime(models={"m": "m.gguf"}, engine=ScriptedEngine({"m": ["[1]"]})) as mux:
        print((await mux.run(Counter, "count")).output)

asyncio.run(main())
print("llama_cpp" in sys.modules)
"""
    assert in_a_fresh_process(code).splitlines() == ["[1]", "False"]


def test_everything_public_is_exported_and_documented() -> None:
    import agentmux
    import agentmux.testing

    for module in (agentmux, agentmux.testing):
        assert sorted(module.__all__) == sorted(set(module.__all__))
        for name in module.__all__:
            if name not in ("Event", "Script", "Step"):  # unions, which have no docstring
                assert getattr(module, name).__doc__, f"{module.__name__}.{name} has no docstring"


@pytest.mark.parametrize("path", INSTALLED, ids=name_of)
def test_public_functions_and_classes_have_docstrings(path: Path) -> None:
    for node in public(ast.parse(path.read_text())):
        assert ast.get_docstring(node), f"{name_of(path)}:{node.lineno} {node.name} has no docstring"


def public(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        if not {ast.unparse(decorator) for decorator in child.decorator_list} & {"overload", "property"}:
            yield child
        if isinstance(child, ast.ClassDef):
            yield from public(child)
