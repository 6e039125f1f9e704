"""Runs in a session with a name, resumed: they go on from what it held as they began."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agentmux import Agent, EngineError, JournalError, Run, Runtime, ToolCall
from agentmux.journal import Journal, RecordedSession
from agentmux.messages import Message
from agentmux.testing import Answer, Failure, ScriptedEngine, settle


class Talker(Agent):
    model = "m"

    async def run(self, ctx: Run, *prompts: str) -> list[str]:
        return [str(await ctx.session.ask(prompt)) for prompt in prompts]


def runtime(script: list[Any], path: Path) -> tuple[ScriptedEngine, Runtime]:
    engine = ScriptedEngine({"m": script})
    return engine, Runtime(models=engine.models, engine=engine, journal=path / "journal.db")


def last_run(path: Path) -> str:
    with Journal.open(path / "journal.db") as journal:
        return journal.runs()[0].id


async def interrupted(path: Path) -> str:
    """A session with one run in it, and a second one that fails at its second question. The second one's id."""
    _engine, mux = runtime(["to one", "to two", Failure()], path)
    async with mux:
        await mux.run(Talker, "one", session="kept")
        with pytest.raises(EngineError):
            await mux.run(Talker, "two", "three", session="kept")
    return last_run(path)


BEFORE = "one\n\nto one\n\ntwo\n\nto two\n\nthree"


async def test_in_another_process_it_goes_on_from_what_the_session_held(tmp_path: Path) -> None:
    run = await interrupted(tmp_path)
    engine, mux = runtime([Answer("to three", expect=BEFORE), Answer("to four", expect="to three\n\nfour")], tmp_path)
    async with mux:
        result = await mux.resume(run)
        assert result.output == ["to two", "to three"]
        assert [turn.replayed for turn in result.turns] == [True, False]
        await mux.run(Talker, "four", session="kept")  # and the session goes on from there
    assert "one\n\nto one" in str(engine.calls[1].prompt)


async def test_in_the_same_process_what_the_failed_attempt_said_is_not_said_twice(tmp_path: Path) -> None:
    _engine, mux = runtime(["to one", "to two", Failure(), Answer("to three", expect=BEFORE)], tmp_path)
    async with mux:
        await mux.run(Talker, "one", session="kept")
        with pytest.raises(EngineError):
            await mux.run(Talker, "two", "three", session="kept")
        result = await mux.resume(last_run(tmp_path))
        assert [turn.replayed for turn in result.turns] == [True, False]


async def test_a_session_that_has_gone_on_without_the_run_is_not_overwritten(tmp_path: Path) -> None:
    script = [
        "to one",
        "to two",
        Failure(),
        "to other",
        Answer("to three", expect=BEFORE),
        Answer("end", expect="other"),
    ]
    _engine, mux = runtime(script, tmp_path)
    async with mux:
        await mux.run(Talker, "one", session="kept")
        with pytest.raises(EngineError):
            await mux.run(Talker, "two", "three", session="kept")
        run = last_run(tmp_path)
        await mux.run(Talker, "other", session="kept")
        with pytest.raises(JournalError, match="began with other messages in its session than session 'kept' holds"):
            await mux.resume(run)
        result = await mux.resume(run, session="free")
        assert result.output == ["to two", "to three"]
        await mux.run(Talker, "last", session="kept")
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.show(run).summary.attempts == 2, "the attempt that was refused is none"


async def test_a_session_that_is_in_use_is_not_changed_under_a_question(tmp_path: Path) -> None:
    run = await interrupted(tmp_path)
    engine, mux = runtime([Answer("x", hold=True)], tmp_path)
    async with mux:
        busy = asyncio.create_task(mux.run(Talker, "busy", session="kept"))
        await settle()
        with pytest.raises(JournalError, match="session 'kept'"):
            await mux.resume(run)
        engine.release()
        await busy


