"""Real processes for the journal's tests, run as a script: they fork without threads, are killed, and fill disks.

It prints nothing unless what it was to do is done.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
from pathlib import Path

from agentmux.errors import JournalError
from agentmux.journal import Journal, RecordedTool, RecordedTurn, RunRecord
from agentmux.journal.database import SCHEMA_VERSION  # sqlite3 is loaded while this may still read where it lies
from agentmux.messages import Completion, Message, ToolCall, TurnNumbers

assert SCHEMA_VERSION == 1
STEPS = 60
KILLS = 25


def turn(text: str) -> RecordedTurn:
    return RecordedTurn("A", Completion(text, (1,), "stop", TurnNumbers(1, "A", "m")))


def child_of(body, *arguments) -> int:
    """The process id of a child that runs ``body``."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        body(*arguments)
        status = 0
    finally:
        os._exit(status)


def work(path: Path, attempt: int, said: int, allowed: int) -> None:
    """One attempt at the run: 60 steps under seven keys. Each new one needs a byte of allowance, and is told once it is
    committed."""
    journal = Journal.open(path)
    record = journal.resume("run", rerun_in_doubt=True) if journal.runs() else journal.begin("run", "m:n", "[]", "{}")
    for number in range(STEPS):
        key, text, is_turn = f"k{number % 7}", f"{attempt}.{number}", bool(number % 3)
        known = record.turn(key) if is_turn else record.tool(key, False)
        if known is not None:
            os.write(said, f"had {known.completion.text if is_turn else known.text}\n".encode())
            continue
        if not is_turn:
            record.tool_started(key, "A", ToolCall("c", "tool", "{}"))
        os.read(allowed, 1)
        if is_turn:
            record.record_turn(key, turn(text), (Message("user", f"question {number}"),))
        else:
            record.tool_ended(key, RecordedTool(True, text))
        os.write(said, f"new {text}\n".encode())
    record.end("finished", "1", None)


def killed_again_and_again(path: Path, seed: int) -> None:
    """Kill attempt after attempt at random points, then let one end. What each had and computed must add up."""
    points = random.Random(seed)
    done: set[str] = set()
    for attempt in range(KILLS + 1):
        last = attempt == KILLS
        steps = STEPS if last else points.randrange(3)
        told = attempted(path, attempt, steps, STEPS if last else steps + points.randrange(2), kill=not last)
        had = [text for word, text in told if word == "had"]
        new = [text for word, text in told if word == "new"]
        assert len(had) == len(set(had)), "handed out twice"
        # A step that was committed and could not be told any more is known by being handed out.
        assert not done - set(had) or not last, "lost"
        done |= {*had, *new}
        assert len(done) <= STEPS, "computed twice"
    assert sorted(had + new) == sorted(done)
    assert len(done) == STEPS


def attempted(path: Path, attempt: int, wanted: int, allowance: int, kill: bool) -> list[tuple[str, str]]:
    """What an attempt tells until it is killed, which is when it has told of so many new steps."""
    out, said = os.pipe()
    allowed, allow = os.pipe()
    os.write(allow, b"x" * allowance)
    pid = child_of(work, path, attempt, said, allowed)
    os.close(said)
    told: list[tuple[str, str]] = []
    with os.fdopen(out, "rb") as lines:
        while sum(word == "new" for word, _ in told) < wanted and (line := lines.readline()):
            told.append(tuple(line.decode().split()))
        if kill:
            os.kill(pid, signal.SIGKILL)
        told.extend(tuple(line.decode().split()) for line in lines.readlines())
    _, status = os.waitpid(pid, 0)
    os.close(allowed)
    os.close(allow)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if kill else 0)
    return told


