"""``agentmux demo`` on a scripted engine: what it prints, its document, its exit status, its one-line errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog

from agentmux import ContextOverflow, Runtime
from agentmux.agents import Task
from agentmux.cli import demo
from agentmux.cli.main import run
from agentmux.engine.base import TurnRequest
from agentmux.testing import Answer, Failure, Refusal, ScriptedEngine
from agentmux.testing.scripted import Step

RIGHT = "def f(xs):\n    return sum(xs)"
OWN = ["--task", "Return the sum.", "--example", "f([1, 2]) == 3"]
Steps = dict[str, Callable[[TurnRequest], Step]]


def steps(coder: Step = RIGHT, planner: Step = '{"steps": ["Add."]}') -> Steps:
    verdict = '{"approve": true, "feedback": ""}'
    return {"planner": lambda _: planner, "coder": lambda _: coder, "critic": lambda _: verdict}


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs ``agentmux demo ARGUMENTS`` with stand-in model files on an engine that follows ``script``."""
    files = {name: tmp_path / f"{name}.gguf" for name in ("planner", "coder", "critic")}
    for path in files.values():
        path.write_bytes(bytes(1000))
    models = ",".join(f"{name}={path}" for name, path in files.items())

    def invoke(*arguments: str, script: Steps | None = None) -> int:
        engine = ScriptedEngine(script or steps())
        monkeypatch.setattr(demo, "Runtime", partial(Runtime, engine=engine))
        return run(["demo", "--models", models, *arguments])

    return invoke


def test_own_task_that_passes(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*OWN) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert '[task 1 planner] {"steps": ["Add."]}' in lines
    assert "[task 1 coder] def f(xs):" in lines
    assert "[task 1 coder]     return sum(xs)" in lines
    assert "[task 1 examples] ok f([1, 2]) == 3" in lines
    assert any(line.startswith("[task 1] passed in 1 round") for line in lines)
    for word in ("rounds", "passed", "switches", "bytes paged", "waited for a switch", "tokens/s", "budget"):
        assert word in out


def test_own_task_that_fails(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*OWN, "--rounds", "2", script=steps("def f(xs):\n    return 0")) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "[task 1 examples] wrong f([1, 2]) == 3, got 0" in out
    assert "not passed in 2 round" in out


