"""Traces and metrics by OpenTelemetry, where the application has set it up; otherwise nothing is imported nor done.

Telemetry looks at the events of runs and at nothing else: it is callables that a runtime calls with each of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from agentmux.messages import Event

__all__ = ["observers"]

Observer = Callable[[Event], None]


def observers() -> tuple[Observer, ...]:
    """What a runtime is to call with each event of each run: within ``emit``, in the order of the events.

    Empty where OpenTelemetry is not installed or no provider is set, of traces or of metrics. Ask when the runtime is
    opened, and call each with events of that runtime only. They expect ``AgentStarted`` and the agent's end to be
    reported by the coroutine that runs the agent (so too for tools), because the span is the current one in between.
    """
    return (*_spans(), *_measures())


def _spans() -> tuple[Observer, ...]:
    if not _is_used("opentelemetry.trace", "OTEL_PYTHON_TRACER_PROVIDER"):
        return ()
    try:
        from agentmux.telemetry.spans import Spans, tracer
    except ImportError:
        return ()
    found = tracer()
    return () if found is None else (Spans(found),)


def _measures() -> tuple[Observer, ...]:
    if not _is_used("opentelemetry.metrics", "OTEL_PYTHON_METER_PROVIDER"):
        return ()
    try:
        from agentmux.telemetry.measures import Measures, meter
    except ImportError:
        return ()
    found = meter()
    return () if found is None else (Measures(found),)


def _is_used(module: str, variable: str) -> bool:
    """Who sets a provider has imported the API, or named one for it to load. So where it is installed and not used, it
    costs no import either."""
    return module in sys.modules or bool(os.environ.get(variable))
