"""By what runs are known, and by what a durable one knows its steps again: digests of all that determines a step."""

from __future__ import annotations

import hashlib
import os
import time

from agentmux.sampling import SamplingParams
from agentmux.turn import TurnSpec

_SAMPLING = tuple(name for name in SamplingParams.__dataclass_fields__ if name != "logit_bias")


def new_id() -> str:
    """A run's id: eight hexadecimal digits of the second, by which runs are told apart at a glance and lie side by side
    in the journal's index, and 24 that are random."""
    return f"{int(time.time()):08x}{os.urandom(12).hex()}"


def turn_key(spec: TurnSpec, agent: str) -> str:
    """Digest of all that determines a turn's answer."""
    sampling = spec.sampling
    chosen = [getattr(sampling, name) for name in _SAMPLING]
    bias = sorted(sampling.logit_bias.items())
    grammar = (spec.grammar, spec.grammar_after, spec.show_special)
    return digest("turn", agent, spec.model, spec.prompt, spec.max_tokens, chosen, bias, grammar, spec.stop)


def tool_key(name: str, arguments: str, agent: str) -> str:
    """Digest of all that determines a tool's call."""
    return digest("tool", agent, name, arguments)


def digest(*parts: object) -> str:
    """Hexadecimal SHA-256 of texts, numbers, None, and lists and tuples of them, by their ``repr``: it is the same in
    every process, and several times faster than JSON."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
