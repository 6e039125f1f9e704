"""What a turn's slice says of the turn."""

from __future__ import annotations

import math
from dataclasses import asdict

from agentmux.messages import TurnNumbers

_NAMED_ELSEWHERE = frozenset({"turn", "agent", "model", "replayed"})


def said_of(numbers: TurnNumbers) -> dict[str, object]:
    """Its numbers, those aside that the slice's name and beginning say."""
    said = {name: value for name, value in asdict(numbers).items() if name not in _NAMED_ELSEWHERE}
    return {name: value for name, value in said.items() if not isinstance(value, float) or math.isfinite(value)}
