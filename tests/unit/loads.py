"""An engine whose models are loaded when they are let, and a runtime on it that waits for the first one only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from agentmux import Runtime
from agentmux.engine.base import Footprint, LoadSpec, TurnRequest
from agentmux.testing import Answer, ScriptedEngine

PATIENCE_S = 30


class HeldLoads(ScriptedEngine):
    """Each model answers with its name, as often as it is asked.

    Args:
        names: its models.
        free: those that are loaded at once; others when they are let.
        errors: [model] what its load raises then.
        hold: models whose turns stay in their slots until they are released.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        free: Iterable[str] = (),
        errors: Mapping[str, Exception] | None = None,
        hold: Iterable[str] = (),
    ) -> None:
        held = set(hold)
        super().__init__(
            {name: lambda asked: Answer(f"{asked.model} says", hold=asked.model in held) for name in names}
        )
        self._may = {name: threading.Event() for name in self.models}
        self._begins = {name: threading.Event() for name in self.models}
        for name in free:
            self.let(name)
        self.errors = dict(errors or {})
        self.begun = list[str]()
        """Names in the order in which their loads began; failed ones too."""
        self.loaded = list[str]()
        self.is_closed = False
        self.closed_during_load = False
        self._loading = 0

    def _answer(self, asked: TurnRequest) -> Answer:
        return Answer(f"{asked.model} says", hold=asked.model in self._hold)

    def let(self, model: str) -> None:
        """Let its load come to its end."""
        self._may[model].set()

    def may(self, model: str) -> bool:
        """Whether its load was let."""
        return self._may[model].is_set()

    def load(self, spec: LoadSpec) -> Footprint:
        """See ``ScriptedEngine.load``."""
        self.begun.append(spec.model)
        self._loading += 1
        assert self._loading == 1, "one at a time"
        self._begins[spec.model].set()
        assert self._may[spec.model].wait(PATIENCE_S), f"nobody lets {spec.model} go on"
        self._loading -= 1
        if error := self.errors.get(spec.model):
            raise error
        footprint = super().load(spec)
        self.loaded.append(spec.model)
        return footprint

    def close(self) -> None:
        """See ``ScriptedEngine.close``."""
        self.is_closed = True
        self.closed_during_load |= self._loading > 0
        super().close()

    async def begins(self, model: str) -> None:
        """Its load has begun, in its thread."""
        assert await asyncio.to_thread(self._begins[model].wait, PATIENCE_S), f"{model} is not loaded"


def opened(engine: HeldLoads, **settings: Any) -> Runtime:
    """A runtime that is not entered yet."""
    return Runtime(models=engine.models, engine=engine, wait_for_models="first", **settings)
