"""The numbers of a runtime, at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from agentmux.engine.base import EngineStats


@dataclass(frozen=True, slots=True)
class RuntimeStats:
    """A snapshot; counters run from the runtime's start."""

    queued: int
    """Turns that wait for admission."""
    active: int
    """Turns in the engine."""
    finished: int
    cancelled: int
    failed: int
    engine: EngineStats

    @property
    def switches(self) -> int:
        """Steps of another model than the step before."""
        return self.engine.switches

    @property
    def bytes_paged(self) -> int:
        """Bytes of weights uploaded to the device."""
        return self.engine.uploaded_bytes
