"""Engines whose turns stay in their slots until they are let go, and a runtime on them."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from agentmux import Agent, Event, Runtime
from agentmux.engine.base import TurnRequest
from agentmux.testing import Answer, ScriptedEngine, Step


class Coder(Agent):
    model = "coder"


def hold(_: TurnRequest) -> Step:
    return Answer("some text", hold=True)


def runtime(engine: ScriptedEngine, **settings: Any) -> Runtime:
    return Runtime(models=engine.models, engine=engine, **settings)


def held_engine() -> ScriptedEngine:
    return ScriptedEngine({"coder": hold, "critic": hold})


class Deaf(ScriptedEngine):
    """Takes no notice of ``cancel`` until told to."""

    def cancel(self, turn: int) -> None:
        if self._closed or getattr(self, "closing", False):
            super().cancel(turn)

    def close(self) -> None:
        self.closing = True
        super().close()


async def collect(mux: Runtime, events: list[Event], target: Any, *args: Any, **kwargs: Any) -> None:
    async with aclosing(mux.stream(target, *args, **kwargs)) as stream:
        async for event in stream:
            events.append(event)