def test_json_is_exactly_one_document(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*OWN, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    (task,) = document["tasks"]
    assert task["description"] == "Return the sum."
    assert task["code"] == RIGHT
    assert task["passed"] is True
    assert task["rounds"] == 1
    totals = document["totals"]
    assert totals["passed"] == totals["tasks"] == 1
    assert totals["switches"] == 2
    assert totals["bytes_paged"] == 300
    assert totals["tokens"] > 0
    assert totals["tokens_per_s"] > 0
    assert totals["switch_wait_s"] >= 0
    assert totals["models_bytes"] == 3000
    assert totals["budget_bytes"] == 1200


def built_in(monkeypatch: pytest.MonkeyPatch, right: int, hidden_wrong: int = 0) -> None:
    """Ten tasks, of which the scripted coder gets so many right; some only on the visible examples."""
    good = Task("Return the sum.", ("f([1, 2]) == 3",), ("f([]) == 0",))
    sly = Task("Return the sum.", ("f([1, 2]) == 3",), ("f([1]) == 5",))
    bad = Task("Return something else.", ("f([1, 2]) == 4",))
    tasks = (good,) * right + (sly,) * hidden_wrong + (bad,) * (10 - right - hidden_wrong)
    monkeypatch.setattr(demo, "builtin_tasks", lambda: tasks)


@pytest.mark.parametrize(("right", "hidden_wrong", "status"), [(10, 0, 0), (9, 0, 0), (8, 0, 1), (5, 5, 1)])
def test_built_in_tasks_succeed_from_nine_in_ten(
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    right: int,
    hidden_wrong: int,
    status: int,
) -> None:
    built_in(monkeypatch, right, hidden_wrong)
    assert command("--json") == status
    document = json.loads(capsys.readouterr().out)
    assert [task["passed"] for task in document["tasks"]] == [True] * right + [False] * (10 - right)
    assert document["totals"]["passed"] == right


def test_concurrent_answers_stay_whole_lines(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in(monkeypatch, 10)
    assert command(script=steps(Answer(RIGHT, chunks=("def f(x", "s):\n    re", "turn ", "sum(xs)")))) == 0
    spoken = [line for line in capsys.readouterr().out.splitlines() if " coder]" in line]
    assert len(spoken) == 20
    for number in range(1, 11):
        mine = [line for line in spoken if line.startswith(f"[task {number} coder]")]
        assert mine == [f"[task {number} coder] def f(xs):", f"[task {number} coder]     return sum(xs)"]


def test_what_a_model_says_cannot_drive_the_terminal(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    command(*OWN, "--rounds", "1", script=steps("# \x1b[2J\x07\r\u202e\tx\n" + RIGHT))
    assert "[task 1 coder] # \ufffd[2J\ufffd\ufffd\ufffd    x" in capsys.readouterr().out.splitlines()


def test_model_without_a_valid_answer_fails_its_task_only(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*OWN, "--json", script=steps(planner="no plan")) == 1
    out, err = capsys.readouterr()
    assert err == ""
    (task,) = json.loads(out)["tasks"]
    assert task["code"] is None
    assert task["passed"] is False
    assert "no valid answer" in task["error"]


@pytest.mark.parametrize(
    "step",
    [
        Failure("engine", "the device is\nlost"),
        Refusal(ContextOverflow("prompt of 9999 tokens\nand a context of 512", prompt_tokens=9999)),
    ],
)
def test_error_in_mid_run_is_one_line(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], step: Step
) -> None:
    assert command(*OWN, "--json", script=steps(coder=step)) == 1
    _, err = capsys.readouterr()
    assert err.startswith("agentmux: error: ")
    assert err.count("\n") == 1


def test_debug_adds_the_traceback(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*OWN, "--debug", script=steps(coder=Failure("engine", "the device is lost"))) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "agentmux: error: the device is lost"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--example", "f(1) == 1"], "--example belongs to a --task"),
        (["--task", "Return one."], "--task needs at least one --example"),
        (["--task", "  ", "--example", "f(1) == 1"], "--task is empty"),
        (["--task", "x", "--example", "f(1) > 1"], "is not of the form f([1, 2]) == 3"),
        (["--task", "x", "--example", "f(1) == "], "is not of the form f([1, 2]) == 3"),
        (["--task", "x", "--example", ""], "is not of the form f([1, 2]) == 3"),
        (["--task", "x", "--example", "f(y) == 1"], "is not of the form f([1, 2]) == 3"),
        (["--vram", "much"], "'much' is not a size"),
        (["--vram", "0"], "above zero"),
        (["--vram", "-1GiB"], "is not a size"),
        (["--models", "painter=a.gguf"], "'painter' is none of the agents: planner, coder, critic"),
        (["--models", "coder"], "no file for 'coder'"),
        (["--models", "coder="], "no file for 'coder'"),
        (["--models", "coder=a.gguf,coder=b.gguf"], "'coder' is there twice"),
        (["--models", ""], "'' is none of the agents"),
        (["--rounds", "0"], "--rounds"),
        (["--no-such-option"], "--no-such-option"),
        (["superfluous"], "superfluous"),
    ],
)
def test_command_line_that_makes_no_sense(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["demo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentmux: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dance"]) == 2
    assert capsys.readouterr().err.startswith("agentmux: error: No such command")


def test_missing_model_file_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.gguf"
    models = ",".join(f"{name}={missing}" for name in ("planner", "coder", "critic"))
    assert run(["demo", "--models", models, *OWN]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"agentmux: error: cannot read the model {missing}: No such file or directory\n"


def test_help_says_when_it_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "at least nine in ten of the built-in tasks passed" in text


def test_bug_is_one_line_too(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "as_document", lambda *_: {}["bug"])
    assert command(*OWN, "--json") == 1
    err = capsys.readouterr().err
    assert err.startswith("agentmux: error: internal error, KeyError: 'bug'")
    assert err.count("\n") == 1
