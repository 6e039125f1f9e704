"""``--trace`` and ``agentmux runs trace``: files that can be read, of runs that end well, badly, or by a signal."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from agentmux.agents import builtin_tasks
from agentmux.cli.main import run
from agentmux.journal import Journal, RecordedTool, RecordedTurn
from agentmux.messages import Completion, Message, ToolCall, TurnNumbers
from tests.cli.processes import AGENTMUX, agentmux, environment, one_line
from tests.server.live import WAIT_S, chat
from tests.server.test_serve_command import served
from tests.tracing.reading import Drawn, drawn, lenient, samples

RUN = "0123456789abcdef0123456789abcdef"
MINE = """
from pathlib import Path
from agentmux import Agent, Run, pipeline

class Writer(Agent):
    model = "planner"
    max_tokens = 8

class Checker(Agent):
    model = "critic"
    max_tokens = 4

@pipeline
async def both(ctx: Run, task: str) -> str:
    return await ctx.run(Checker, await ctx.run(Writer, task))

@pipeline
async def breaks(ctx: Run, task: str) -> str:
    await ctx.run(Writer, task)
    raise ValueError("broken")

@pipeline
async def breaks_once(ctx: Run, task: str) -> str:
    text = await ctx.run(Writer, task)
    if not Path(__file__).with_name("mended").exists():
        raise ValueError("broken")
    return await ctx.run(Checker, text)

@pipeline
async def endless(ctx: Run, task: str) -> str:
    while True:
        print(await ctx.run(Writer, task), flush=True)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_run_on_real_models(mine: Path) -> None:
    trace = mine.with_name("t.json")
    done = agentmux("run", f"{mine}:both", "sum", "--vram", "4MiB", "--device", "cpu", "--trace", str(trace))
    assert done.returncode == 0, done.stderr
    records = json.loads(trace.read_text())
    slices = drawn(records)
    by_name = {one.name: one for one in slices}
    assert by_name["both"].said["run"]
    assert [one.name for one in slices if one.track == "compute"] == ["planner", "critic"]
    (turn,) = (one for one in slices if one.name == "turn planner")
    # Which parts it has depends on how late the loop was to hear of them.
    parts = {"waits in queue", "waits in engine", "prefill", "decode"}
    assert {one.name for one in slices if one.track == "Writer"} - parts == {"Writer", "turn planner"}
    assert turn.said["generated_tokens"] == 8
    assert sum(one.said["bytes"] for one in slices if one.track == "uploads") > 0
    assert samples(records, "resident weights (bytes)")


def test_a_run_that_fails_has_its_trace(mine: Path) -> None:
    trace = mine.with_name("t.json")
    done = agentmux("run", f"{mine}:breaks", "sum", "--device", "cpu", "--trace", str(trace))
    assert "broken" in one_line(done, 1)
    whole = next(one for one in drawn(json.loads(trace.read_text())) if one.track == "runs")
    assert (whole.said["ended"], whole.said["error"]) == ("failed", "broken")


