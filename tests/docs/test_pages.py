"""Every block of code in the documentation does what it says; see ``tests.docs.pages`` for what that means."""

from __future__ import annotations

import ast
import builtins
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agentmux.cli.command import cli
from agentmux.config import RuntimeConfig
from agentmux.models import bundled_models
from tests.docs.pages import ALL, DOCS, Block, blocks, commands, fits, name_of, transcript

ELSEWHERE = {"README.md", "docs/server.md", "docs/how-to/clients.md"}
"""Pages whose programs are run by tests of their own."""
MEASURED = {"README.md", "docs/performance.md"}
"""Pages whose transcripts take long or a GPU; README's are in test_commands."""
CLIENTS = {"openai", "agents", "pydantic_ai", "langchain_openai"}
PYTHON = [block for block in ALL if block.language == "python"]
PROGRAMS = [one for one in PYTHON if not one.title and not one.why_not_run and one.page not in ELSEWHERE]
WORKED = sorted({one.page for one in ALL if one.language == "console"} - MEASURED)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where readers would be: two models of their own, nothing configured, one thread so that nobody waits for us."""
    models = bundled_models()
    (tmp_path / "writer.gguf").symlink_to(models["planner"].path)
    (tmp_path / "editor.gguf").symlink_to(models["coder"].path)
    monkeypatch.setenv("AGENTMUX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGENTMUX_THREADS", "1")
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def test_pages_have_blocks() -> None:
    assert PROGRAMS
    assert "docs/tutorial.md" in WORKED


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.id)
def test_program_runs(block: Block, folder: Path) -> None:
    program = folder / "program.py"
    program.write_text(block.code, encoding="utf-8")
    run([sys.executable, str(program)], folder)


@pytest.mark.parametrize("page", WORKED)
def test_transcripts_are_what_is_printed(page: str, folder: Path) -> None:
    for block in ALL:
        if block.page != page:
            continue
        if block.title:
            (folder / block.title).write_text(block.code, encoding="utf-8")
        for command, shown in transcript(block.code) if block.language == "console" else ():
            printed = run(shlex.split(command), folder)
            assert fits(shown, printed), f"$ {command}\n{printed}"


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.id)
def test_names_exist(block: Block) -> None:
    """Also in programs that are not run: what they import is there, and what they name is defined on the page."""
    tree = compile(block.code, block.id, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    earlier = [one for one in PYTHON if one.page == block.page and one.number < block.number]
    known = {"mux", "ctx", *dir(builtins)}
    for one in (*earlier, block):
        known |= names(ast.parse(one.code), ast.Store)
    assert names(tree, ast.Load) <= known
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            check_import(node, {one.title.removesuffix(".py") for one in earlier})


def names(tree: ast.AST, kind: type[ast.expr_context]) -> set[str]:
    """Names that are read (Load), or that are made in whatever way (Store)."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}
    if kind is ast.Load:
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def check_import(node: ast.Import | ast.ImportFrom, files: set[str]) -> None:
    """Clients of the server are not asked: where they are installed, their blocks are run."""
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    for name in modules:
        if name not in files and name.partition(".")[0] not in CLIENTS:
            module = importlib.import_module(name)
            if isinstance(node, ast.ImportFrom):
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@pytest.mark.parametrize(
    "words",
    sorted({tuple(words) for block in ALL if block.language in ("sh", "console") for words in commands(block)}),
    ids=" ".join,
)
def test_command_exists(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest:
        context = click.Context(command)
        _, rest, _ = command.make_parser(context).parse_args(rest)
        if not rest:
            return
        found = command.get_command(context, rest[0])
        assert found is not None, rest[0]
        command, rest = found, rest[1:]
    command.make_parser(click.Context(command)).parse_args(rest)


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "toml"], ids=lambda block: block.id)
def test_configuration_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "agentmux.toml"
    path.write_text(block.code, encoding="utf-8")
    assert RuntimeConfig.make({}, config=path).models


def test_fences_are_closed() -> None:
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert text.count("\n```") == 2 * len(blocks(page)), name_of(page)
