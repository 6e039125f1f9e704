"""Files that are no journal, are damaged, locked, gone: one JournalError each, which names the file."""

from __future__ import annotations

import gc
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmux.errors import JournalError
from agentmux.journal import Journal

from .steps import begin, turn


def folder(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("not a database\n" * 1000)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine(x)")
    connection.close()


def newer(path: Path) -> None:
    Journal.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=2")
    connection.close()


def without_wal(path: Path) -> None:
    Journal.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()


def truncated(path: Path) -> None:
    Journal.open(path).close()
    os.truncate(path, 5000)


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (folder, "is a folder"),
        (pipe, "is a device"),
        (text, "is damaged"),
        (truncated, "is damaged"),
        (foreign, "no journal of agentmux"),
        (newer, "has version 2, this agentmux knows version 1"),
        (without_wal, "not in WAL mode"),
    ],
)
def test_what_is_no_journal_is_left_as_it_is(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "journal #1?.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(JournalError, match=message) as caught:
        begin(Journal.open(path))
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "j.db").touch()
    with Journal.open(tmp_path / "j.db") as journal:
        begin(journal)


@pytest.mark.parametrize("path", ["/proc/no/journal.db", "/dev/null", "/dev/null/x.db", "x\0y", "~no-such-user-here/x"])
def test_places_where_no_journal_can_be(path: str) -> None:
    with pytest.raises(JournalError) as caught:
        Journal.open(path)
    assert path in caught.value.message


def test_a_damaged_page_is_an_error_and_the_rest_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with Journal.open(path) as journal:
        for run in ("first", "second"):
            record = begin(journal, run)
            for number in range(50):
                record.record_turn(str(number), turn(f"{run} {number} " + "x" * 3000))
            record.end("failed", None, None)
    content = bytearray(path.read_bytes())
    page = content.index(b"first 20 ") // 1024 * 1024
    content[page : page + 100] = random.Random(1).randbytes(100)
    path.write_bytes(content)
    with Journal.open(path) as journal:
        for use in (journal.show, journal.resume):
            with pytest.raises(JournalError, match=f"{path} is damaged"):
                use("first")
        assert {run.id for run in journal.runs()} == {"first", "second"}


def test_rows_that_make_no_sense_are_damage(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j.db") as journal:
        record = begin(journal)
        record.record_turn("k", turn("x"))
        record.end("failed", None, None)
        for change in ("messages = '[1]'", "messages = '{'", "numbers = '[]'", "answer = 99", "tokens = x'010203'"):
            with sqlite3.connect(tmp_path / "j.db") as connection:
                connection.execute("BEGIN")
                connection.execute(f"UPDATE turn SET {change}")
                connection.commit()
            connection.close()
            with pytest.raises(JournalError, match="damaged: a row of run run makes no sense"):
                journal.resume("run")
        with pytest.raises(JournalError, match="damaged"):
            journal.show("run")


def test_another_process_that_keeps_it_too_long(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j.db", busy_timeout_s=0.01) as journal:
        record = begin(journal)
        other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match=r"another process kept it for over 0\.01 s"):
            record.record_turn("k", turn("x"))
        assert journal.runs()[0].turns == 0, "who reads is not held up"
        other.execute("ROLLBACK")
        other.close()
        record.record_turn("k", turn("x"))
        assert journal.show("run").turns[0].answer == "x"


def test_no_page_left(tmp_path: Path) -> None:
    """SQLITE_FULL itself, in the middle of a transaction."""
    with Journal.open(tmp_path / "j.db") as journal:
        record = begin(journal)
        journal._database.rows("PRAGMA max_page_count=30")
        with pytest.raises(JournalError, match="the disk is full"):
            record.record_turn("k", turn("x" * 200_000))
        with pytest.raises(JournalError, match="the disk is full"):
            journal.begin("other", "t", "x" * 200_000, "{}")
        assert [(run.id, run.turns) for run in journal.runs()] == [("run", 0)]
        journal._database.rows("PRAGMA max_page_count=10000")
        record.record_turn("k", turn("x" * 200_000))
        assert journal.show("run").turns[0].answer == "x" * 200_000


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_taken_away_is_noticed(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "j.db"
    journal = Journal.open(path)
    record = begin(journal)
    path.rename(tmp_path / "away.db")
    if replaced:
        path.touch()
    for write in (lambda: record.record_turn("k", turn("x")), lambda: begin(journal, "other")):
        with pytest.raises(JournalError, match="was removed or replaced"):
            write()
    journal.close()


def test_a_journal_that_is_dropped_lets_go_of_its_runs(tmp_path: Path) -> None:
    begin(Journal.open(tmp_path / "j.db"))
    gc.collect()
    with Journal.open(tmp_path / "j.db") as journal:
        assert journal.runs()[0].status == "interrupted"


def test_what_was_left_while_it_was_made_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "j.db-owners" / "new-1"
    left.parent.mkdir()
    left.touch()
    Journal.open(tmp_path / "j.db").close()
    assert not left.exists()


def test_a_closed_journal(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j.db")
    record = begin(journal)
    journal.close()
    journal.close()
    for use in (journal.runs, lambda: record.record_turn("k", turn("x")), lambda: begin(journal, "other")):
        with pytest.raises(JournalError, match=r"j\.db is closed"):
            use()
    with Journal.open(tmp_path / "j.db") as journal:
        assert journal.runs()[0].status == "interrupted"
        begin(journal, "other")
        assert len(list(Path(f"{journal.path}-owners").iterdir())) == 2, "the dead owner's file is gone"
