"""How fast weights reach the device, as far as the engine knows."""

from __future__ import annotations

from contextlib import suppress

from agentmux.engine.base import Engine
from agentmux.errors import AgentmuxError

_AGE_S = 1.0
"""Seconds for which the engine's figure is used before it is asked again."""


class LinkSpeed:
    """The engine's figure, which is asked for now and then only: it changes slowly."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bytes_per_s = 0.0
        self._asked_s: float | None = None

    def bytes_per_s(self, now_s: float) -> float:
        """0 before anything was uploaded."""
        if self._asked_s is None or now_s - self._asked_s >= _AGE_S:
            self._asked_s = now_s
            with suppress(AgentmuxError):  # a closed engine uploads nothing; its turns are about to end
                self._bytes_per_s = self._engine.stats().upload_bytes_per_s
        return self._bytes_per_s
