"""``agentmux demo``: tasks through planner, coder and critic, three LLMs on a budget that is too small for them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import click

from agentmux.agents import Solution, Task, builtin_tasks, run_examples, solve
from agentmux.agents.code_loop import DEFAULT_ROUNDS
from agentmux.cli.live_screen import wants_live
from agentmux.cli.opening import first_unless_configured
from agentmux.cli.options import ExampleExpression, ModelFiles, Size
from agentmux.cli.output import Output
from agentmux.cli.signals import run_to_end
from agentmux.cli.summary import Outcome, Totals, as_document, as_tables, size_text
from agentmux.cli.tracing import TRACE, tracing
from agentmux.cli.views import Lines, Unseen, View, Watched
from agentmux.config import ModelSpec
from agentmux.errors import AgentmuxError, ModelError, ModelNotFound, NeverFits, OutputInvalid
from agentmux.messages import Event, RunFinished, TurnCompleted
from agentmux.models import BUNDLED_MODELS, bundled_models
from agentmux.runtime import Runtime

BUDGET_SHARE = 0.4
"""Default budget, as a share of the model files' size."""
PASS_SHARE = 0.9
"""Share of the built-in tasks that must pass."""
SLOTS = 4
"""Turns of one bundled model that may decode in one batch."""
OWN_SLOTS = 2
"""The same for a model of the user's, whose context may be hundreds of MiB a slot."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a demo run is made of."""

    tasks: tuple[Task, ...]
    models: Mapping[str, ModelSpec]
    models_bytes: int
    budget_bytes: int
    device: str
    rounds: int
    trace: Path | None


class Totalled:
    """Numbers that add up while the tasks run."""

    def __init__(self) -> None:
        self.generated_tokens = 0
        self.prompt_tokens = 0

    def add(self, event: TurnCompleted) -> None:
        """Book a turn."""
        self.generated_tokens += event.numbers.generated_tokens
        self.prompt_tokens += event.numbers.prompt_tokens


@click.command()
@click.option("--task", "description", metavar="TEXT", help="A task of your own: what the Python function f shall do.")
@click.option(
    "--example",
    "examples",
    type=ExampleExpression(),
    multiple=True,
    help="An example for your task, such as 'f([1, 2]) == 3'. Repeatable, at least one.",
)
@click.option(
    "--models",
    "files",
    type=ModelFiles(BUNDLED_MODELS),
    default=None,
    help="GGUF files instead of the bundled models: planner=a.gguf,coder=b.gguf,critic=c.gguf (or some of them).",
)
@click.option(
    "--vram",
    type=Size(),
    default=None,
    help="Budget for all models together, such as 8GiB. Default: 40 % of the three files' size.",
)
@click.option("--device", default=None, help="cpu, auto, or a ggml device such as CUDA0. Default: see below.")
@click.option("--rounds", type=click.IntRange(1, 20), default=DEFAULT_ROUNDS, show_default=True, help="For each task.")
@TRACE
@click.option("--plain", is_flag=True, help="Plain lines at a terminal, too, instead of a live view.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end, and nothing else.")
def demo(
    description: str | None,
    examples: tuple[str, ...],
    files: dict[str, str] | None,
    vram: int | None,
    device: str | None,
    rounds: int,
    trace: Path | None,
    plain: bool,
    as_json: bool,
) -> int:
    """Let a planner, a coder and a critic solve programming tasks, each on its own LLM.

    Without --task, the built-in tasks are solved, several at once; a task passes when the program is right on its
    examples and on hidden ones. Exit status 0: at least nine in ten of the built-in tasks passed, or your own task
    did, and nothing failed.

    Device: the bundled models run on the CPU by default, because they are smaller than what a GPU's driver takes for
    itself; with --models for all three, or with --vram, the default is auto (the first GPU, else the CPU).
    """
    tasks = _tasks(description, examples)
    specs = _specs(files or {}, len(tasks))
    models_bytes = sum(_file_bytes(spec) for spec in specs.values())
    own = vram is not None or len(files or {}) == len(BUNDLED_MODELS)
    setting = Setting(
        tasks=tasks,
        models=specs,
        models_bytes=models_bytes,
        budget_bytes=vram or max(1, int(models_bytes * BUDGET_SHARE)),
        device=device or ("auto" if own else "cpu"),
        rounds=rounds,
        trace=trace,
    )
    output = Output()
    view = _view(setting, output, as_json, plain)
    outcomes, totals = run_to_end(_run(setting, view), view.restore)
    passed = sum(outcome.passed for outcome in outcomes)
    if as_json:
        output.line(json.dumps(as_document(outcomes, totals)))
    else:
        for table in as_tables(outcomes, totals):
            output.render(table)
    _raise_first(outcomes)
    return 0 if passed >= (PASS_SHARE * len(tasks) if description is None else 1) else 1


