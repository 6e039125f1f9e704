"""``agentmux runs``: list, show, prune, what resume refuses; documents for programs, lines for people, errors."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from agentmux.cli.main import run
from agentmux.journal import Journal, RecordedSession, RecordedTool, RecordedTurn
from agentmux.messages import Completion, Message, ToolCall, TurnNumbers

RUN = "0123456789abcdef0123456789abcdef"
OTHER = "0199999999abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTMUX_HOME", str(tmp_path / "home"))
    yield
    structlog.reset_defaults()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "home" / "journal.db") as opened:
        yield opened


def fill(journal: Journal) -> None:
    record = journal.begin(RUN, "work:write", '{"args": ["x"]}', '{"vram": 5}', '{"turns": 3}')
    asked = (Message("system", "Answer.", "A"), Message("user", "How\nmany?\x1b[31m", "A"))
    numbers = TurnNumbers(1, "A", "planner", "length", prompt_tokens=5, generated_tokens=2)
    record.record_turn(
        "k", RecordedTurn("A", Completion("two\x07 \ud800" + "." * 300, (1, 2), "length", numbers)), asked
    )
    record.tool_started("t", "A", ToolCall("call-1", "pay", '{"to": "b"}'))
    record.tool_ended("t", RecordedTool(True, '"paid"'))
    record.tool_started("u", "A", ToolCall("call-2", "send", "{}"))
    record.end("finished", '{"n": 2}', None)
    journal.begin(OTHER, "work:other", "", "").end("failed", None, "it broke\nin two")


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["runs", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(["runs", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(line.isprintable() for line in out.splitlines())
    return out.splitlines()


def test_list_for_programs(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(journal)
    failed, finished = document(capsys, "list")
    assert (failed["id"], failed["status"], failed["error"]) == (OTHER, "failed", "it broke\nin two")
    began, ended = (datetime.fromisoformat(finished.pop(name)) for name in ("started", "ended"))
    assert began <= ended <= datetime.now(UTC)
    assert finished == {
        "id": RUN,
        "status": "finished",
        "target": "work:write",
        "attempts": 1,
        "turns": 1,
        "tokens": 7,
        "prompt_tokens": 5,
        "generated_tokens": 2,
        "tool_calls": 2,
        "error": None,
    }
    journal.begin("third", "work:write", "[]", "{}")
    assert [found["status"] for found in document(capsys, "list")] == ["running", "failed", "finished"]
    assert [found["ended"] for found in document(capsys, "list", "--limit", "1")] == [None]
    assert [found["id"] for found in document(capsys, "list", "--status", "failed")] == [OTHER]


def test_list_for_people(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(journal)
    first, second = lines(capsys, "list")
    assert first.startswith(f"{OTHER}  failed       2")
    assert first.endswith("   0 turns         0 tokens  work:other")
    assert second.startswith(f"{RUN}  finished     2")
    assert second.endswith("    1 turn         7 tokens  work:write")


def test_without_a_journal_there_is_nothing_and_none_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert document(capsys, "list") == []
    assert lines(capsys, "list") == []
    assert document(capsys, "prune", "--keep", "0") == {"removed": 0}
    for command in ("show", "resume"):
        assert run(["runs", command, RUN]) == 1
        assert f"no journal {tmp_path}/home/journal.db" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_show_for_programs(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(journal)
    shown = document(capsys, "show", "012")
    assert (shown["id"], shown["status"], shown["turn_count"], shown["tool_count"]) == (RUN, "finished", 1, 2)
    assert (shown["arguments"], shown["settings"], shown["limits"]) == ({"args": ["x"]}, {"vram": 5}, {"turns": 3})
    assert shown["output"] == {"n": 2}
    (turn,), (paid, sent) = shown["turns"], shown["tools"]
    assert turn["answer"] == "two\x07 \ud800" + "." * 300
    assert (turn["agent"], turn["model"], turn["finish_reason"]) == ("A", "planner", "length")
    assert [message["role"] for message in turn["prompt"]] == ["system", "user"]
    assert (paid["name"], paid["arguments"], paid["state"], paid["text"]) == (
        "pay",
        '{"to": "b"}',
        "returned",
        '"paid"',
    )
    assert (sent["name"], sent["state"], sent["text"], sent["ended"]) == ("send", "in doubt", None, None)
    assert turn["order"] < paid["order"] < sent["order"]
    assert [message["role"] for message in shown["messages"]] == ["system", "user", "assistant"]
    assert shown["messages"][1]["content"] == "How\nmany?\x1b[31m"


def test_show_names_the_session(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    journal.begin(RUN, "work:write", "[]", "{}", "", RecordedSession("support\x1b", {}))
    journal.begin(OTHER, "work:other", "[]", "{}")
    assert [document(capsys, "show", run)["session"] for run in (RUN, OTHER)] == ["support\x1b", None]
    assert "session    support\N{REPLACEMENT CHARACTER}" in lines(capsys, "show", RUN)
    assert not any(line.startswith("session") for line in lines(capsys, "show", OTHER))


def test_show_for_people_makes_control_characters_visible(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(journal)
    shown = lines(capsys, "show", RUN)
    assert [line[:11].strip() for line in shown[:7]] == [
        "run",
        "target",
        "status",
        "started",
        "ended",
        "arguments",
        "used",
    ]
    assert shown[6] == "used       1 turn, 5 prompt tokens, 2 generated, 2 tool calls"
    assert shown[7:10] == [
        "[A] system: Answer.",
        "[A] user: How many?\N{REPLACEMENT CHARACTER}[31m",
        "[A] answer: two\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}" + "." * 94 + "... (2 tokens, cut)",
    ]
    assert shown[10:] == [
        '[A] tool pay({"to": "b"}) returned: "paid"',
        "[A] tool send({}) in doubt",
        'output     {"n": 2}',
    ]
    assert lines(capsys, "show", OTHER)[-1] == "error      it broke in two"


def test_prune_by_age_and_count(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(journal)
    assert lines(capsys, "prune", "--older-than", "30d", "--keep", "100") == ["removed 0 runs"]
    assert lines(capsys, "prune", "--keep", "1") == ["removed 1 run"]
    assert [found["id"] for found in document(capsys, "list")] == [OTHER]
    assert document(capsys, "prune", "--older-than", "0s") == {"removed": 1}
    journal.begin("third", "work:write", "[]", "{}")
    assert document(capsys, "prune", "--keep", "0", "--older-than", "0.5h") == {"removed": 0}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["show", "nobody"], 1, "no run 'nobody' in the journal"),
        (["show", "01"], 1, "'01' is the beginning of several runs"),
        (["show", "\udcff"], 1, "no run"),
        (["show"], 2, "Missing argument 'ID'"),
        (["list", "--status", "dead"], 2, "--status"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--journal", "/proc/no/j.db"], 0, ""),
        (["list", "--journal", "/dev/null"], 1, "/dev/null"),
        (["prune"], 2, "--older-than AGE, --keep N"),
        (["prune", "--older-than", "30"], 2, "'30' is no age"),
        (["prune", "--keep", "-1"], 2, "--keep"),
        (["resume", "nobody"], 1, "no run 'nobody'"),
        (["resume", RUN], 1, f"is finished; `agentmux runs show {RUN}`"),
        (["resume", "third", "--rerun-in-doubt"], 1, "run third is running"),
    ],
)
def test_errors_are_one_line(
    journal: Journal, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    fill(journal)
    journal.begin("third", "work:write", "[]", "{}")
    assert run(["runs", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    if status:
        assert err.startswith("agentmux: error: ")
        assert err.count("\n") == 1


def test_a_damaged_journal_is_one_line_and_a_traceback_only_with_debug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(os.urandom(9000))
    assert run(["runs", "list", "--journal", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"agentmux: error: journal {path} is damaged")
    assert run(["runs", "list", "--journal", str(path), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_command_itself_of_a_process_of_its_own(journal: Journal) -> None:
    fill(journal)
    code = "from agentmux.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "runs", "list", "--json"], capture_output=True, text=True, check=True
    )
    assert [found["status"] for found in json.loads(done.stdout)] == ["failed", "finished"]
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_the_documents_fields_are_documented(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(journal)
    text = (Path(__file__).parents[2] / "docs" / "durable-runs.md").read_text(encoding="utf-8")
    shown = document(capsys, "show", RUN)
    fields = {*shown, *document(capsys, "list")[0], *shown["turns"][0], *shown["tools"][0]}
    assert not [field for field in fields if f"`{field}`" not in text]