def left_behind(path: Path) -> None:
    """A process that has a run under way forks and is killed, and its child lives on: the run is interrupted."""
    ready, tell = os.pipe()
    wait, go = os.pipe()

    def owner() -> None:
        journal = Journal.open(path)
        journal.begin("run", "m:n", "[]", "{}")
        child_of(lambda: (os.close(go), os.write(tell, b"x"), os.read(wait, 1)))
        os.waitpid(-1, 0)

    pid = child_of(owner)
    os.read(ready, 1)
    with Journal.open(path) as journal:
        assert journal.runs()[0].status == "running"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert journal.runs()[0].status == "interrupted"
        journal.resume("run").end("finished", "1", None)
    os.write(go, b"x")


def side_by_side(path: Path) -> None:
    """Three processes make the journal, write 200 turns each, and prune, all at the same time."""

    def writer(number: int) -> None:
        with Journal.open(path, max_runs=100, busy_timeout_s=60) as journal:
            record = journal.begin(f"run{number}", "m:n", "[]", "{}")
            for step in range(200):
                record.record_turn(f"{step}", turn(f"{number}.{step}"))
            record.end("finished", "1", None)

    pids = [child_of(writer, number) for number in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0]
    with Journal.open(path) as journal:
        for number in range(3):
            shown = journal.show(f"run{number}")
            assert [shown_turn.answer for shown_turn in shown.turns] == [f"{number}.{step}" for step in range(200)]


def raced(path: Path) -> None:
    """Four processes resume the same run at the same moment, again and again: one gets it."""

    def racer(start: int, got: int) -> None:
        with Journal.open(path, busy_timeout_s=60) as journal:
            os.write(got, b"r")
            os.read(start, 1)
            try:
                journal.resume("run")
            except JournalError as error:
                os.write(got, b"x" if "is running" in str(error) else b"?")
            else:
                os.write(got, b"1")
                signal.pause()

    with Journal.open(path) as journal:
        record = journal.begin("run", "m:n", "[]", "{}")
        for number in range(500):
            record.record_turn("k", turn(f"{number}"))
    for _ in range(10):
        (start, go), (out, got) = os.pipe(), os.pipe()
        pids = [child_of(racer, start, got) for _ in range(4)]
        answers = b"".join(os.read(out, 1) for _ in pids)
        os.write(go, b"s" * len(pids))
        answers += b"".join(os.read(out, 1) for _ in pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert sorted(answers) == sorted(b"rrrr1xxx"), answers
        for fd in (start, go, out, got):
            os.close(fd)


def full(path: Path) -> None:
    """A file that may not grow any further fails the step, not the process, and nothing is half written."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = Journal.open(path)
    record = journal.begin("run", "m:n", "[]", "{}")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    recorded = _until_refused(record, path)
    assert 0 < recorded < 20
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))  # the end is small, and would find room
    try:
        record.end("failed", None, "full")
        raise AssertionError("the end was written although the disk is full")
    except JournalError:
        pass
    assert journal.runs()[0].status == "running"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    # There is room again: the end that is owed is written first.
    journal.begin("other", "m:n", "[]", "{}")
    assert [run.status for run in journal.runs()] == ["running", "failed"]
    record = journal.resume("run")
    assert [record.turn(f"{number}") is not None for number in range(recorded + 1)] == [True] * recorded + [False]


def _until_refused(record: RunRecord, path: Path) -> int:
    for number in range(100):
        try:
            record.record_turn(f"{number}", turn(f"{number}" + "x" * 20_000))
        except JournalError as error:
            if str(path) not in str(error):
                raise
            return number
    return 100


def read_only(path: Path) -> None:
    """Another user, who may read the folder and not write it."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for attempt in (
        lambda: Journal.open(path).begin("run2", "m:n", "[]", "{}"),
        lambda: Journal.open(path.parent / "new.db"),
    ):
        try:
            attempt()
            raise AssertionError("written in spite of everything")
        except JournalError as error:
            if str(path.parent) not in str(error):
                raise


if __name__ == "__main__":
    name, file, *numbers = sys.argv[1:]
    globals()[name](Path(file), *map(int, numbers))
    print("done")
