"""Runs that are resumed: in the same process, and after the process was killed."""

from __future__ import annotations

import ast
import asyncio
import json
import random
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentmux import (
    Agent,
    EngineError,
    JournalError,
    LimitExceeded,
    Limits,
    Run,
    Runtime,
    ToolError,
    ToolInDoubt,
    TurnCompleted,
    parallel,
    pipeline,
    sequence,
    tool,
)
from agentmux.journal import Journal
from agentmux.testing import Failure, ScriptedEngine


class Planner(Agent):
    model = "m"
    instructions = "Plan."


class Coder(Agent):
    model = "m"
    instructions = "Code."


@dataclass(frozen=True)
class Task:
    text: str
    size: int


class Options(BaseModel):
    loud: bool = False


@pipeline
async def write(ctx: Run, task: Task, options: Options) -> str:
    plan = await ctx.run(Planner, f"{task.text} {task.size + 1}")
    code: str = await ctx.run(Coder, plan)
    return code.upper() if options.loud else code


combined = sequence(Planner, parallel(Coder, Planner))


def runtime(script: Any, path: Path, **settings: Any) -> tuple[ScriptedEngine, Runtime]:
    engine = ScriptedEngine({"m": script})
    return engine, Runtime(models=engine.models, engine=engine, journal=path / "journal.db", **settings)


def only_run(path: Path) -> str:
    journal = Journal.open(path / "journal.db")
    (summary,) = journal.runs()
    journal.close()
    return summary.id


async def test_a_failed_run_goes_on_behind_what_was_complete(tmp_path: Path) -> None:
    _engine, mux = runtime(["the plan", Failure()], tmp_path)
    async with mux:
        with pytest.raises(EngineError):
            await mux.run(write, Task("sort", 1), Options(loud=True))
    engine, mux = runtime(["the code"], tmp_path)
    run = only_run(tmp_path)
    async with mux:
        events = [event async for event in mux.stream(None, resume=run)]
    result = events[-1].result  # type: ignore[union-attr]
    assert result.output == "THE CODE"
    assert result.run == run
    assert [numbers.replayed for numbers in result.turns] == [True, False]
    assert result.usage.turns == 2
    assert "the plan" in str(engine.calls[0].prompt)
    assert sum(isinstance(event, TurnCompleted) for event in events) == 2


async def test_a_finished_run_cannot_be_resumed_and_shows_its_output(tmp_path: Path) -> None:
    _engine, mux = runtime(["plan", "code"], tmp_path)
    async with mux:
        result = await mux.run(write, Task("sort", 1), Options())
        with pytest.raises(JournalError, match="finished"):
            await mux.resume(result.run)
        assert Journal.open(tmp_path / "journal.db").show(result.run).output == '"code"'


async def test_resuming_needs_a_journal_and_a_run(tmp_path: Path) -> None:
    engine = ScriptedEngine({"m": []})
    async with Runtime(models=engine.models, engine=engine) as mux:
        with pytest.raises(JournalError, match="keeps no journal"):
            await mux.resume("abc")
    _engine, mux = runtime([], tmp_path)
    async with mux:
        with pytest.raises(JournalError, match="abc"):
            await mux.resume("abc")


async def test_combined_pipelines_are_found_again_by_their_name(tmp_path: Path) -> None:
    _engine, mux = runtime(["plan", "code", Failure()], tmp_path)
    async with mux:
        with pytest.raises(EngineError):
            await mux.run(combined, "x")
    journal = Journal.open(tmp_path / "journal.db")
    assert journal.runs()[0].target.endswith(":combined")
    journal.close()
    _engine, mux = runtime(["again"], tmp_path)
    async with mux:
        assert (await mux.resume(only_run(tmp_path), combined, "x")).output == ["code", "again"]


async def test_what_has_no_name_is_resumed_by_its_program_only(tmp_path: Path) -> None:
    @pipeline
    async def local(ctx: Run, text: str) -> str:
        first: str = await ctx.run(Planner, text)
        second: str = await ctx.run(Coder, first)
        return second

    _engine, mux = runtime(["one", Failure()], tmp_path)
    async with mux:
        with pytest.raises(EngineError):
            await mux.run(local, "x")
    _engine, mux = runtime(["two"], tmp_path)
    async with mux:
        with pytest.raises(Exception, match="resume it from there"):
            await mux.resume(only_run(tmp_path))
        assert (await mux.resume(only_run(tmp_path), local, "x")).output == "two"


async def test_arguments_that_are_no_json_are_resumed_by_their_program_only(tmp_path: Path) -> None:
    @pipeline
    async def odd(ctx: Run, thing: object) -> str:
        text: str = await ctx.run(Planner, "x")
        return text

    _engine, mux = runtime([Failure()], tmp_path)
    async with mux:
        with pytest.raises(EngineError):
            await mux.run(odd, object())
    _engine, mux = runtime(["fine"], tmp_path)
    async with mux:
        with pytest.raises(JournalError, match="no JSON"):
            await mux.resume(only_run(tmp_path))
        assert (await mux.resume(only_run(tmp_path), odd, object())).output == "fine"


@pipeline
async def three(ctx: Run, text: str) -> str:
    for _ in range(3):
        text = await ctx.run(Planner, text)
    return text


