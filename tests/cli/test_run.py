"""``agentmux run``: what it finds, how it checks inputs, what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import structlog

from agentmux.agent import Agent, Run
from agentmux.cli import opening
from agentmux.cli.inputs import from_json, from_texts
from agentmux.cli.main import run
from agentmux.errors import ConfigError
from agentmux.journal import Journal
from agentmux.paths import journal_path
from agentmux.pipeline import pipeline
from agentmux.runtime import Runtime
from agentmux.testing import ScriptedEngine
from tests.cli.processes import AGENTMUX, Terminal, agentmux, environment, one_line

MINE = """
import asyncio
from datetime import date
from pathlib import Path
from pydantic import BaseModel
from agentmux import Agent, Run, pipeline

class Point(BaseModel):
    x: int
    y: int = 0

class Writer(Agent):
    model = "planner"
    max_tokens = 8

class Pointer(Agent):
    model = "planner"
    output = Point

writer = Writer()

@pipeline
async def add(ctx: Run, a: int, b: int = 2) -> int:
    return a + b

@pipeline
async def shape(ctx: Run, points: list[Point], day: date | None = None, *, scale: float = 1.0) -> dict[str, object]:
    return {"points": points, "day": day, "scale": scale}

@pipeline
async def both(ctx: Run, text: str) -> list[str]:
    print("a print of the user's")
    return list(await asyncio.gather(ctx.run(Writer, text), ctx.run(writer, text)))

@pipeline
async def broken(ctx: Run, n: int) -> float:
    return 1 / n

@pipeline
async def endless(ctx: Run) -> None:
    try:
        print("begun", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)

@pipeline
async def busy(ctx: Run) -> None:
    print("begun", flush=True)
    try:
        for _ in range(10_000_000_000):
            pass
    finally:
        print("cleaned up", flush=True)

