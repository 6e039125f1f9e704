"""``agentmux bench scheduler``: its table, its document, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentmux.bench.scheduler import POLICIES, SchedulerReport
from agentmux.bench.simulator_workloads import WORKLOADS, make_workload
from agentmux.cli.main import run
from agentmux.errors import ConfigError


def test_everything_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "scheduler", "--json", "--seed", "5"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = SchedulerReport.model_validate_json(out)
    assert [(one.workload, one.policy) for one in report.results] == [(w, p) for w in WORKLOADS for p in POLICIES]
    assert report.seed == 5
    assert report.workloads == tuple(make_workload(name, 5) for name in WORKLOADS)
    assert report.machine.cores > 0
    assert report.versions.agentmux
    by_policy = {one.policy: one for one in report.results if one.workload == "three"}
    assert by_policy["agentmux"].optimum_switches == 2
    assert by_policy["agentmux"].switches < by_policy["fifo"].switches


def test_the_same_seed_gives_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for seed in ("1", "1", "2"):
        assert run(["bench", "scheduler", "--json", "--seed", seed, "--workload", "uneven"]) == 0
        results.append(SchedulerReport.model_validate_json(capsys.readouterr().out).results)
    assert results[0] == results[1] != results[2]


def test_table_file_and_a_workload_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, target = tmp_path / "own.json", tmp_path / "report.json"
    own = make_workload("pipelines", 1).model_copy(update={"name": "own one"})
    source.write_text(own.model_dump_json())
    assert run(["bench", "scheduler", "--workload", str(source), "--output", str(target)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("own one") == len(POLICIES)
    assert SchedulerReport.model_validate(json.loads(target.read_text())).workloads == (own,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no workload"),
        ('{"name": "x", "models": {}, "runs": [{"turns": [{"model": "a"}]}]}', "not among `models`: a"),
        ('{"name": "x", "models": {"a": {"slots": 0}}, "runs": []}', "models.a.slots"),
        ('{"name": "x", "models": {}, "runs": [], "more": 1}', "more"),
        (None, "cannot read"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "w.json"
    if content is not None:
        path.write_text(content)
    assert run(["bench", "scheduler", "--workload", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentmux: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_unknown_workload() -> None:
    with pytest.raises(ConfigError, match="three, pipelines"):
        make_workload("none", 1)


def test_a_workload_of_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text('{"name": "empty", "models": {}, "runs": []}')
    assert run(["bench", "scheduler", "--workload", str(path), "--json"]) == 0
    results = SchedulerReport.model_validate_json(capsys.readouterr().out).results
    assert all(one.makespan_s == one.switches == 0 for one in results)
