"""The documentation's programs for other people's frameworks, against ``agentmux serve`` as the tutorial runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.docs.pages import ALL, Block

PAGES = ("docs/tutorial.md", "docs/how-to/clients.md")
PACKAGES = {
    "ask.py": "openai",
    "openai_client.py": "openai",
    "openai_agents.py": "openai-agents",
    "with_pydantic_ai.py": "pydantic-ai-slim",
    "with_langchain.py": "langchain-openai",
}
"""[file] what it needs; skipped where that is not installed."""
URL = "http://127.0.0.1:8080/v1"
PROGRAMS = [
    (block, ALL[place + 1])
    for place, block in enumerate(ALL)
    if block.page in PAGES and block.language == "python" and URL in block.code
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with the bundled models and the tutorial's pipeline."""
    folder = tmp_path_factory.mktemp("server")
    (pipeline,) = [block for block in ALL if block.page == "docs/tutorial.md" and block.title == "pipeline.py"]
    (folder / "pipeline.py").write_text(pipeline.code, encoding="utf-8")
    program = [sys.executable, "-c", "from agentmux.cli.main import main; main()"]
    command = [*program, "serve", "pipeline.py:write", "--port", "0", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("serving ").strip()
        finally:
            process.send_signal(signal.SIGTERM)


def test_every_program_is_known() -> None:
    assert [block.title for block, _ in PROGRAMS if block.page == PAGES[1]] == list(PACKAGES)[1:]
    assert {block.title for block, _ in PROGRAMS} == PACKAGES.keys()


@pytest.mark.parametrize(("block", "shown"), PROGRAMS, ids=[block.title for block, _ in PROGRAMS])
def test_program_prints_what_is_shown(block: Block, shown: Block, server: str, tmp_path: Path) -> None:
    package = PACKAGES[block.title]
    try:
        version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    assert shown.language == "text"
    program = tmp_path / block.title
    program.write_text(block.code.replace(URL, server), encoding="utf-8")
    environment = {
        name: value for name, value in os.environ.items() if not re.match(r"OPENAI_|LANG(CHAIN|SMITH)_", name)
    }
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == shown.code.strip()