def plain(ctx):
    return 1
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTMUX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    yield
    structlog.reset_defaults()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs ``agentmux run ARGUMENTS`` with a model that always says the same."""

    def invoke(*arguments: str, says: str = "well said") -> int:
        engine = ScriptedEngine({"planner": lambda _: says})
        monkeypatch.setattr(opening, "Runtime", partial(Runtime, engine=engine))
        return run(["run", *arguments, "--models", "planner=planner"])

    return invoke


def test_agent_of_a_file(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("mine.py:Writer", "mine.py:writer", "mine:Writer", "./mine.py:Writer"):
        assert command(target, "write") == 0
        assert capsys.readouterr() == ("well said\n", "")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["mine.py:add", "1"], 3),
        (["mine.py:add", "1", "5"], 6),
        (["mine.py:add", "--input-json", "[1, 4]"], 5),
        (["mine.py:add", "--input-json", '{"b": 1, "a": 1}'], 2),
        (["mine.py:add", "--input-json", "7"], 9),
        (["mine.py:shape", '[{"x": 1}]'], {"points": [{"x": 1, "y": 0}], "day": None, "scale": 1.0}),
        (["mine.py:shape", "[]", "2026-11-23"], {"points": [], "day": "2026-11-23", "scale": 1.0}),
        (
            ["mine.py:shape", "--input-json", '{"points": [], "scale": 2}'],
            {"points": [], "day": None, "scale": 2.0},
        ),
        (["mine.py:Pointer", "where"], {"x": 3, "y": 4}),
    ],
)
def test_inputs_are_what_the_annotations_say(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], output: object
) -> None:
    assert command(*arguments, says='{"x": 3, "y": 4}') == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing:f"], "no module named 'nothing'"),
        (["nothing.py:f"], "no file nothing.py"),
        (["mine:nope"], "mine has no 'nope'; its agents and pipelines: Writer, Pointer, writer, add,"),
        (["mine.py"], "mine.py has several to run, write mine.py:NAME with one of: Writer,"),
        (["mine:"], "'mine:' is not of the form"),
        (["../x y:f"], "no file ../x y"),
        (["mine:plain"], "neither an Agent nor a pipeline function; decorate the function with @pipeline"),
        (["mine:Point"], "neither an Agent nor a pipeline function"),
        (["mine:add"], "missing a required argument: 'a'; add takes (a: int, b: int = 2)"),
        (["mine:add", "1", "2", "3"], "too many positional arguments; add takes (a: int, b: int = 2)"),
        (["mine:add", "one"], "a: Input should be a valid integer"),
        (["mine:add", "--input-json", '{"c": 1, "a": 1}'], "unexpected keyword argument 'c'"),
        (["mine:add", "--input-json", "{"], "--input-json is no JSON"),
        (["mine:add", "--input-json", "1", "1"], "exclude each other"),
        (["mine:shape", '[{"x": "?"}]'], "points: 0.x: Input should be a valid integer"),
        (["mine:Writer"], "missing a required argument: 'prompt'"),
        (["mine:Writer", "a", "b"], "too many positional arguments; Writer takes (prompt: str)"),
        (["mine:add", "1", "--json", "--events"], "exclude each other"),
        (["mine:add", "1", "--limits", "turns"], "turns=''"),
        (["mine:add", "1", "--limits", "hours=1"], "'hours' is no limit; there are: turns, tokens, wall_s"),
        (["mine:add", "1", "--limits", "turns=0"], "must be a whole number, at least 1"),
        ([], "Missing argument 'MODULE:NAME'"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert command(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentmux: error: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_thing_at_all", "ModuleNotFoundError: No module named 'no_such_thing_at_all' ({path}:1)"),
        ("x = 1\nraise ValueError('by\\nhand')", "ValueError: by hand ({path}:2)"),
        ("def f(:\n  pass", "SyntaxError: invalid syntax ({path}:1)"),
        ("import sys; sys.exit(3)", "SystemExit: 3 ({path}:1)"),
    ],
)
def test_module_that_raises(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], code: str, said: str
) -> None:
    path = Path("bad.py").resolve()
    path.write_text(code)
    assert command("bad.py:f") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"agentmux: error: {said.format(path=path)}\n"


def test_code_that_raises_is_one_line_with_its_place(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    line = MINE.splitlines().index("    return 1 / n") + 1
    said = f"agentmux: error: ZeroDivisionError: division by zero ({Path('mine.py').resolve()}:{line}, in broken)"
    assert command("mine.py:broken", "0") == 1
    assert capsys.readouterr() == ("", said + "\n")
    assert command("mine.py:broken", "0", "--debug") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == said


def test_only_agent_of_a_file_needs_no_name(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.py").write_text("from mine import Writer\nfrom agentmux import Agent\nclass Only(Writer): ...\n")
    assert command("one.py", "x") == 0
    assert capsys.readouterr().out == "well said\n"
    Path("none.py").write_text("from mine import Writer, add\n")
    assert command("none.py", "x") == 2
    assert "none.py defines no agent and no pipeline" in capsys.readouterr().err


def test_file_with_the_name_of_a_library_module(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("queue.py").write_text(MINE)
    assert command("queue.py:shape", '[{"x": 1}]') == 0
    assert json.loads(capsys.readouterr().out)["points"] == [{"x": 1, "y": 0}]


def test_json_is_one_document_whatever_the_code_prints(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("mine.py:both", "x", "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert set(document) == {"run", "output", "usage", "turns", "messages"}
    assert document["output"] == ["well said", "well said"]
    assert document["usage"]["turns"] == len(document["turns"]) == 2
    assert {message["role"] for message in document["messages"]} == {"user", "assistant"}
    assert err == "a print of the user's\n"


def test_events_are_a_line_each_as_they_happen(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("mine.py:both", "x", "--events") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["RunStarted", "RunFinished"]
    assert events[-1]["result"]["output"] == ["well said", "well said"]
    assert {"AgentStarted", "TurnQueued", "TurnAdmitted", "TextStreamed", "TurnCompleted"} <= {
        e["event"] for e in events
    }
    assert len({event["run"] for event in events}) == 1
    assert command("mine.py:broken", "0", "--events") == 1
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["event"] == "RunErrored"
    assert err.count("\n") == 1


def test_limit_that_is_reached(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("mine.py:both", "x", "--limits", "turns=1") == 1
    assert "error: the run has used its 1 turns" in capsys.readouterr().err


def test_input_from_standard_input() -> None:
    done = agentmux("run", "mine.py:add", "-", stdin="40\n")
    assert (done.stdout, done.stderr, done.returncode) == ("42\n", "", 0)
    assert agentmux("run", "mine.py:add", "--input-json", "-", stdin="[1, 1]").stdout == "2\n"
    assert "standard input can be one INPUT only" in one_line(agentmux("run", "mine.py:add", "-", "-"), 2)


def test_real_model_with_all_settings() -> None:
    models = ("--models", "planner=planner", "--threads", "1", "--vram", "4MiB", "--no-journal")
    done = agentmux("run", "mine.py:Writer", "Return the sum of the list.", *models)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('{"steps": ["')
    assert "missing.gguf" in one_line(agentmux("run", "mine.py:Writer", "x", "--models", "planner=missing.gguf"), 1)


@pytest.mark.parametrize("target", ["endless", "busy"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_cancel_what_runs(target: str, number: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [*AGENTMUX, "run", f"mine.py:{target}", "--models", "planner=planner", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        if target == "busy":  # code that never awaits cannot be cancelled: a second signal ends the process
            insist(process, number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status
    if target == "endless":
        assert out == "cleaned up\n"
        assert err == f"agentmux: {'interrupted' if number is signal.SIGINT else 'terminated'}\n"


def insist(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send the signal until the process ends: two at one moment are one."""
    for _ in range(600):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
            return
    pytest.fail("it goes on")