def test_a_resumed_run_shows_what_the_journal_had(mine: Path) -> None:
    assert "broken" in one_line(agentmux("run", f"{mine}:breaks_once", "sum", "--device", "cpu"), 1)
    mine.with_name("mended").touch()
    (found,) = json.loads(agentmux("runs", "list", "--json").stdout)
    trace = mine.with_name("t.json")
    done = agentmux("runs", "resume", found["id"], "--trace", str(trace))
    assert done.returncode == 0, done.stderr
    records = json.loads(trace.read_text())
    assert [one["name"] for one in records if one["ph"] == "i"] == ["turn planner from the journal"]
    assert [one.name for one in drawn(records) if one.name.startswith("turn")] == ["turn critic"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_process_that_is_ended_leaves_a_trace(mine: Path, number: signal.Signals) -> None:
    trace = mine.with_name("t.json")
    command = [*AGENTMUX, "run", f"{mine}:endless", "sum", "--device", "cpu", "--no-journal", "--trace", str(trace)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(AGENTMUX_THREADS="1")
    )
    assert process.stdout is not None
    with process:
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(number)
    text = trace.read_text()
    records = lenient(text)
    turns = [one for one in records if one["ph"] == "B" and one["name"] == "turn planner"]
    assert len(turns) >= 3
    if number == signal.SIGTERM:
        assert json.loads(text) == records
        assert drawn(records)


def test_a_file_that_cannot_be_made_is_one_line(mine: Path) -> None:
    done = agentmux("run", f"{mine}:both", "sum", "--trace", str(mine / "no" / "t.json"))
    assert "cannot write the trace" in one_line(done, 1)


def journalled(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        record = journal.begin(RUN, "work:write", "{}", "{}")
        for agent, seconds in (("A", 0.0), ("A", 0.01), ("B", 5.0)):
            numbers = TurnNumbers(1, agent, "planner", "stop", 5, 0, 2, queue_wait_s=seconds, decode_s=seconds)
            completion = Completion("secret", (1, 2), "stop", numbers)
            record.record_turn("k", RecordedTurn(agent, completion), (Message("user", "secret", agent),))
        record.tool_started("t", "A", ToolCall("call-1", "pay", '{"to": "secret"}'))
        record.tool_ended("t", RecordedTool(True, '"secret"'))
        record.tool_started("u", "A", ToolCall("call-2", "send", "{}"))
        record.end("finished", "2", None)
    return path


def of_journal(tmp_path: Path, *arguments: str) -> list[Drawn]:
    file = tmp_path / "out.json"
    assert (
        run(["runs", "trace", RUN[:6], "--journal", str(tmp_path / "journal.db"), "--output", str(file), *arguments])
        == 0
    )
    return drawn(json.loads(file.read_text()))


def test_a_recorded_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journalled(tmp_path)
    slices = of_journal(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path / 'out.json'}\n"
    whole = next(one for one in slices if one.track == "runs")
    assert "uploads" in whole.said["missing"]
    assert all(whole.from_us <= one.from_us <= one.to_us <= whole.to_us for one in slices)
    names = [one.name for one in slices if one.track.startswith(("A", "B"))]
    assert sorted(name for name in names if not name.startswith(("waits", "decode"))) == [
        "tool pay",
        "tool send",
        *["turn planner"] * 3,
    ]
    tools = {one.name: one.said for one in slices if one.name.startswith("tool")}
    assert (tools["tool pay"]["state"], tools["tool send"]["cut"]) == ("returned", "no end was recorded")
    assert "secret" not in (tmp_path / "out.json").read_text()


def test_a_recorded_run_as_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = journalled(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(["runs", "trace", RUN, "--journal", str(path), "--html"]) == 0
    assert capsys.readouterr().out == f"{RUN}.trace.html\n"
    page = (tmp_path / f"{RUN}.trace.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert drawn(json.loads(page.partition('application/json">')[2].partition("</script>")[0]))


def test_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journalled(tmp_path)
    assert run(["runs", "trace", "f00", "--journal", str(tmp_path / "journal.db")]) == 1
    assert "f00" in capsys.readouterr().err
    assert list(tmp_path.glob("*.trace.*")) == []


def test_the_demo_with_all_tasks_at_once(tmp_path: Path) -> None:
    trace = tmp_path / "t.html"
    done = agentmux("demo", "--plain", "--trace", str(trace))
    assert done.returncode == 0, done.stderr
    records = json.loads(trace.read_text().partition('application/json">')[2].partition("</script>")[0])
    slices = drawn(records)
    assert {one.name for one in slices if one.track == "compute"} == {"planner", "coder", "critic"}
    assert sum(one.track.startswith("runs") for one in slices) == len(builtin_tasks())
    assert any(one.name == "waits in queue" for one in slices)
    assert not any("cut" in one.said for one in slices)


def test_a_servers_chats(tmp_path: Path) -> None:
    trace = tmp_path / "t.json"
    with served("--trace", str(trace)) as (process, url):
        answer = httpx.post(f"{url}/chat/completions", json=chat("coder", max_tokens=4), timeout=WAIT_S)
        assert answer.status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    slices = drawn(json.loads(trace.read_text()))
    assert [one.said["generated_tokens"] for one in slices if one.name == "turn coder"] == [4]
