"""Traces: spans, their parents and attributes, and nothing at all where nobody has set up OpenTelemetry."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from agentmux import (
    Agent,
    Event,
    QueueFull,
    Run,
    RunErrored,
    RunFinished,
    RunResult,
    RunStarted,
    Runtime,
    SamplingParams,
    ToolCall,
    ToolCalled,
    ToolErrored,
    ToolReturned,
    Usage,
    pipeline,
)
from agentmux.messages import AgentFinished, AgentStarted
from agentmux.telemetry.conventions import CAPTURE_VARIABLE
from agentmux.telemetry.spans import Spans
from agentmux.testing import Answer, Failure, FakeClock, Refusal, ScriptedEngine, settle

Mux = Callable[..., Runtime]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test")
    provider.shutdown()


@pytest.fixture
def observed(tracer: trace.Tracer) -> Mux:
    """Makes runtimes whose runs are observed."""

    def make(engine: ScriptedEngine, **settings: Any) -> Runtime:
        return Runtime(models=engine.models, engine=engine, observers=[Spans(tracer)], **settings)

    return make


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def tree(exporter: InMemorySpanExporter) -> list[tuple[str, str]]:
    """(parent's name, name) of all spans, in the order of their beginning."""
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    ordered = sorted(spans, key=lambda span: span.start_time or 0)
    return [(names[span.parent.span_id] if span.parent else "", span.name) for span in ordered]


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


class Planner(Agent):
    model = "planner"
    output = list[str]
    max_tokens = 99
    stop = ("END",)
    sampling = SamplingParams(temperature=0.5, top_k=3, top_p=0.5, seed=7)


class Coder(Agent):
    model = "coder"


@pipeline
async def write_code(ctx: Run, task: str) -> list[str]:
    plan = await ctx.run(Planner, task)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.run(Coder, step)) for step in plan]
    return [task.result() for task in tasks]


async def test_spans_are_nested_as_the_agents_are(
    observed: Mux, tracer: trace.Tracer, exporter: InMemorySpanExporter
) -> None:
    engine = ScriptedEngine({"planner": ['["one", "two"]'], "coder": ["1", "2"]})
    async with observed(engine) as mux:
        with tracer.start_as_current_span("request"):
            await mux.run(write_code, "count")
    assert sorted(tree(exporter)) == sorted(
        [
            ("", "request"),
            ("request", "invoke_agent write_code"),
            ("invoke_agent write_code", "invoke_agent Planner"),
            ("invoke_agent Planner", "chat planner"),
            ("invoke_agent write_code", "invoke_agent Coder"),
            ("invoke_agent Coder", "chat coder"),
            ("invoke_agent write_code", "invoke_agent Coder"),
            ("invoke_agent Coder", "chat coder"),
        ]
    )
    assert len({span.context.trace_id for span in exporter.get_finished_spans()}) == 1


async def test_without_a_current_span_each_run_is_a_trace_of_its_own(
    observed: Mux, exporter: InMemorySpanExporter
) -> None:
    engine = ScriptedEngine({"coder": ["1", "2"]})
    async with observed(engine) as mux:
        await asyncio.gather(mux.run(Coder, "a"), mux.run(Coder, "b"))
    assert len({span.context.trace_id for span in exporter.get_finished_spans()}) == 2
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_what_a_turns_span_says(observed: Mux, exporter: InMemorySpanExporter) -> None:
    engine = ScriptedEngine({"planner": [Answer('["a b"]', prompt_tokens=7)]})
    async with observed(engine) as mux:
        result = await mux.run(Planner, "a secret task")
    span = named(exporter, "chat planner")
    found = attributes(span)
    (numbers,) = result.turns
    assert found.pop("gen_ai.response.time_to_first_chunk") == numbers.queue_wait_s
    assert found.pop("agentmux.queue_wait_s") == numbers.queue_wait_s
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "agentmux",
        "gen_ai.agent.name": "Planner",
        "gen_ai.request.model": "planner",
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 3,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.model": "planner",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "agentmux.run": result.run,
        "agentmux.turn": 1,
        "agentmux.queue_position": 1,
        "agentmux.wait_reason": "",
        "agentmux.engine_wait_s": 0.0,
        "agentmux.prefill_s": 0.0,
        "agentmux.decode_s": 0.0,
        "agentmux.upload_wait_s": 0.0,
        "agentmux.uploaded_bytes": 0,
        "agentmux.switched": False,
        "agentmux.replayed": False,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert "secret" not in "".join(str(attributes(span)) for span in exporter.get_finished_spans())


