"""``agentmux chat``: one question with pipes, a conversation at a terminal, signals, overflow."""

from __future__ import annotations

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import gguf
import pytest
import structlog

from agentmux.cli import opening
from agentmux.cli.main import run
from agentmux.models import bundled_models
from agentmux.runtime import Runtime
from agentmux.testing import ScriptedEngine
from tests.cli.processes import Terminal, agentmux, environment, one_line

SMALL = ("--threads", "1")
QUESTION = "Return the sum of the list."
ANSWER = '{"steps": ["Add up the numbers."]}'
LONG = ("--context-tokens", "20000", "--max-tokens", "19000")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(AGENTMUX_HOME=str(tmp_path / "home"))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that never ends its answer: its token for that is one among others."""
    path = tmp_path_factory.mktemp("models") / "endless.gguf"
    shutil.copy(bundled_models()["planner"].path, path)
    fields = gguf.GGUFReader(path, "r+").fields

    def change(name: str, value: object) -> None:
        field = fields[f"tokenizer.ggml.{name}"]
        field.parts[field.data[0]][:] = value

    change("eos_token_id", 3)
    change("eot_token_id", 3)
    change("tokens", list(b"<|enx|>"))
    change("token_type", gguf.TokenType.NORMAL)
    return str(path)


def test_prompt_is_answered_once(env: dict[str, str]) -> None:
    done = agentmux("chat", "planner", "--prompt", QUESTION, *SMALL, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, ANSWER + "\n", "")


@pytest.mark.parametrize("arguments", [(), ("--prompt", "-")])
def test_standard_input_is_a_prompt(env: dict[str, str], arguments: tuple[str, ...]) -> None:
    done = agentmux(
        "chat", "planner", "--json", "--max-tokens", "3", *arguments, *SMALL, stdin=QUESTION + "\n", env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["model"] == document["numbers"]["model"] == "planner"
    assert document["text"] == ANSWER[: len(document["text"])]
    assert document["finish_reason"] == "length"
    assert document["numbers"]["generated_tokens"] == 3


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["chat"], 2, "Missing argument 'MODEL'"),
        (["chat", "planner"], 2, "there is no prompt"),
        (["chat", "planner", "--prompt", " "], 2, "there is no prompt"),
        (["chat", "planner", "--prompt", "x", "--temperature", "-1"], 2, "--temperature"),
        (["chat", "no/such.gguf", "--prompt", "x"], 1, "no/such.gguf"),
        (["chat", "planner", "--prompt", "word " * 3000, "--threads", "1"], 1, "the context of planner holds 1024"),
    ],
)
def test_errors_are_one_line(env: dict[str, str], arguments: list[str], status: int, said: str) -> None:
    assert said in one_line(agentmux(*arguments, env=env), status)


def test_conversation_is_kept_and_not_computed_again(env: dict[str, str]) -> None:
    with Terminal("chat", "planner", *SMALL, rows=40, env=env) as terminal:
        terminal.shows("\n>")
        terminal.type(QUESTION + "\r")
        terminal.until(lambda screen: screen.count(ANSWER) == 1 and screen.rstrip().endswith(">"))
        terminal.type(QUESTION + "\r")
        terminal.until(lambda screen: screen.count("{") >= 2 and screen.rstrip().endswith(">"))
        terminal.type("/stats\r")
        kept = terminal.shows("paged in")
        (line,) = [line for line in kept.splitlines() if "kept from before" in line]
        prompt, reused = (int(word) for word in line.split() if word.isdigit())
        assert prompt > reused > 10
        terminal.type("/reset\r")
        terminal.shows("[a new conversation]")
        terminal.type("/stats\r")
        terminal.shows("nothing has been said yet")
        terminal.type("/nonsense\r")
        terminal.shows("[no command /nonsense;")
        terminal.type("/quit\r")
        assert terminal.end() == 0


def test_history_is_the_owners_and_comes_back(env: dict[str, str]) -> None:
    with Terminal("chat", "planner", *SMALL, env=env) as terminal:
        terminal.shows("\n>")
        terminal.type("/stats\r")
        terminal.shows("nothing has been said yet")
        terminal.until(lambda screen: screen.rstrip().endswith(">"))  # before that, the terminal itself would take it
        terminal.type("\x04")
        assert terminal.end() == 0
    history = Path(env["AGENTMUX_HOME"]) / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600
    with Terminal("chat", "planner", *SMALL, env=env) as terminal:
        terminal.shows("\n>")
        terminal.type("\x1b[A")
        terminal.shows("> /stats")
        terminal.type("\x15/quit\r")
        assert terminal.end() == 0


def test_ctrl_c_stops_the_answer_and_at_the_prompt_ends(env: dict[str, str], endless: str) -> None:
    with Terminal("chat", endless, *SMALL, *LONG, env=env) as terminal:
        terminal.shows("\n>")
        terminal.type("x\r")
        terminal.until(lambda screen: screen.count("enx") > 3)
        terminal.type("\x03")
        terminal.until(lambda screen: "[stopped]" in screen.replace("\n", ""))  # which may begin a new line within it
        terminal.until(lambda screen: screen.rstrip().endswith(">"))
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "agentmux: interrupted" in terminal.text
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize("answering", [False, True])
def test_sigterm_ends_it_in_order(env: dict[str, str], endless: str, answering: bool) -> None:
    with Terminal("chat", endless, *SMALL, *LONG, env=env) as terminal:
        terminal.shows("\n>")
        if answering:
            terminal.type("x\r")
            terminal.until(lambda screen: screen.count("enx") > 3)
        terminal.insist(signal.SIGTERM)
        assert terminal.end() == 143
        assert "agentmux: terminated" in terminal.text


def test_overflow_says_the_numbers_and_offers_a_new_conversation(env: dict[str, str]) -> None:
    with Terminal("chat", "planner", *SMALL, "--context-tokens", "64", "--max-tokens", "8", env=env) as terminal:
        terminal.shows("\n>")
        terminal.type("word " * 100 + "\r")
        terminal.shows("/reset begins anew]")
        assert "64" in terminal.text
        terminal.type("Sort.\r")
        terminal.shows("{")
        terminal.type("/quit\r")
        assert terminal.end() == 0


def test_system_message_is_part_of_the_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = ScriptedEngine({"planner": ["Well."]})
    monkeypatch.setattr(opening, "Runtime", partial(Runtime, engine=engine))
    assert run(["chat", "planner", "--prompt", "Sort.", "--system", "Be brief."]) == 0
    structlog.reset_defaults()
    assert capsys.readouterr().out == "Well.\n"
    assert engine.calls[0].prompt == "Be brief.\n\nSort.\n\n"
