"""``agentmux serve`` in a process of its own, with so little memory that models are paged, and a browser to look."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.cli.processes import AGENTMUX, WAIT_S, environment
from tests.server.live import chat

LINK_BYTES_PER_S = "40000000"
"""The largest model takes a sixth of a second, so that there is something to see."""
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
LONG = {"logit_bias": {"0": -100}, "max_tokens": 150}
"""By itself, for the coder, whose end token is 0."""
PIPELINE = """
from agentmux import Run, pipeline
from agentmux.agents import Coder, Planner

@pipeline
async def write_code(ctx: Run, task: str) -> str:
    plan = await ctx.run(Planner, task)
    return await ctx.run(Coder, task, plan.steps)
"""


class Server:
    """A server's process."""

    def __init__(self, folder: Path, port: int = 0, **env: str) -> None:
        (folder / "mine.py").write_text(PIPELINE)
        command = [*AGENTMUX, "serve", "--port", str(port), "--threads", "1", "--vram", "9MiB"]
        self.process = subprocess.Popen(
            [*command, f"{folder}/mine.py:write_code"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(AGENTMUX_LINK_BYTES_PER_S=LINK_BYTES_PER_S, **env),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving http://127.0.0.1:"), line
        self.url = line.removeprefix("serving ").strip().removesuffix("/v1")

    def end(self) -> None:
        """Kill it: nothing is said to those who are connected."""
        self.process.kill()
        self.process.communicate()

    def ask(self, model: str, text: str = "Return the even numbers of a list, sorted", **more: Any) -> dict[str, Any]:
        """A chat, to its end."""
        body = chat(model, text, temperature=0, **more)
        document: dict[str, Any] = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=WAIT_S).json()
        return document


@contextmanager
def asked(server: Server, *questions: tuple[str, dict[str, Any]]) -> Iterator[None]:
    """Questions that are all asked at once; at the end they have been answered."""
    threads = [
        threading.Thread(target=server.ask, args=(model,), kwargs=more, name=f"asks {model}")
        for model, more in questions
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium (apt install chromium)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=path, args=arguments) as launched:
            yield launched


class Window:
    """A page, and what it complained of."""

    def __init__(self, launched: Browser, width: int = 1280, height: int = 800) -> None:
        self.context = launched.new_context(viewport={"width": width, "height": height})
        self.context.set_default_timeout(WAIT_S * 1000)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str) -> Page:
        """Go there, and wait until it is fed."""
        self.page.goto(url)
        self.connected("live")
        return self.page

    def connected(self, state: str) -> None:
        """Wait until the connection is so."""
        self.page.wait_for_selector(f"#connection[data-state={state}]")


def artefacts(tmp_path: Path) -> Path:
    """Where pictures are left: $AGENTMUX_TEST_ARTEFACTS, else pytest's own folder."""
    folder = Path(os.environ.get("AGENTMUX_TEST_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
