"""The numbers of a runtime, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    loading: tuple[str, ...] = ()
    """Names of models that are on their way, in the order in which they are going to be there as it looks now."""
    load_errors: Mapping[str, str] = field(default_factory=dict)
    """[model] why it is not there, of those that could not be loaded when that was last tried."""

    @property
    def switches(self) -> int:
        """Steps of another model than the step before."""
        return self.engine.switches

    @property
    def bytes_paged(self) -> int:
        """Bytes of weights uploaded to the device."""
        return self.engine.uploaded_bytes
