"""Traces by OpenTelemetry, where the application has set it up; otherwise nothing is imported and nothing is done.

Telemetry looks at the events of runs and at nothing else: it is a callable that a runtime calls with each of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from agentmux.messages import Event

__all__ = ["observers"]

_PROVIDER_VARIABLE = "OTEL_PYTHON_TRACER_PROVIDER"


def observers() -> tuple[Callable[[Event], None], ...]:
    """What a runtime is to call with each event of each run: within ``emit``, in the order of the events.

    Empty where OpenTelemetry is not installed or no tracer provider is set. Ask when the runtime is opened, and call
    each with events of that runtime only. They expect ``AgentStarted`` and the agent's end to be reported by the
    coroutine that runs the agent (so too for tools), because the span is the current one in between.
    """
    # Who sets a provider has imported the API, or named one for it to load. So where it is installed and not used, it
    # costs no import either.
    if "opentelemetry.trace" not in sys.modules and not os.environ.get(_PROVIDER_VARIABLE):
        return ()
    try:
        from agentmux.telemetry.spans import Spans, tracer
    except ImportError:
        return ()
    found = tracer()
    return () if found is None else (Spans(found),)
