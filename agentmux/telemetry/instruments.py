"""Names, units and bounds of OpenTelemetry's metrics for generative AI, and of agentmux's own.

They are of the same version of the conventions as the attributes in ``conventions``, and change as those do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a histogram is made of."""

    name: str
    unit: str
    text: str
    bounds: Sequence[float]
    """Upper bounds of the buckets, as the conventions have them."""


TOKEN_USAGE = Instrument(
    "gen_ai.client.token.usage",
    "{token}",
    "Number of input and output tokens used.",
    tuple(4**power for power in range(14)),
)
OPERATION_DURATION = Instrument("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _DURATIONS)
REQUEST_DURATION = Instrument(
    "gen_ai.server.request.duration",
    "s",
    "Generative AI server request duration such as time-to-last byte or last output token.",
    _DURATIONS,
)
TIME_TO_FIRST_TOKEN = Instrument(
    "gen_ai.server.time_to_first_token",
    "s",
    "Time to generate first token for successful responses.",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TIME_PER_OUTPUT_TOKEN = Instrument(
    "gen_ai.server.time_per_output_token",
    "s",
    "Time per output token generated after the first token for successful responses.",
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
AGENT_DURATION = Instrument(
    "gen_ai.invoke_agent.duration",
    "s",
    "Duration of an agent's or pipeline function's execution.",
    (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
)
TOOL_DURATION = Instrument("gen_ai.execute_tool.duration", "s", "Duration of a tool's execution.", _DURATIONS)
QUEUE_WAIT = Instrument("agentmux.turn.queue_wait", "s", "From a turn's submission to its admission.", _DURATIONS)
UPLOAD_WAIT = Instrument(
    "agentmux.turn.upload_wait", "s", "Time of a turn in which computing stood still for weights.", _DURATIONS
)
UPLOADED = ("agentmux.turn.uploaded", "By", "Weights of a turn's model that were uploaded while it ran.")
SWITCHES = ("agentmux.turn.switches", "{turn}", "Turns before whose first step another model had computed.")
"""Name, unit and description of counters."""