async def test_recorded_limits_hold_when_a_run_is_resumed(tmp_path: Path) -> None:
    _engine, mux = runtime(["a", Failure()], tmp_path)
    async with mux:
        with pytest.raises(EngineError):
            await mux.run(three, "x", limits=Limits(turns=2))
    _engine, mux = runtime(["b"], tmp_path)
    async with mux:
        with pytest.raises(LimitExceeded, match="has used its 2 turns"):
            await mux.resume(only_run(tmp_path))


@pytest.mark.parametrize("again", [False, True])
async def test_tools_are_not_run_again(tmp_path: Path, again: bool) -> None:
    runs: list[str] = []

    def pay(amount: int) -> str:
        runs.append("pay")
        return "7"

    def fetch() -> dict[str, int]:
        runs.append("fetch")
        if "broken" not in runs:
            runs.append("broken")
            raise OSError("no network")
        return {"n": 1}

    @pipeline
    async def spend(ctx: Run) -> tuple[object, object]:
        paid = await ctx.call(pay, amount=3)
        return paid, await ctx.call(fetch)

    _engine, mux = runtime([], tmp_path)
    async with mux:
        with pytest.raises(ToolError, match="no network"):
            await mux.run(spend)
    _engine, mux = runtime([], tmp_path)
    async with mux:
        result = await mux.resume(only_run(tmp_path), spend, rerun_in_doubt=again)
    assert result.output == ("7", {"n": 1})
    assert Counter(runs) == {"pay": 1, "fetch": 2, "broken": 1}


@pytest.mark.parametrize(("idempotent", "rerun"), [(False, False), (True, False), (False, True)])
async def test_a_tool_that_was_under_way_is_in_doubt(tmp_path: Path, idempotent: bool, rerun: bool) -> None:
    runs: list[int] = []

    @tool(idempotent=idempotent)
    async def launch() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise asyncio.CancelledError
        return "done"

    @pipeline
    async def go(ctx: Run) -> str:
        text: str = await ctx.call(launch)
        return text

    _engine, mux = runtime([], tmp_path)
    async with mux:
        with pytest.raises(asyncio.CancelledError):
            await mux.run(go)
    _engine, mux = runtime([], tmp_path)
    async with mux:
        resuming = mux.resume(only_run(tmp_path), go, rerun_in_doubt=rerun)
        if idempotent or rerun:
            assert (await resuming).output == "done"
        else:
            with pytest.raises(ToolInDoubt, match="launch"):
                await resuming
    assert len(runs) == (2 if idempotent or rerun else 1)


PROGRAM = textwrap.dedent(
    """
    import asyncio, os, sys
    from pathlib import Path
    from agentmux import Agent, Run, Runtime, pipeline, tool
    from agentmux.testing import ScriptedEngine

    folder = Path(sys.argv[1])

    def note(kind, text):
        # O_APPEND and one write: what was noted before the kill is there after it.
        fd = os.open(folder / kind, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, (text + "\\n").encode())
        os.close(fd)

    class Worker(Agent):
        model = "m"

    @tool(idempotent=True)
    def look(n: int) -> int:
        note("looks", str(n))
        return n * 2

    @pipeline
    async def work(ctx: Run, size: int) -> list[str]:
        async def one(n):
            text = f"item {n}"
            for step in range(4):
                text = await ctx.run(Worker, f"{n} {step} {text}")
                text = f"{text}/{await ctx.call(look, n=n * 10 + step)}"
            return text
        return list(await asyncio.gather(*(one(n) for n in range(size))))

    def script(request):
        prompt = str(request.prompt).strip()
        note("turns", prompt)
        return "did " + " ".join(prompt.split()[:2])

    async def main():
        engine = ScriptedEngine({"m": script})
        async with Runtime(models=engine.models, engine=engine, journal=folder / "journal.db") as mux:
            if len(sys.argv) > 2:
                result = await mux.resume(sys.argv[2])
            else:
                result = await mux.run(work, 3)
            note("output", repr(result.output))

    if __name__ == "__main__":
        asyncio.run(main())
    """
)


def test_a_killed_process_is_resumed_to_the_same_output(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    chance = random.Random(5)
    whole = tmp_path / "whole"
    whole.mkdir()
    subprocess.run([sys.executable, str(program), str(whole)], check=True, timeout=120)
    expected, steps = (whole / "output").read_text(), len((whole / "turns").read_text().splitlines())
    assert steps == 12
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        noted = folder / "turns"
        at = chance.randrange(1, steps)
        process = subprocess.Popen([sys.executable, str(program), str(folder)])
        while process.poll() is None and not (noted.exists() and noted.read_text().count("\n") >= at):
            pass
        process.kill()
        process.wait(timeout=60)
        journal = Journal.open(folder / "journal.db")
        (summary,) = journal.runs()
        complete = summary.turns
        if summary.status != "finished":  # killed after that, it may not have noted its output
            assert summary.status == "interrupted"
            subprocess.run([sys.executable, str(program), str(folder), summary.id], check=True, timeout=120)
            assert (folder / "output").read_text() == expected
        assert json.loads(journal.show(summary.id).output or "") == ast.literal_eval(expected)
        journal.close()
        # What was complete was not computed again: only what was under way when the process was killed may be there
        # twice.
        assert len(noted.read_text().splitlines()) - steps <= 3
        assert complete <= steps