def _tasks(description: str | None, examples: tuple[str, ...]) -> tuple[Task, ...]:
    if description is None:
        if examples:
            raise click.UsageError("--example belongs to a --task")
        return builtin_tasks()
    if not description.strip():
        raise click.UsageError("--task is empty")
    if not examples:
        raise click.UsageError("--task needs at least one --example, such as --example 'f([1, 2]) == 3'")
    return (Task(description.strip(), examples),)


def _specs(files: Mapping[str, str], tasks: int) -> dict[str, ModelSpec]:
    bundled = bundled_models() if len(files) < len(BUNDLED_MODELS) else {}
    own = {name: ModelSpec(path, slots=min(OWN_SLOTS, tasks)) for name, path in files.items()}
    slots = min(SLOTS, tasks)
    return {name: own.get(name) or dataclasses.replace(bundled[name], slots=slots) for name in BUNDLED_MODELS}


def _file_bytes(spec: ModelSpec) -> int:
    try:
        return os.stat(spec.path).st_size
    except OSError as error:
        raise ModelNotFound(f"cannot read the model {os.fspath(spec.path)}: {error.strerror}") from None


def _view(setting: Setting, output: Output, as_json: bool, plain: bool) -> View:
    if as_json:
        return Unseen()
    share = 100 * setting.budget_bytes / max(1, setting.models_bytes)
    sizes = f"{size_text(setting.models_bytes)} in a budget of {size_text(setting.budget_bytes)} ({share:.0f} %)"
    title = f"{len(setting.tasks)} task(s), {len(setting.models)} models of {sizes}"
    output.line(title)
    return Watched(title) if not plain and wants_live(output, os.environ) else Lines(output)


def _raise_first(outcomes: list[Outcome]) -> None:
    for number, outcome in enumerate(outcomes, start=1):
        if outcome.error is not None:
            raise AgentmuxError(f"task {number}: {outcome.error}") from outcome.error


async def _run(setting: Setting, view: View) -> tuple[list[Outcome], Totals]:
    """Solve all tasks at once, each in a run of its own; their turns meet in the scheduler."""
    totalled = Totalled()
    with tracing(setting.trace) as traced:
        async with _runtime(setting, traced.observers) as mux:
            begin = time.perf_counter()
            with traced.sampling(mux.stats):
                async with view.open(mux), asyncio.TaskGroup() as group:
                    running = [
                        group.create_task(_solve(mux, setting, number, view, totalled))
                        for number in range(1, len(setting.tasks) + 1)
                    ]
            elapsed_s = time.perf_counter() - begin
            stats = mux.stats().engine
    totals = Totals(
        engine=stats,
        elapsed_s=elapsed_s,
        tokens=totalled.generated_tokens,
        prompt_tokens=totalled.prompt_tokens,
        models_bytes=setting.models_bytes,
        budget_bytes=setting.budget_bytes,
    )
    return [task.result() for task in running], totals


def _runtime(setting: Setting, observers: Sequence[Callable[[Event], None]]) -> Runtime:
    return Runtime(
        dict(setting.models),
        wait_for_models=first_unless_configured(),
        vram=setting.budget_bytes,
        device=setting.device,
        observers=observers,
    )


async def _solve(mux: Runtime, setting: Setting, number: int, view: View, totalled: Totalled) -> Outcome:
    """One task; its errors are its outcome's, unless it is the only one."""
    task, alone = setting.tasks[number - 1], len(setting.tasks) == 1
    begin = time.perf_counter()
    solution: Solution | None = None
    hidden_passed: bool | None = None
    problem: AgentmuxError | None = None
    try:
        async with aclosing(mux.stream(solve, task.description, task.examples, setting.rounds)) as events:
            async for event in events:
                view.event(number, event)
                if isinstance(event, TurnCompleted):
                    totalled.add(event)
                if isinstance(event, RunFinished) and isinstance(event.result.output, Solution):
                    solution = event.result.output
        if solution and task.hidden:
            hidden_passed = (await run_examples(solution.code, task.hidden)).passed
    except OutputInvalid as error:
        problem = error
    except (ModelError, NeverFits):  # no task can be solved
        raise
    except AgentmuxError as error:
        if alone:  # nothing else to go on with, and nothing to put into a table
            raise
        problem = error
    outcome = Outcome(task.description, solution, hidden_passed, time.perf_counter() - begin, problem)
    view.outcome(number, outcome)
    return outcome
