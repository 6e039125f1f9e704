"""By what a durable run knows its steps again: digests of all that determines a step's outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from agentmux.turn import TurnSpec


def turn_key(spec: TurnSpec, agent: str) -> str:
    """Digest of all that determines a turn's answer."""
    sampling = spec.sampling
    parts: Mapping[str, Any] = {
        "agent": agent,
        "model": spec.model,
        "prompt": spec.prompt,
        "max_tokens": spec.max_tokens,
        "sampling": [getattr(sampling, name) for name in sampling.__dataclass_fields__],
        "grammar": [spec.grammar, spec.grammar_after],
        "stop": spec.stop,
        "ignore_eos": spec.ignore_eos,
    }
    return digest("turn", parts)


def tool_key(name: str, arguments: str, agent: str) -> str:
    """Digest of all that determines a tool's call."""
    return digest("tool", {"agent": agent, "name": name, "arguments": arguments})


def digest(kind: str, parts: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of the parts as JSON."""
    return hashlib.sha256(json.dumps([kind, parts], sort_keys=True).encode()).hexdigest()
