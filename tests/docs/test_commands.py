"""The commands' outputs in README and their fields in docs/commands.md are the real ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from agentmux.bench.report import Report
from agentmux.bench.scheduler import SchedulerReport, bench_scheduler
from agentmux.bench.simulator_workloads import WORKLOADS, make_workload
from agentmux.inspection import Inspection
from agentmux.models.listing import Row

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"^```console\n\$ \.venv/bin/agentmux ([^\n]+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def output(*arguments: str) -> str:
    run = [sys.executable, "-c", "from agentmux.cli.main import main; main()", *arguments, "--device", "cpu"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(command: str) -> tuple[list[str], str]:
    """Arguments and output of the one block of README that shows this command."""
    (found,) = [(line.split(), text) for line, text in CONSOLE if line.startswith(command)]
    return found


def test_inspect_says_what_readme_shows() -> None:
    arguments, expected = shown("models inspect")
    assert output(*arguments) == expected


def test_bench_prints_what_readme_shows_but_for_the_numbers() -> None:
    def shape(text: str) -> list[list[str]]:
        table = text.splitlines()[1:]  # without the machine
        return [re.sub(r"[\d.()─-]+", "", line).split() for line in table]

    arguments, expected = shown("bench engine")
    short = ("--prompt-tokens", "16", "--tokens", "4", "--repetitions", "1")
    assert shape(output(*arguments, *short)) == shape(expected)


def test_the_documents_fields_are_documented() -> None:
    listing, rest = COMMANDS.split("## `agentmux models inspect")
    assert all(f"`{name}`" in listing for name in Row.model_fields)
    inspect, rest = rest.split("## `agentmux bench engine")
    bench, rest = rest.split("## The framework's own cost")
    _, scheduler = rest.split("## `agentmux bench scheduler")
    assert all(f"`{name}`" in inspect for name in Inspection.model_fields)
    assert all(f"`{name}`" in bench for name in Report.model_fields)
    assert all(f"`{name}`" in scheduler for name in SchedulerReport.model_fields)
    assert all(f"`{name}`" in scheduler for name in WORKLOADS)


def test_the_schedulers_results_are_those_in_the_docs() -> None:
    stored = SchedulerReport.model_validate_json((ROOT / "docs" / "benchmarks" / "scheduler.json").read_bytes())
    fresh = bench_scheduler((make_workload(name, stored.seed) for name in WORKLOADS), stored.seed, ())
    assert fresh.workloads == stored.workloads
    assert fresh.results == stored.results