async def test_content_only_where_the_environment_asks_for_it(
    observed: Mux, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE_VARIABLE, "span_only")
    async with observed(ScriptedEngine({"coder": ["an answer"]})) as mux:
        await mux.run(Coder, "a task")
    found = attributes(named(exporter, "chat coder"))
    (asked,) = json.loads(found["gen_ai.input.messages"])
    (answered,) = json.loads(found["gen_ai.output.messages"])
    assert (asked["role"], asked["parts"]) == ("user", [{"type": "text", "content": "a task\n\n"}])
    assert answered == {
        "role": "assistant",
        "parts": [{"type": "text", "content": "an answer"}],
        "finish_reason": "stop",
    }


@pytest.mark.parametrize("step", [Failure("engine", "it broke"), Refusal(RuntimeError("it broke"))])
async def test_failures_are_errors_all_the_way_up(observed: Mux, exporter: InMemorySpanExporter, step: Any) -> None:
    async with observed(ScriptedEngine({"coder": [step]})) as mux:
        with pytest.raises(Exception, match="it broke"):
            await mux.run(Coder, "task")
    for name in ("chat coder", "invoke_agent Coder"):
        span = named(exporter, name)
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "it broke")
        assert attributes(span)["error.type"] == "_OTHER"


async def test_a_turn_that_is_refused_at_once_has_a_span(observed: Mux, exporter: InMemorySpanExporter) -> None:
    engine = ScriptedEngine({"coder": [Answer("x", hold=True)]})
    async with observed(engine, queue_limit=0) as mux:
        first = asyncio.create_task(mux.run(Coder, "one"))
        await settle()
        with pytest.raises(QueueFull) as caught:
            await mux.run(Coder, "two")
        engine.release()
        await first
    refused, _ = [span for span in exporter.get_finished_spans() if span.name == "chat coder"]
    assert (refused.status.status_code, refused.status.description) == (StatusCode.ERROR, str(caught.value))


async def test_a_cancelled_turn_is_no_error(observed: Mux, exporter: InMemorySpanExporter) -> None:
    clock = FakeClock()
    async with observed(ScriptedEngine({"coder": [Answer("x", hold=True)]}), clock=clock) as mux:
        task = asyncio.create_task(mux.run(Coder, "task"))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    span = named(exporter, "chat coder")
    assert attributes(span)["gen_ai.response.finish_reasons"] == ("cancelled",)
    assert span.status.status_code is StatusCode.UNSET
    assert named(exporter, "invoke_agent Coder").status.status_code is StatusCode.ERROR


async def test_an_agents_own_spans_are_its_children(
    observed: Mux, tracer: trace.Tracer, exporter: InMemorySpanExporter
) -> None:
    class Fetcher(Agent):
        model = "coder"

        async def run(self, ctx: Run, text: str) -> str:
            with tracer.start_as_current_span("fetch"):
                return str(await ctx.run(Coder, text))

    async with observed(ScriptedEngine({"coder": ["x"]})) as mux:
        with tracer.start_as_current_span("request"):
            await mux.run(Fetcher, "task")
            assert trace.get_current_span().name == "request"  # type: ignore[attr-defined]
    assert ("invoke_agent Fetcher", "fetch") in tree(exporter)
    assert ("invoke_agent Fetcher", "invoke_agent Coder") in tree(exporter)


