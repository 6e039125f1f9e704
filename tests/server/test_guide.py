"""docs/server.md: its programs run, its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentmux.messages import TurnCompleted
from agentmux.server.app import _ROUTES
from agentmux.server.problems import _KINDS
from agentmux.server.responses_body import ResponseBody
from agentmux.server.wire import ChatBody
from tests.server.live import Live, chat

GUIDE = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def block(sign: str) -> str:
    """The one program with this in it."""
    (found,) = [one for one in BLOCKS if sign in one]
    return str(found)


@pytest.mark.parametrize("client", ["agents", "pydantic_ai", "langchain_openai"])
def test_other_clients_of_the_guide(
    live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    before = live.count(TurnCompleted)
    exec(block(f"from {client} import").replace("http://127.0.0.1:8080", live.url), {"__name__": "guide"})
    assert capsys.readouterr().out.strip()
    asked = [event.model for event in live.events if isinstance(event, TurnCompleted)][before:]
    assert asked == ["planner", "coder"]


def test_the_client_of_the_guide(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("from openai import OpenAI\n").replace("http://127.0.0.1:8080", live.url), {})
    assert capsys.readouterr().out.startswith('{"steps": [')


def test_the_program_of_the_guide(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    exec(block("from agentmux.chatting"), {"__name__": "guide"})
    assert capsys.readouterr().out.startswith("{")


def test_everything_is_named(live: Live) -> None:
    said = {"functions", "function_call"}
    unsaid = {"include", "top_logprobs"}  # refused as log-probabilities
    assert not [name for name in ChatBody.model_fields if name not in said and f"`{name}" not in GUIDE]
    assert not [name for name in ResponseBody.model_fields if name not in unsaid and f"`{name}" not in GUIDE]
    assert not [path for path in _ROUTES if path.partition("/{")[0] not in GUIDE]
    assert not [kind.code for kind in _KINDS.values() if f"`{kind.code}`" not in GUIDE]
    live.post("/v1/chat/completions", chat("planner", max_tokens=1))
    names = re.findall(r"^# TYPE (\S+)", live.get("/metrics").text, re.MULTILINE)
    assert len(names) > 20
    own = [name.removeprefix("agentmux_") for name in names]
    assert not [name for name in own if f"`{name}`" not in GUIDE]
