"""``agentmux serve`` as users start it: a process of its own, ended by signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.processes import AGENTMUX, WAIT_S, agentmux, environment, one_line
from tests.server.live import chat, code_of

PIPELINE = """
from agentmux import Run, pipeline

@pipeline
async def twice(ctx: Run, text: str) -> str:
    return text + text
"""
ENDLESS = """
import asyncio
from agentmux import Run, pipeline

@pipeline
async def endless(ctx: Run, text: str) -> str:
    print("begun", flush=True)
    await asyncio.Event().wait()
"""


@contextmanager
def served(*arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own, and its address."""
    command = [*AGENTMUX, "serve", "--port", "0", "--threads", "1", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env)
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving http://127.0.0.1:"), line
        yield process, line.removeprefix("serving ").strip()
    finally:
        process.kill()
        process.communicate()


def endless(**more: object) -> dict[str, object]:
    """A chat that goes on until the context is full: the coder's end token is 0."""
    return chat("coder", logit_bias={"0": -100}, stream=True, **more)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_under_way_end(number: signal.Signals) -> None:
    with served() as (process, url):
        with httpx.stream("POST", f"{url}/chat/completions", json=endless(), timeout=WAIT_S) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(number)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert process.wait(WAIT_S) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/models")
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_what_takes_too_long_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ENDLESS)
    with served(f"{tmp_path}/mine.py:endless", "--drain-s", "1") as (process, url), ThreadPoolExecutor() as pool:
        waiting = pool.submit(httpx.post, f"{url}/chat/completions", json=chat("endless"), timeout=WAIT_S)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        cut_off = waiting.result()
        assert (cut_off.status_code, code_of(cut_off)) == (503, "engine_unavailable")
        assert process.wait(WAIT_S) == 143
        assert process.stderr is not None
        assert process.stderr.read() == "agentmux: terminated\n"


def test_a_pipeline_of_a_file_is_served_to_who_has_the_key(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PIPELINE)
    (tmp_path / "keys").write_text("# of the team\nfile-key\n")
    arguments = (f"{tmp_path}/mine.py:twice", "--api-key-file", str(tmp_path / "keys"))
    with served(*arguments, AGENTMUX_API_KEY="own-key") as (process, url):
        for key in ("file-key", "own-key"):
            headers = {"authorization": f"Bearer {key}"}
            answer = httpx.post(f"{url}/chat/completions", json=chat("twice", "ab"), headers=headers, timeout=WAIT_S)
            assert answer.json()["choices"][0]["message"]["content"] == "abab"
        assert httpx.get(f"{url}/models").status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0


def test_what_cannot_be_served_is_one_line(tmp_path: Path) -> None:
    assert "API key" in one_line(agentmux("serve", "--host", "0.0.0.0"), 2)
    assert "no module" in one_line(agentmux("serve", "nothing:here"), 2)
    (tmp_path / "keys").write_text("\n")
    assert "no API key" in one_line(agentmux("serve", "--api-key-file", str(tmp_path / "keys")), 2)
    assert "1048576 bytes" in one_line(agentmux("serve", "--trace", str(tmp_path / "t"), "--trace-size", "9"), 2)


def test_a_port_that_is_taken_is_one_line() -> None:
    with served() as (_, url):
        port = url.split(":")[2].partition("/")[0]
        assert f"port {port}" in one_line(agentmux("serve", "--port", port), 1)


def test_without_its_packages_it_says_which() -> None:
    code = "import sys; sys.modules['starlette'] = None; from agentmux.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "serve"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install agentmux[server]" in done.stderr
    assert done.stderr.count("\n") == 1