async def test_rejected_answers_are_noted(observed: Mux, exporter: InMemorySpanExporter) -> None:
    async with observed(ScriptedEngine({"planner": ["secret", "[]"]})) as mux:
        await mux.run(Planner, "task")
    (event,) = named(exporter, "invoke_agent Planner").events
    assert (event.name, dict(event.attributes or {})) == ("agentmux.output_retried", {"attempt": 1})


CALL = ToolCall("call-1", "search", '{"for": "secret"}')
RESULT: RunResult[object] = RunResult("r", "x", Usage(), (), ())
BEGIN: list[Event] = [RunStarted("r", "A", 0), AgentStarted("r", "A", 1, 0), ToolCalled("r", "A", 1, CALL)]


@pytest.mark.parametrize("content", [False, True])
def test_tools_have_spans(
    tracer: trace.Tracer, exporter: InMemorySpanExporter, content: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content:
        monkeypatch.setenv(CAPTURE_VARIABLE, "true")
    spans = Spans(tracer)
    end: list[Event] = [
        ToolReturned("r", "A", 1, CALL, "secret result", 0.5),
        AgentFinished("r", "A", 1, "x"),
        RunFinished("r", "A", 0, RESULT),
    ]
    for event in BEGIN + end:
        spans(event)
    assert tree(exporter) == [("", "invoke_agent A"), ("invoke_agent A", "execute_tool search")]
    found = attributes(named(exporter, "execute_tool search"))
    assert (found["gen_ai.operation.name"], found["gen_ai.tool.name"], found["gen_ai.tool.call.id"]) == (
        "execute_tool",
        "search",
        "call-1",
    )
    assert (found.get("gen_ai.tool.call.arguments"), found.get("gen_ai.tool.call.result")) == (
        ('{"for": "secret"}', "secret result") if content else (None, None)
    )


async def test_calls_that_a_pipeline_makes_at_the_same_time_have_a_span_each(
    observed: Mux, exporter: InMemorySpanExporter
) -> None:
    @pipeline
    async def work(ctx: Run) -> None:
        both = asyncio.Barrier(3)

        async def meet(n: int) -> None:
            await both.wait()

        await asyncio.gather(*(ctx.call(meet, n=n) for n in (1, 1, 2)))

    async with observed(ScriptedEngine({})) as mux:
        await mux.run(work)
    spans = [span for span in exporter.get_finished_spans() if span.name == "execute_tool meet"]
    assert len(spans) == 3
    assert all(span.status.status_code is not StatusCode.ERROR for span in spans)


def test_a_run_that_ends_ends_its_spans(tracer: trace.Tracer, exporter: InMemorySpanExporter) -> None:
    spans = Spans(tracer)
    for event in BEGIN[:2]:
        spans(event)
    spans(ToolCalled("r", "A", 1, CALL))
    spans(ToolErrored("r", "A", 1, CALL, "denied", 0.0))
    spans(RunErrored("r", "A", 0, "stopped", RunResult("r", None, Usage(), (), ())))
    spans(AgentFinished("r", "A", 1, "late"))
    assert named(exporter, "execute_tool search").status.description == "denied"
    assert named(exporter, "invoke_agent A").status.description == "the run ended before"
    assert not spans._runs


def in_a_fresh_process(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_nothing_is_imported_where_nobody_traces() -> None:
    code = """
import sys
from agentmux.telemetry import observers
print(observers() == (), any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert in_a_fresh_process(code) == ["True", "False"]


def test_nothing_is_done_without_a_provider_or_without_the_api() -> None:
    code = """
import sys
import opentelemetry.trace
from agentmux.telemetry import observers
print(observers() == ())
from opentelemetry.sdk.trace import TracerProvider
opentelemetry.trace.set_tracer_provider(TracerProvider())
print(len(observers()))
opentelemetry.trace.get_tracer_provider = None
for name in [name for name in sys.modules if name.startswith("agentmux.telemetry.")]:
    del sys.modules[name]
sys.modules["opentelemetry"] = None
print(observers() == ())
"""
    assert in_a_fresh_process(code) == ["True", "1", "True"]
