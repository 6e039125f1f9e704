"""OpenTelemetry's metrics: instruments, units, attributes and sums, as a reader of the SDK gets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric

from agentmux import Agent, Run, Runtime, pipeline, tool
from agentmux.messages import (
    AgentFinished,
    AgentStarted,
    RunErrored,
    RunResult,
    RunStarted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnNumbers,
    TurnQueued,
    Usage,
)
from agentmux.telemetry.measures import Measures
from agentmux.testing import Failure, FakeClock, ScriptedEngine

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "agentmux"}


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    made = MeterProvider(metric_readers=[reader])
    yield made
    made.shutdown()


def read(reader: InMemoryMetricReader) -> dict[str, Metric]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def points(metric: Metric, **wanted: str) -> list[Any]:
    labels = {name.replace("__", "."): value for name, value in wanted.items()}
    return [point for point in metric.data.data_points if labels.items() <= dict(point.attributes or {}).items()]


def sums(metric: Metric) -> dict[tuple[tuple[str, Any], ...], tuple[int, float]]:
    """[attributes] how many, and their sum."""
    found = {}
    for point in metric.data.data_points:
        assert isinstance(point, HistogramDataPoint)
        found[tuple(sorted((point.attributes or {}).items()))] = point.count, point.sum
    return found


@tool
def double(n: int) -> int:
    """Twice a number."""
    if n < 0:
        raise ValueError("negative")
    return 2 * n


class Coder(Agent):
    """Writes."""

    model = "coder"


@pipeline
async def work(ctx: Run, task: str) -> str:
    """A turn, and a tool's call."""
    await ctx.call(double, n=2)
    return await ctx.run(Coder, task)


async def test_a_runs_turns_agents_and_tools_are_measured(
    reader: InMemoryMetricReader, provider: MeterProvider
) -> None:
    engine = ScriptedEngine({"coder": ["one two three", Failure("engine", "lost")]})
    measures = Measures(provider.get_meter("test"))
    async with Runtime(models=engine.models, engine=engine, observers=[measures], config=False) as mux:
        result = await mux.run(work, "add")
        with pytest.raises(Exception, match="lost"):
            await mux.run(work, "add")
    found = read(reader)
    usage = found["gen_ai.client.token.usage"]
    assert usage.unit == "{token}"
    (turn,) = result.turns
    labels = {**CHAT, "gen_ai.request.model": "coder", "gen_ai.response.model": "coder"}
    assert sums(usage) == {
        tuple(sorted({**labels, "gen_ai.token.type": "input"}.items())): (1, turn.prompt_tokens),
        tuple(sorted({**labels, "gen_ai.token.type": "output"}.items())): (1, 3),
    }
    for name in ("gen_ai.client.operation.duration", "gen_ai.server.request.duration"):
        assert found[name].unit == "s"
        assert [point.count for point in points(found[name], error__type="_OTHER")] == [1]
        assert sum(point.count for point in points(found[name])) == 2
    for name in ("gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"):
        (point,) = points(found[name])
        assert (point.count, dict(point.attributes)) == (1, labels)
    agents = {
        point.attributes["gen_ai.agent.name"]: point.count
        for point in points(found["gen_ai.invoke_agent.duration"])
        if "error.type" not in point.attributes
    }
    assert agents == {"work": 1, "Coder": 1}
    (tools,) = points(found["gen_ai.execute_tool.duration"])
    assert (tools.count, tools.attributes["gen_ai.tool.name"]) == (2, "double")
    assert not measures._queued_s
    assert not measures._runs


def test_numbers_and_durations_are_those_of_the_turn(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    clock = FakeClock()
    measures = Measures(provider.get_meter("test"), clock.now)
    numbers = TurnNumbers(
        1,
        "A",
        "m",
        "stop",
        5,
        0,
        11,
        0.5,
        "",
        0.0,
        0.25,
        2.0,
        0.25,
        upload_wait_s=0.125,
        uploaded_bytes=7,
        switched=True,
    )
    measures(TurnQueued("r", "A", 1, 1, "m", 1, ""))
    clock.advance(3.0)
    measures(TurnCompleted("r", "A", 1, 1, "m", "x", numbers))
    measures(TurnQueued("r", "A", 1, 2, "m", 1, ""))
    clock.advance(1.0)
    measures(TurnCancelled("r", "A", 1, 2, "m"))
    measures(TurnErrored("r", "A", 1, 3, "m", "refused at once"))
    found = read(reader)

    def total(name: str, **labels: str) -> float:
        return sum(
            point.sum if isinstance(point, HistogramDataPoint) else point.value
            for point in points(found[name], **labels)
        )

    assert total("gen_ai.client.operation.duration") == 4.0
    assert total("gen_ai.client.operation.duration", error__type="_OTHER") == 0.0
    assert total("gen_ai.server.time_to_first_token") == 0.75
    assert total("gen_ai.server.time_per_output_token") == pytest.approx(0.2)
    assert total("agentmux.turn.queue_wait", gen_ai__agent__name="A") == 0.5
    assert total("agentmux.turn.upload_wait") == 0.125
    assert total("agentmux.turn.uploaded") == 7
    assert total("agentmux.turn.switches") == 1
    assert [found[name].unit for name in ("agentmux.turn.uploaded", "agentmux.turn.queue_wait")] == ["By", "s"]
    (point,) = points(found["gen_ai.server.time_per_output_token"])
    assert point.explicit_bounds[:3] == (0.01, 0.025, 0.05)


def test_what_the_journal_answered_is_not_measured_again(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    measures = Measures(provider.get_meter("test"))
    measures(TurnCompleted("r", "A", 1, 1, "m", "x", TurnNumbers(1, "A", "m", replayed=True)))
    assert reader.get_metrics_data() is None


def test_what_a_run_leaves_behind_is_forgotten(provider: MeterProvider) -> None:
    measures = Measures(provider.get_meter("test"))
    measures(RunStarted("r", "A", 0))
    measures(AgentStarted("r", "A", 1, 0))
    measures(RunErrored("r", "A", 0, "no", RunResult("r", None, Usage(), (), ())))
    measures(AgentFinished("r", "A", 1, None))
    assert not measures._runs


def test_only_where_a_provider_of_metrics_is_set() -> None:
    code = """
import opentelemetry.metrics
from agentmux.telemetry import observers
print(len(observers()))
from opentelemetry.sdk.metrics import MeterProvider
opentelemetry.metrics.set_meter_provider(MeterProvider())
print([type(one).__name__ for one in observers()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0", "['Measures']"]