async def test_a_run_that_clears_its_session_is_resumed_from_before_that(tmp_path: Path) -> None:
    held: list[int] = []

    class Clearing(Agent):
        model = "m"

        async def run(self, ctx: Run, clear: bool, *prompts: str) -> list[str]:
            held.append(len(ctx.session.messages))
            if clear:
                ctx.session.clear()
            return [str(await ctx.session.ask(prompt)) for prompt in prompts]

    engine, mux = runtime(["to old", "to anew", Failure(), "to more"], tmp_path)
    async with mux:
        await mux.run(Clearing, False, "old", session="kept")
        with pytest.raises(EngineError):
            await mux.run(Clearing, True, "anew", "more", session="kept")
        result = await mux.resume(last_run(tmp_path), Clearing, True, "anew", "more")
    assert result.output == ["to anew", "to more"]
    assert held == [0, 2, 2]
    assert "old" not in str(engine.calls[-1].prompt)


def test_what_a_session_holds_comes_back_as_it_was(tmp_path: Path) -> None:
    call = ToolCall("1", "look", '{"half": "\ud83d"}')
    said = (
        Message("user", "half a character \ud83d", "Talker"),
        Message("assistant", "", "Talker", tool_calls=(call,)),
        Message("tool", "seen", "Talker", tool_call=call),
    )
    session = RecordedSession("its name \ud83d", {("Talker", "m"): said, ("Other", "n"): said[:1]})
    with Journal.open(tmp_path / "journal.db") as journal:
        journal.begin("a", "t", "[]", "{}", "", session)
        journal.begin("b", "t", "[]", "{}")
        assert journal.show("a").session == session
        assert journal.show("b").session is None
        journal.begin("c", "t", "[]", "{}").end("failed", None, "x")
        journal.begin("d", "t", "[]", "{}", "", session).end("failed", None, "x")
        assert journal.prune(max_runs=0) == 2
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchall() == [(1,)]


async def test_a_journal_from_before_sessions_were_recorded_is_used_on(tmp_path: Path) -> None:
    run = await interrupted(tmp_path)
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("DROP TABLE session")
    _engine, mux = runtime(["again", "to three"], tmp_path)
    async with mux:
        assert (await mux.resume(run)).output == ["again", "to three"]


PROGRAM = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from pathlib import Path
    from agentmux import Agent, Run, Runtime
    from agentmux.testing import ScriptedEngine

    folder = Path(sys.argv[1])

    class Talker(Agent):
        model = "m"

        async def run(self, ctx: Run, *prompts: str) -> list[str]:
            return [str(await ctx.session.ask(prompt)) for prompt in prompts]

    def script(request):
        prompt = str(request.prompt).strip()
        last = prompt.splitlines()[-1]
        if last == "three" and len(sys.argv) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{last} after {prompt.count(' after ')}"

    async def main():
        engine = ScriptedEngine({"m": script})
        async with Runtime(models=engine.models, engine=engine, journal=folder / "journal.db") as mux:
            if len(sys.argv) > 2:
                await mux.resume(sys.argv[2])
            else:
                await mux.run(Talker, "one", session="kept")
                await mux.run(Talker, "two", "three", session="kept")
            print((await mux.run(Talker, "four", session="kept")).output)

    if __name__ == "__main__":
        asyncio.run(main())
    """
)


def test_a_run_in_a_session_whose_process_was_killed_goes_on_with_the_conversation(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path)]
    killed = subprocess.run(command, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    with Journal.open(tmp_path / "journal.db") as journal:
        run = journal.runs()[0]
        assert (run.status, run.turns) == ("interrupted", 1)
    resumed = subprocess.run([*command, run.id], check=True, timeout=120, capture_output=True, text=True)
    assert resumed.stdout == "['four after 3']\n"
    with Journal.open(tmp_path / "journal.db") as journal:
        shown = journal.show(run.id)
    assert shown.output == '["two after 1","three after 2"]'
    assert [turn.answer for turn in shown.turns] == ["two after 1", "three after 2"]
