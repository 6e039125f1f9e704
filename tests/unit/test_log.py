"""Logs: who gets them, in which form, what is bound to them, and what is never in them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from agentmux import Agent, ConfigError, Run, Runtime, pipeline
from agentmux.log import bound, configure, get_logger
from agentmux.testing import Failure, ScriptedEngine


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AGENTMUX_LOG", raising=False)
    monkeypatch.delenv("AGENTMUX_LOG_FORMAT", raising=False)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_nobody_watches() -> None:
    stream = io.StringIO()
    configure("info", stream=stream)
    log = get_logger("agentmux.test")
    log.debug("not shown")
    log.info("said", count=3, what=ConfigError("odd"), text="ü\n")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "said",
        "level": "info",
        "logger": "agentmux.test",
        "count": 3,
        "what": "ConfigError('odd')",
        "text": "ü\n",
    }


def test_a_human_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure("debug", stream=stream)
    get_logger("agentmux.test").debug("said", text="\x1b[31m\nred")
    (line,) = stream.getvalue().splitlines()
    assert "said" in line
    assert "\x1b" not in line
    assert "red" in line


def test_colours_unless_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    configure("info", stream=stream)
    get_logger("agentmux.test").info("said")
    assert "\x1b[" in stream.getvalue()


def test_tracebacks_show_no_variables() -> None:
    for form in ("human", "json"):
        stream = io.StringIO()
        configure("error", form, stream)
        try:
            prompt = "se" + "cret"  # source lines are shown
            raise ValueError(len(prompt))
        except ValueError:
            get_logger("agentmux.test").exception("failed")
        assert "ValueError: 6" in stream.getvalue()
        assert "secret" not in stream.getvalue()


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMUX_LOG", "INFO")
    monkeypatch.setenv("AGENTMUX_LOG_FORMAT", "json")
    stream = Terminal()
    configure(stream=stream)
    get_logger("agentmux.test").info("said")
    assert lines(stream)[0]["event"] == "said"


def test_the_environment_alone_is_enough() -> None:
    code = "from agentmux.log import get_logger; get_logger('agentmux.x').debug('said', a=1)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"AGENTMUX_LOG": "debug"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(done.stderr)["event"] == "said"


@pytest.mark.parametrize(("level", "format"), [("loud", None), (None, "xml"), ("", "xml")])
def test_what_cannot_be_meant(level: str | None, format: str | None) -> None:
    with pytest.raises(ConfigError, match=r"there are: (debug|auto), "):
        configure(level, format)


def test_quiet_unless_configured(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    log = get_logger("agentmux.test")
    with bound(run="r1"):
        log.debug("not shown")
        log.warning("shown", a=1)
    assert [(record.name, record.levelno) for record in caplog.records] == [("agentmux.test", logging.WARNING)]
    assert "event='shown'" in caplog.text
    assert "run='r1'" in caplog.text
    assert capsys.readouterr().out == ""


def test_an_applications_own_structlog_is_used() -> None:
    seen: list[Any] = []

    def keep(_: Any, method: str, event: Any) -> Any:
        seen.append((method, dict(event)))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    get_logger("agentmux.test").info("said")
    assert seen == [("info", {"event": "said", "logger": "agentmux.test"})]


def test_a_stream_that_fails_does_no_harm() -> None:
    closed = io.StringIO()
    closed.close()

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "no space left")

    for stream in (closed, Full()):
        configure("info", "json", stream)
        get_logger("agentmux.test").info("said")


async def test_bound_values_reach_tasks_and_end_with_the_block() -> None:
    stream = io.StringIO()
    configure("info", stream=stream)
    log = get_logger("agentmux.test")

    async def child(name: str) -> None:
        with bound(agent=name, span=2):
            await asyncio.sleep(0)
            log.info(name)

    with bound(run="r1", agent="outer"):
        async with asyncio.TaskGroup() as group:
            group.create_task(child("a"))
            group.create_task(child("b"))
        log.info("outer")
    log.info("none")
    values = {line["event"]: (line.get("run"), line.get("agent"), line.get("span")) for line in lines(stream)}
    assert values == {
        "a": ("r1", "a", 2),
        "b": ("r1", "b", 2),
        "outer": ("r1", "outer", None),
        "none": (None, None, None),
    }


class Planner(Agent):
    model = "m"
    instructions = "a secret instruction"
    output = list[int]
    retries = 1


@pipeline
async def ask_twice(ctx: Run, text: str) -> None:
    await ctx.run(Planner, text)
    with pytest.raises(Exception, match="scripted failure"):
        await ctx.run(Planner, text)


async def test_prompts_and_answers_are_not_logged_at_info() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    engine = ScriptedEngine({"m": ["[1] a secret answer", "[1]", Failure()]})
    async with Runtime(models=engine.models, engine=engine) as mux:
        await mux.run(ask_twice, "a secret prompt")
    assert "secret" not in stream.getvalue()
