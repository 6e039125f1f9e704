"""What is recorded comes back: turns, tools, conversations, ends; and who may resume what."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux.errors import ConfigError, JournalError, ToolInDoubt
from agentmux.journal import Journal, RecordedTool
from agentmux.journal.reading import Reader
from agentmux.messages import Message, ToolCall

from .steps import begin, call, turn


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "home" / "journal.db") as opened:
        yield opened


def again(journal: Journal) -> Journal:
    """The journal as the next process finds it: nothing of the run has an end."""
    path = journal.path
    journal.close()
    return Journal.open(path)


def test_a_tool_that_raised_is_neither_handed_out_nor_in_doubt(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db") as journal:
        record = begin(journal, "run")
        record.tool_started("k", "Agent", ToolCall("c", "pay", "{}"))
        record.tool_ended("k", RecordedTool(False, "no network", raised=True))
        record.end("failed", None, "no network")
        assert journal.show("run").tools[0].state == "errored"
        again = journal.resume("run")
        assert again.tool("k", False) is None
        again.tool_started("k", "Agent", ToolCall("c", "pay", "{}"))
        again.tool_ended("k", RecordedTool(True, '"paid"'))
        again.end("failed", None, "later")
        assert journal.resume("run").tool("k", False) == RecordedTool(True, '"paid"')


def test_a_run_that_ended_is_shown_whole(journal: Journal) -> None:
    record = begin(journal)
    question = Message("user", "how many?", "A")
    record.record_turn(
        "k1", turn("one\x00\x1b[31m \ud800", tokens=(7, 8, 9)), (Message("system", "count", "A"), question)
    )
    record.tool_started("k2", "A", call())
    record.tool_ended("k2", RecordedTool(True, '"paid"'))
    record.end("finished", '"done"', None)
    shown = journal.show("run")
    assert (shown.arguments, shown.settings, shown.limits, shown.output) == (
        '["x"]',
        '{"a": 1}',
        '{"turns": 3}',
        '"done"',
    )
    (run,) = journal.runs()
    assert run == shown.summary
    assert (run.id, run.target, run.status, run.error, run.attempts) == ("run", "module:name", "finished", None, 1)
    assert (run.turns, run.prompt_tokens, run.generated_tokens, run.tool_calls) == (1, 3, 3, 1)
    assert run.ended_s is not None
    assert run.began_s <= shown.turns[0].at_s <= shown.tools[0].at_s <= run.ended_s <= time.time()
    assert shown.turns[0].answer == "one\x00\x1b[31m \ud800"
    assert shown.turns[0].prompt == (Message("system", "count", "A"), question)
    assert shown.turns[0].numbers.prefill_s == 0.25
    assert (shown.tools[0].name, shown.tools[0].state, shown.tools[0].text) == ("pay", "returned", '"paid"')
    assert [message.role for message in shown.messages] == ["system", "user", "assistant"]


def test_a_run_goes_on_where_it_stopped(journal: Journal) -> None:
    record = begin(journal)
    record.record_turn("same", turn("first"))
    record.record_turn("same", turn("second"))
    record.tool_started("tool", "A", call())
    record.tool_ended("tool", RecordedTool(False, "no money"))
    assert not record.resumed
    with again(journal) as journal:
        assert journal.runs()[0].status == "interrupted"
        record = journal.resume("run")
        assert (record.resumed, record.id, record.target) == (True, "run", "module:name")
        assert (record.arguments, record.settings, record.limits) == ('["x"]', '{"a": 1}', '{"turns": 3}')
        assert [record.turn("same"), record.turn("same"), record.turn("same")] == [turn("first"), turn("second"), None]
        assert record.turn("other") is None
        assert record.tool("tool", False) == RecordedTool(False, "no money")
        assert record.tool("tool", False) is None
        record.record_turn("same", turn("third"))
        record.end("finished", "1", None)
        assert journal.runs()[0].turns == 3
        assert journal.runs()[0].attempts == 2


def test_an_attempt_is_not_handed_its_own_steps(journal: Journal) -> None:
    record = begin(journal)
    record.record_turn("k", turn("mine"))
    assert record.turn("k") is None, "a step of this attempt is not of an earlier one"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_runs_that_gave_no_result_can_be_resumed(journal: Journal, status: str) -> None:
    record = begin(journal)
    record.record_turn("k", turn("text"))
    record.end(status, None, "why")  # type: ignore[arg-type]
    assert (journal.runs()[0].status, journal.runs()[0].error) == (status, "why")
    record = journal.resume("run")
    assert journal.runs()[0].status == "running"
    assert record.turn("k") == turn("text")
    record.end("finished", "1", None)
    assert journal.runs()[0].error is None


def test_who_may_not_be_resumed(journal: Journal) -> None:
    record = begin(journal)
    for opened in (journal, Journal.open(journal.path)):
        with pytest.raises(JournalError, match="run run is running"):
            opened.resume("run")
        with pytest.raises(JournalError, match="no run 'nobody'"):
            opened.resume("nobody")
    opened.close()
    record.end("finished", "1", None)
    with pytest.raises(JournalError, match="finished; `agentmux runs show run`"):
        journal.resume("run")
    with pytest.raises(JournalError, match="has a run run already"):
        begin(journal)


def test_of_two_resumes_the_second_is_refused(journal: Journal) -> None:
    begin(journal)
    with again(journal) as first, Journal.open(journal.path) as second:
        first.resume("run")
        with pytest.raises(JournalError, match="is running"):
            second.resume("run")
        assert second.runs()[0].attempts == 2


def test_nothing_can_be_recorded_after_the_end(journal: Journal) -> None:
    record = begin(journal)
    record.end("failed", None, "x")
    for late in (
        lambda: record.record_turn("k", turn("late")),
        lambda: record.turn("k"),
        lambda: record.tool("k", True),
        lambda: record.tool_started("k", "A", call()),
        lambda: record.end("finished", None, None),
    ):
        with pytest.raises(JournalError, match="has ended"):
            late()
    with pytest.raises(JournalError, match="without its start"):
        begin(journal, "other").tool_ended("k", RecordedTool(True, "1"))


def test_a_tool_in_doubt_is_the_users_decision(journal: Journal) -> None:
    begin(journal).tool_started("k", "A", call("pay", '{"note": "' + "n" * 5000 + '"}'))
    with again(journal) as journal:
        record = journal.resume("run")
        with pytest.raises(ToolInDoubt) as caught:
            record.tool("k", False)
        assert "tool pay with arguments" in caught.value.message
        assert "runs resume run --rerun-in-doubt" in caught.value.message
        assert len(caught.value.message) < 600
        with pytest.raises(ToolInDoubt):
            record.tool("k", False)
        record.end("failed", None, caught.value.message)
        assert journal.show("run").tools[0].state == "in doubt"
        record = journal.resume("run", rerun_in_doubt=True)
        assert record.tool("k", False) is None
        record.tool_started("k", "A", call())
        record.tool_ended("k", RecordedTool(True, "1"))
        record.end("failed", None, "later")
        assert [tool.state for tool in journal.show("run").tools] == ["run again", "returned"]
        record = journal.resume("run")
        assert record.tool("k", False) == RecordedTool(True, "1")
        assert record.tool("k", False) is None, "the call in doubt was replaced, and must not come up again"


def test_an_idempotent_tool_is_run_again(journal: Journal) -> None:
    begin(journal).tool_started("k", "A", call())
    with again(journal) as journal:
        assert journal.resume("run").tool("k", True) is None
        # Asked for, but never started again: still in doubt for the next one.
    with Journal.open(journal.path) as journal, pytest.raises(ToolInDoubt):
        journal.resume("run").tool("k", False)


def test_completed_calls_come_before_those_in_doubt(journal: Journal) -> None:
    record = begin(journal)
    record.tool_started("k", "A", call())
    record.tool_started("k", "A", call())
    record.tool_ended("k", RecordedTool(True, "1"))
    with again(journal) as journal:
        record = journal.resume("run")
        assert record.tool("k", False) == RecordedTool(True, "1")
        with pytest.raises(ToolInDoubt):
            record.tool("k", False)


Steps = st.lists(st.tuples(st.sampled_from(["turn", "tool"]), st.sampled_from("abc")), max_size=12)


@settings(max_examples=30)
@given(steps=Steps, data=st.data())
def test_each_completed_step_is_handed_out_once_whatever_the_order(
    steps: list[tuple[str, str]], data: st.DataObject
) -> None:
    """A program is a bag of steps, which concurrent agents come by in any order; each attempt dies somewhere."""
    done: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.db"
        attempts = data.draw(st.integers(1, 4))
        for attempt in range(attempts):
            order = data.draw(st.permutations(steps))
            stop = len(steps) if attempt == attempts - 1 else data.draw(st.integers(0, len(steps)))
            with Journal.open(path) as journal:
                record = journal.resume("run") if attempt else begin(journal)
                handed, computed = list[str](), list[str]()
                for number, (kind, key) in enumerate(order[:stop]):
                    name = f"{attempt}.{number}"
                    if kind == "turn":
                        known = record.turn(key)
                        text = None if known is None else known.completion.text
                        if known is None:
                            record.record_turn(key, turn(name))
                    else:
                        outcome = record.tool(key, False)
                        text = None if outcome is None else outcome.text
                        if outcome is None:
                            record.tool_started(key, "A", call())
                            record.tool_ended(key, RecordedTool(True, name))
                    (computed if text is None else handed).append(name if text is None else text)
                assert len(handed) == len(set(handed))
                assert set(handed) <= done
                before = set(done)
                done |= set(computed)
        assert set(handed) == before, "the last attempt is asked for everything"
        with Journal.open(path) as journal:
            shown = journal.show("run")
        recorded = Counter({"turn": len(shown.turns), "tool": len(shown.tools)})
        assert recorded == Counter(kind for kind, _ in steps)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1_000_000.0]
    monkeypatch.setattr("agentmux.journal.store.time.time", lambda: moment[0])
    return moment


def test_runs_are_kept_by_age_and_count_but_never_removed_while_they_run(journal: Journal, now: list[float]) -> None:
    records = {}
    for number in range(6):
        records[number] = begin(journal, f"run{number}")
        if number not in (1, 5):
            records[number].end("finished", "1", None)
        now[0] += 100
    # now 600; ends at 0, 200, 300, 400
    assert journal.prune() == 0
    assert journal.prune(max_age_s=450) == 1
    assert [run.id for run in journal.runs()] == ["run5", "run4", "run3", "run2", "run1"]
    assert journal.prune(max_runs=3) == 1
    assert [run.id for run in journal.runs()] == ["run5", "run4", "run3", "run1"]
    assert journal.prune(max_age_s=0, max_runs=0) == 2
    assert [run.id for run in journal.runs()] == ["run5", "run1"]
    with again(journal) as journal:
        assert [run.status for run in journal.runs()] == ["interrupted", "interrupted"]
    with Journal.open(journal.path, max_age_s=450) as journal:
        assert [run.id for run in journal.runs()] == ["run5"]
    with Journal.open(journal.path, max_runs=0) as journal:
        assert journal.runs() == []


def test_age_counts_from_the_last_sign_of_life(journal: Journal, now: list[float]) -> None:
    record = begin(journal)
    now[0] += 1000
    record.record_turn("k", turn("x"))
    with again(journal) as journal:
        assert journal.prune(max_age_s=500) == 0
        now[0] += 501
        assert journal.prune(max_age_s=500) == 1


def test_removed_runs_give_their_space_back(journal: Journal) -> None:
    record = begin(journal)
    for number in range(100):
        record.record_turn(str(number), turn(f"{number}" + "x" * 20_000))
    record.end("finished", "1", None)
    path = journal.path
    with again(journal) as journal:
        assert path.stat().st_size > 2_000_000
        assert journal.prune(max_runs=0) == 1
    assert path.stat().st_size < 100_000
    assert os.listdir(f"{path}-owners") == ["setup"]


def test_the_write_ahead_log_is_bounded(journal: Journal) -> None:
    record = begin(journal)
    for number in range(2000):
        record.record_turn("k", turn(f"{number}" + "x" * 30_000))
    assert journal._database._checkpoints._thread is not None
    assert os.stat(f"{journal.path}-wal").st_size < 36 << 20
    assert journal.runs()[0].turns == 2000


def test_runs_by_status_limit_and_beginning_of_their_id(journal: Journal) -> None:
    for name in ("abc1", "abc2", "abd", "ab"):
        begin(journal, name).end("finished" if name == "abd" else "failed", None, None)
    assert [run.id for run in journal.runs(limit=2)] == ["ab", "abd"]
    assert [run.id for run in journal.runs(status="failed", limit=2)] == ["ab", "abc2"]
    assert journal.runs(status="running") == []
    assert [journal.find(prefix) for prefix in ("ab", "abd", "abc1")] == ["ab", "abd", "abc1"]
    for prefix in ("x", "", "abc12", "a%", "\udcff"):
        with pytest.raises(JournalError, match="no run"):
            journal.find(prefix)
    with pytest.raises(JournalError, match="several runs: abc2, abc1;"):
        journal.find("abc")


def test_only_its_user_can_read_it(journal: Journal) -> None:
    begin(journal).record_turn("k", turn("secret"))
    folder = journal.path.parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 5, "the file, its WAL, its shared memory, the owner, the setup lock"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, Path(f"{journal.path}-owners"))} == {0o700}


@pytest.mark.parametrize(
    "values", [{"max_age_s": -1}, {"max_age_s": float("nan")}, {"max_runs": -1}, {"synchronous": "off"}]
)
def test_values_that_cannot_be_meant(tmp_path: Path, values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Journal.open(tmp_path / "j.db", **values)  # type: ignore[arg-type]


def test_importing_does_not_load_sqlite() -> None:
    code = "import sys, agentmux, agentmux.journal; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_end_that_comes_while_its_owner_is_looked_for_is_seen(journal: Journal) -> None:
    record = begin(journal)

    def just_gone(owner: str) -> bool:
        record.end("failed", None, "in between")
        return False

    reader = Reader(journal._database, just_gone)
    (attempt,) = reader.attempts()
    assert reader.state(attempt).status == "failed"


def test_a_run_that_is_resumed_while_others_are_removed_stays(journal: Journal) -> None:
    begin(journal)
    alive = iter([False, True])
    journal._reader = Reader(journal._database, lambda _: next(alive))
    assert journal.prune(max_runs=0) == 0
    assert journal.find("run") == "run"


def test_beginnings_and_ends_wait_for_company(tmp_path: Path) -> None:
    due: list[Callable[[], None]] = []
    with Journal.open(tmp_path / "j.db") as journal, Journal.open(tmp_path / "j.db") as other:
        journal.write_later(due.append)
        first, second = begin(journal, "first"), begin(journal, "second")
        assert other.runs() == []
        assert len(due) == 1
        first.record_turn("k", turn("answer"))  # with a step, all that waits is written
        assert [run.id for run in other.runs()] == ["second", "first"]
        second.end("finished", '"early"', None)
        first.end("finished", '"late"', None)
        assert {run.status for run in other.runs()} == {"running"}
        for call_back in due:
            call_back()
        assert {run.status for run in other.runs()} == {"finished"}
        assert other.show("second").output == '"early"'
        begin(journal, "third").end("failed", None, "early")
        assert [run.status for run in journal.runs(limit=1)] == ["failed"]  # whoever asks here gets the latest
        begin(journal, "fourth")
    with Journal.open(tmp_path / "j.db") as journal:
        assert [run.status for run in journal.runs(limit=1)] == ["interrupted"]


def test_what_waits_survives_a_journal_that_cannot_be_written_for_a_while(tmp_path: Path) -> None:
    due: list[Callable[[], None]] = []
    with Journal.open(tmp_path / "j.db") as journal:
        journal.write_later(due.append)
        record = begin(journal, "run")
        moved = (tmp_path / "j.db").rename(tmp_path / "away.db")
        due[0]()
        with pytest.raises(JournalError, match="removed or replaced"):
            record.record_turn("k", turn("answer"))
        record.end("failed", None, "no journal")
        moved.rename(tmp_path / "j.db")
        due[1]()
        assert [(run.id, run.status, run.turns) for run in journal.runs()] == [("run", "failed", 0)]
