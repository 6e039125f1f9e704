"""What a demo run came to: as tables for people, as one JSON document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from agentmux.agents import Solution
from agentmux.cli.output import printable
from agentmux.engine.base import EngineStats
from agentmux.errors import AgentmuxError, OutputInvalid


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one task ended."""

    description: str
    solution: Solution | None
    """None if the run ended with an error."""
    hidden_passed: bool | None
    """None where there are no hidden examples, or nothing to run on them."""
    elapsed_s: float
    problem: AgentmuxError | None = None

    @property
    def passed(self) -> bool:
        """Right on the examples, and on the hidden ones where there are any."""
        return self.solution is not None and self.solution.passed and self.hidden_passed is not False

    @property
    def error(self) -> AgentmuxError | None:
        """What failed. A model that gave no valid answer has failed its task only, which is no error."""
        return None if isinstance(self.problem, OutputInvalid) else self.problem

    @property
    def rounds(self) -> int:
        """How often the coder wrote."""
        return self.solution.rounds if self.solution else 0

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.problem is not None:
            return " ".join(f"ended: {self.problem}".split())
        if self.passed:
            return f"passed in {self.rounds} round(s), {self.elapsed_s:.1f} s"
        right = self.solution is not None and self.solution.passed
        reason = "right on its examples, wrong on hidden ones" if right else "wrong on its examples"
        return f"not passed in {self.rounds} round(s), {self.elapsed_s:.1f} s: {reason}"


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of the whole run."""

    engine: EngineStats
    elapsed_s: float
    tokens: int
    """Generated."""
    prompt_tokens: int
    models_bytes: int
    """Size of the model files."""
    budget_bytes: int

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens over the time from the first task's start to the last one's end."""
        return self.tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0


def as_document(outcomes: Sequence[Outcome], totals: Totals) -> dict[str, Any]:
    """The document of ``--json``. Bytes and seconds as their names say."""
    return {
        "tasks": [_task_document(outcome) for outcome in outcomes],
        "totals": {
            "tasks": len(outcomes),
            "passed": sum(outcome.passed for outcome in outcomes),
            "switches": totals.engine.switches,
            "bytes_paged": totals.engine.uploaded_bytes,
            "switch_wait_s": totals.engine.upload_wait_s,
            "tokens": totals.tokens,
            "prompt_tokens": totals.prompt_tokens,
            "tokens_per_s": totals.tokens_per_s,
            "elapsed_s": totals.elapsed_s,
            "device": totals.engine.device,
            "arena_bytes": totals.engine.arena_bytes,
            "budget_bytes": totals.budget_bytes,
            "models_bytes": totals.models_bytes,
        },
    }


def _task_document(outcome: Outcome) -> dict[str, Any]:
    solution = outcome.solution
    return {
        "description": outcome.description,
        "code": solution.code if solution else None,
        "passed": outcome.passed,
        "rounds": outcome.rounds,
        "examples_passed": solution is not None and solution.passed,
        "hidden_passed": outcome.hidden_passed,
        "approved": solution.verdict.approve if solution else None,
        "elapsed_s": outcome.elapsed_s,
        "error": None if outcome.problem is None else str(outcome.problem),
    }


def as_tables(outcomes: Sequence[Outcome], totals: Totals) -> Iterator[Table]:
    """The table of tasks, and the one of totals."""
    tasks = Table(box=box.SIMPLE_HEAD, expand=True)
    tasks.add_column("task", justify="right")
    tasks.add_column("description", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("rounds", "passed", "time"):
        tasks.add_column(name, justify="right", no_wrap=True)
    for number, outcome in enumerate(outcomes, start=1):
        passed = Text("yes", "green") if outcome.passed else Text("no", "red")
        text = Text(printable(" ".join(outcome.description.split())))
        tasks.add_row(str(number), text, str(outcome.rounds), passed, f"{outcome.elapsed_s:.1f} s")
    yield tasks
    engine = totals.engine
    sums = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    sums.add_row("passed", f"{sum(outcome.passed for outcome in outcomes)} of {len(outcomes)}")
    sums.add_row("tokens", f"{totals.tokens} generated, {totals.tokens_per_s:.1f} tokens/s")
    sums.add_row("switches", f"{engine.switches} between models")
    sums.add_row(
        "bytes paged",
        f"{size_text(engine.uploaded_bytes)}, {_times(engine.uploaded_bytes, totals.models_bytes)} the models",
    )
    sums.add_row("waited for a switch", f"{engine.upload_wait_s:.2f} s of {totals.elapsed_s:.1f} s")
    arena = f"{size_text(engine.arena_bytes)} arena on {engine.device}"
    sums.add_row("memory", f"{arena}, budget {size_text(totals.budget_bytes)}, models {size_text(totals.models_bytes)}")
    yield sums


def _times(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.1f} times"


def size_text(size_bytes: float) -> str:
    """Bytes for people, in powers of 1024."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size_bytes < 1024 or unit == "GiB":
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError
