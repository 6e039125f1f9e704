"""The spans of runs. Importing this module imports OpenTelemetry's API.

An agent's span is the current one while the agent runs, so what an application traces inside of it becomes its child,
and the caller's current span becomes the parent of the whole run. Turns begin and end wherever the scheduler and the
engine report it, outside of any agent's context, so their parent is looked up by the event's ``span``.
"""

from __future__ import annotations

import os
from contextvars import Token
from dataclasses import dataclass, field

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Event,
    OutputRetried,
    RunErrored,
    RunFinished,
    RunStarted,
    ToolCalled,
    ToolErrored,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnQueued,
)
from agentmux.telemetry import conventions
from agentmux.telemetry.conventions import Attributes


def tracer() -> Tracer | None:
    """agentmux's tracer, or None where the application has set no provider."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer("agentmux")


@dataclass(slots=True)
class _Open:
    """A span that has begun."""

    span: Span
    token: Token[Context] | None = None
    """Of the context in which it is the current one."""


@dataclass(slots=True)
class _Run:
    """The spans of a run that have begun and not ended."""

    caller: Context
    agents: dict[int, _Open] = field(default_factory=dict)
    turns: dict[int, _Open] = field(default_factory=dict)
    tools: dict[int, _Open] = field(default_factory=dict)
    """[identity of the call, which lives as long] Agents that ask the same make calls of the same id."""


class Spans:
    """An observer that makes a span of each agent, turn and tool call. Events of unknown runs have no effect."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._content = conventions.captures_content(os.environ)
        self._runs: dict[str, _Run] = {}
        self._handlers = {
            AgentStarted: self._agent_started,
            AgentFinished: self._agent_ended,
            AgentErrored: self._agent_ended,
            TurnQueued: self._turn_queued,
            TurnCompleted: self._turn_ended,
            TurnCancelled: self._turn_ended,
            TurnErrored: self._turn_ended,
            OutputRetried: self._output_retried,
            ToolCalled: self._tool_called,
            ToolReturned: self._tool_ended,
            ToolErrored: self._tool_ended,
            RunFinished: self._run_ended,
            RunErrored: self._run_ended,
        }

    def __call__(self, event: Event) -> None:
        """Take notice of an event."""
        if isinstance(event, RunStarted):
            self._runs[event.run] = _Run(contexts.get_current())
        elif (handler := self._handlers.get(type(event))) and (run := self._runs.get(event.run)):
            handler(run, event)  # type: ignore[operator]  # each handler is for its own kind of event

    def _agent_started(self, run: _Run, event: AgentStarted) -> None:
        # The parent's own context is not at hand where a task that it began runs this agent; its span is.
        opened = self._begin(run, event.parent, *conventions.agent_span(event))
        opened.token = contexts.attach(trace.set_span_in_context(opened.span))
        run.agents[event.span] = opened

    def _agent_ended(self, run: _Run, event: AgentFinished | AgentErrored) -> None:
        if opened := run.agents.pop(event.span, None):
            _end(opened, event.error if isinstance(event, AgentErrored) else None)

    def _turn_queued(self, run: _Run, event: TurnQueued) -> None:
        opened = self._turn(run, event)
        opened.span.set_attributes(conventions.chat_request(event, self._content))
        run.turns[event.turn] = opened

    def _turn_ended(self, run: _Run, event: TurnCompleted | TurnCancelled | TurnErrored) -> None:
        # One that was refused at once was never queued.
        opened = run.turns.pop(event.turn, None) or self._turn(run, event)
        if isinstance(event, TurnCompleted):
            opened.span.set_attributes(conventions.chat_response(event.numbers, event.text, self._content))
        elif isinstance(event, TurnCancelled):
            opened.span.set_attributes(conventions.chat_cancelled())
        _end(opened, event.error if isinstance(event, TurnErrored) else None)

    def _turn(self, run: _Run, event: TurnQueued | TurnCompleted | TurnCancelled | TurnErrored) -> _Open:
        return self._begin(run, event.span, *conventions.chat_span(event.run, event.agent, event.turn, event.model))

    def _output_retried(self, run: _Run, event: OutputRetried) -> None:
        if opened := run.agents.get(event.span):
            opened.span.add_event(conventions.OUTPUT_RETRIED, {"attempt": event.attempt})

    def _tool_called(self, run: _Run, event: ToolCalled) -> None:
        name, attributes = conventions.tool_span(event.run, event.agent, event.call, self._content)
        opened = self._begin(run, event.span, name, attributes)
        opened.token = contexts.attach(trace.set_span_in_context(opened.span))
        run.tools[id(event.call)] = opened

    def _tool_ended(self, run: _Run, event: ToolReturned | ToolErrored) -> None:
        if opened := run.tools.pop(id(event.call), None):
            if isinstance(event, ToolReturned):
                opened.span.set_attributes(conventions.tool_result(event.result, self._content))
            _end(opened, event.error if isinstance(event, ToolErrored) else None)

    def _run_ended(self, run: _Run, event: RunFinished | RunErrored) -> None:
        del self._runs[event.run]
        # What tasks left behind by the run have not ended: their later events find no run.
        for opened in (*run.tools.values(), *run.turns.values(), *run.agents.values()):
            opened.token = None  # that context is not this one
            _end(opened, "the run ended before")

    def _begin(self, run: _Run, parent: int, name: str, attributes: Attributes) -> _Open:
        above = run.agents.get(parent)
        context = run.caller if above is None else trace.set_span_in_context(above.span, run.caller)
        return _Open(self._tracer.start_span(name, context, attributes=attributes))


def _end(opened: _Open, error: str | None) -> None:
    if opened.token is not None:
        contexts.detach(opened.token)
    if error is not None:
        opened.span.set_status(Status(StatusCode.ERROR, error))
        opened.span.set_attribute(conventions.ERROR_TYPE, conventions.UNKNOWN_ERROR)
    opened.span.end()
