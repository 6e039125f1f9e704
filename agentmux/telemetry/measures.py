"""The metrics of runs. Importing this module imports OpenTelemetry's API."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry import metrics
from opentelemetry.metrics import Histogram, Meter

from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Event,
    RunErrored,
    RunFinished,
    ToolErrored,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnNumbers,
    TurnQueued,
)
from agentmux.telemetry import instruments
from agentmux.telemetry.conventions import ERROR_TYPE, PROVIDER, UNKNOWN_ERROR
from agentmux.telemetry.instruments import Instrument

_Labels = dict[str, str]


def meter() -> Meter | None:
    """agentmux's meter, or None where the application has set no provider."""
    provider = metrics.get_meter_provider()
    # The API's own providers stand in for one that is not there.
    if type(provider).__module__.startswith("opentelemetry.metrics"):
        return None
    return provider.get_meter("agentmux")


@dataclass(slots=True)
class _Run:
    """Seconds at which agents of a run began."""

    agents: dict[int, float] = field(default_factory=dict)


class Measures:
    """An observer that measures turns, agents and tool calls.

    Args:
        meter: makes the instruments.
        now_s: monotonic seconds.
    """

    def __init__(self, meter: Meter, now_s: Callable[[], float] = time.perf_counter) -> None:
        def histogram(of: Instrument) -> Histogram:
            return meter.create_histogram(of.name, of.unit, of.text, explicit_bucket_boundaries_advisory=of.bounds)

        self._now_s = now_s
        self._queued_s: dict[int, float] = {}
        self._runs: dict[str, _Run] = {}
        self._tokens = histogram(instruments.TOKEN_USAGE)
        self._operation_s = histogram(instruments.OPERATION_DURATION)
        self._request_s = histogram(instruments.REQUEST_DURATION)
        self._first_token_s = histogram(instruments.TIME_TO_FIRST_TOKEN)
        self._token_s = histogram(instruments.TIME_PER_OUTPUT_TOKEN)
        self._agent_s = histogram(instruments.AGENT_DURATION)
        self._tool_s = histogram(instruments.TOOL_DURATION)
        self._queue_wait_s = histogram(instruments.QUEUE_WAIT)
        self._upload_wait_s = histogram(instruments.UPLOAD_WAIT)
        self._uploaded_bytes = meter.create_counter(*instruments.UPLOADED)
        self._switches = meter.create_counter(*instruments.SWITCHES)

    def __call__(self, event: Event) -> None:
        """Take notice of an event."""
        match event:
            case TurnQueued():
                self._queued_s[event.turn] = self._now_s()
            case TurnCompleted() | TurnCancelled() | TurnErrored():
                self._turn_ended(event)
            case AgentStarted():
                self._runs.setdefault(event.run, _Run()).agents[event.span] = self._now_s()
            case AgentFinished() | AgentErrored():
                self._agent_ended(event)
            case ToolReturned() | ToolErrored():
                self._tool_ended(event)
            case RunFinished() | RunErrored():
                self._runs.pop(event.run, None)
            case _:
                pass

    def _turn_ended(self, event: TurnCompleted | TurnCancelled | TurnErrored) -> None:
        if isinstance(event, TurnCompleted) and event.numbers.replayed:
            return  # it was measured when it was computed
        now_s = self._now_s()
        # One that was refused at once was never queued.
        duration_s = now_s - self._queued_s.pop(event.turn, now_s)
        labels = _of_model(event.model)
        ended = labels | _error(event.error if isinstance(event, TurnErrored) else None)
        self._operation_s.record(duration_s, ended)
        self._request_s.record(duration_s, ended)
        if isinstance(event, TurnCompleted):
            self._computed(event.numbers, labels | {"gen_ai.response.model": event.numbers.model})

    def _computed(self, numbers: TurnNumbers, labels: _Labels) -> None:
        self._tokens.record(numbers.prompt_tokens, labels | {"gen_ai.token.type": "input"})
        self._tokens.record(numbers.generated_tokens, labels | {"gen_ai.token.type": "output"})
        if numbers.generated_tokens:
            self._first_token_s.record(numbers.queue_wait_s + numbers.time_to_first_token_s, labels)
        if numbers.generated_tokens > 1:
            self._token_s.record(numbers.decode_s / (numbers.generated_tokens - 1), labels)
        own = {"gen_ai.request.model": numbers.model, "gen_ai.agent.name": numbers.agent}
        self._queue_wait_s.record(numbers.queue_wait_s, own)
        self._upload_wait_s.record(numbers.upload_wait_s, own)
        self._uploaded_bytes.add(numbers.uploaded_bytes, own)
        self._switches.add(int(numbers.switched), own)

    def _agent_ended(self, event: AgentFinished | AgentErrored) -> None:
        run = self._runs.get(event.run)
        began_s = None if run is None else run.agents.pop(event.span, None)
        if began_s is not None:
            error = event.error if isinstance(event, AgentErrored) else None
            self._agent_s.record(self._now_s() - began_s, {"gen_ai.agent.name": event.agent} | _error(error))

    def _tool_ended(self, event: ToolReturned | ToolErrored) -> None:
        labels = {
            "gen_ai.tool.name": event.call.name,
            "gen_ai.tool.type": "function",
            "gen_ai.agent.name": event.agent,
        }
        error = event.error if isinstance(event, ToolErrored) else None
        self._tool_s.record(event.elapsed_s, labels | _error(error))


def _of_model(model: str) -> _Labels:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
    }


def _error(error: str | None) -> _Labels:
    return {} if error is None else {ERROR_TYPE: UNKNOWN_ERROR}