def test_run_of_a_file_is_recorded_and_can_be_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("flaky.py").write_text(
        "from pathlib import Path\nfrom agentmux import Run, pipeline\n"
        "@pipeline\nasync def f(ctx: Run, n: int) -> int:\n    return n * int(Path('factor').read_text())\n"
    )
    assert agentmux("run", "flaky.py", "6").returncode == 1
    assert agentmux("run", "flaky.py", "6", "--no-journal").returncode == 1
    with closing(Journal.open(journal_path(os.environ))) as journal:
        (recorded,) = journal.runs()
    assert recorded.status == "failed"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("factor").write_text("7")
    assert asyncio.run(resumed(recorded.id)) == 42


async def resumed(run_id: str) -> object:
    """The output of a recorded run."""
    async with Runtime(models={}, engine=ScriptedEngine({}), journal=True) as mux:
        return (await mux.resume(run_id)).output


def test_at_a_terminal_text_comes_as_it_is_said() -> None:
    small = ("--models", "planner=planner", "--threads", "1")
    with Terminal("run", "mine.py:Writer", "Return the sum of the list.", *small) as terminal:
        assert terminal.end() == 0
        assert terminal.text.startswith('{"steps": [')
        assert terminal.text.count("steps") == 1
    with Terminal("run", "mine.py:both", "Return the sum of the list.", *small) as terminal:
        assert terminal.end() == 0
        assert terminal.text.count('[Writer] {"steps": [') == 2
        assert '["{\\"steps\\": [' in terminal.text


class Default(Agent):
    """Takes a prompt."""


@pipeline
async def several(ctx: Run, *words: str, **counts: int) -> None:
    """Takes many."""


def test_arguments_without_names() -> None:
    assert from_texts(several, ["a", "1"]).args == ("a", "1")
    assert from_json(several, '{"x": "1"}').kwargs == {"x": 1}
    assert from_texts(Default, ["a"]).args == ("a",)
    with pytest.raises(ConfigError, match="counts: Input should be a valid integer"):
        from_json(several, '{"x": []}')


@pipeline
async def optional(ctx: Run, text: str | None, path: Path) -> None:
    """Text or nothing."""


@pytest.mark.parametrize("text", ["a", "5", "[1]", "{", "", "true"])
def test_text_that_looks_like_json_stays_text_where_text_is_meant(text: str) -> None:
    assert from_texts(optional, [text, text]).args == (text, Path(text))


def test_null_is_none() -> None:
    assert from_texts(optional, ["null", "/x"]).args == (None, Path("/x"))
