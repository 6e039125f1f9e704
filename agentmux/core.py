"""What exists while a runtime is open: runs, scheduler, engine, and the way of the engine's events to the turns."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from agentmux.clock import LoopClock, within
from agentmux.context import abandon
from agentmux.durable import DurableRuns
from agentmux.engine.base import (
    Engine,
    EngineEvent,
    LoadProgress,
    PrefillProgress,
    TextDelta,
    TurnFailed,
    TurnFinished,
    TurnParked,
    TurnResumed,
    TurnStarted,
)
from agentmux.errors import AgentmuxError, EngineError, from_code
from agentmux.loading import LoadedModels
from agentmux.log import get_logger
from agentmux.messages import Completion, TurnNumbers
from agentmux.pump import Pump
from agentmux.run import RunState, Services
from agentmux.threads import finished, in_thread
from agentmux.turn import Turn

_GRACE_S = 5.0
"""Seconds in which cancelled runs are expected to end."""


class Core:
    """What exists only between ``__aenter__`` and ``__aexit__``."""

    def __init__(
        self,
        engine: Engine,
        services: Services,
        models: LoadedModels,
        durable: DurableRuns | None,
        gather_s: float,
    ) -> None:
        self.engine = engine
        self.models = models
        self.durable = durable
        self.services = services
        self.scheduler = services.scheduler
        self.runs: dict[asyncio.Task[None], RunState] = {}
        self.draining = False
        self.log = get_logger("agentmux.runtime")
        self._pump = Pump(engine, LoopClock(), self._deliver, self._on_lost_engine, gather_s)
        self._scheduling = asyncio.create_task(self.scheduler.run(), name="agentmux scheduler")
        self._scheduling.add_done_callback(self._on_scheduler_end)

    def _on_lost_engine(self, error: Exception) -> None:
        self._fail(f"the engine failed: {error}", error)

    def _deliver(self, event: EngineEvent) -> None:
        try:
            self._dispatch(event)
        # One event that cannot be dealt with must not take the others of its batch with it, nor leave its turn
        # without an end.
        except Exception as error:
            self._lose(event, error)

    def _lose(self, event: EngineEvent, error: Exception) -> None:
        self.log.error("an event could not be dealt with", kind=type(event).__name__, error=repr(error))
        turn = None if isinstance(event, LoadProgress) else self.scheduler.turn(event.turn)
        if turn is not None:
            with suppress(AgentmuxError):
                self.engine.cancel(turn.id)
            lost = EngineError(f"turn {turn.id} of model {turn.spec.model} was lost: {error!r}")
            lost.__cause__ = error
            self.scheduler.end(turn, lost)

    def _on_scheduler_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(f"the scheduler failed: {error!r}", error)

    def _fail(self, message: str, cause: BaseException) -> None:
        self.log.error("runtime failed", error=message)
        self._pump.close()
        error = EngineError(message)
        error.__cause__ = cause
        self.scheduler.close(error)

    def _dispatch(self, event: EngineEvent) -> None:
        if isinstance(event, LoadProgress):
            self.log.debug("loading", model=event.model, done_bytes=event.done_bytes, total_bytes=event.total_bytes)
            return
        turn = self.scheduler.turn(event.turn)
        if turn is None:
            # Events may still come for a turn that was given up when the engine would not cancel it.
            self.log.debug("event of no turn", turn=event.turn, kind=type(event).__name__)
        elif isinstance(event, PrefillProgress):
            turn.progress(event.done_tokens, event.total_tokens)
        elif isinstance(event, TextDelta):
            turn.stream(event.text, event.logprobs)
        elif isinstance(event, TurnFinished):
            self.scheduler.end(turn, None if event.reason == "cancelled" else _completion(turn, event))
        elif isinstance(event, TurnFailed):
            self.scheduler.end(turn, from_code(event.error_code, event.message, event.numbers))
        elif isinstance(event, TurnParked):
            self.scheduler.parked_by_engine(turn)
        else:
            assert isinstance(event, TurnStarted | TurnResumed)

    def forget(self, task: asyncio.Task[None]) -> None:
        """A run's task has ended."""
        run = self.runs.pop(task)
        if task.cancelled():
            abandon(run)
        elif (error := task.exception()) is not None:
            run.error = run.error or error
            abandon(run)

    async def stop_run(self, task: asyncio.Task[None], why: Exception | None = None) -> None:
        """Cancel a run and wait until it has ended, for at most the grace time."""
        if task.done():
            return
        run = self.runs[task]
        run.stopped = run.stopped or why
        task.cancel()
        ended = asyncio.Event()
        task.add_done_callback(lambda _: ended.set())
        if not await within(self.services.clock, _GRACE_S, ended):
            self.log.warning("a run did not end when cancelled", run=run.id)

    async def drain(self) -> None:
        """Refuse new runs, and return once those under way have ended."""
        self.draining = True
        while self.runs:
            await asyncio.wait(list(self.runs))
        await self.scheduler.drain()

    async def close(self) -> None:
        """End runs, turns, scheduler and engine, in this order, each whatever became of the one before."""
        self.models.stop()
        try:
            why = EngineError("the runtime was closed while the run was under way")
            await asyncio.gather(*(self.stop_run(task, why) for task in list(self.runs)))
        finally:
            self._pump.close()
            try:
                await self._close_engine()
            finally:
                self.scheduler.close()
                try:
                    await finished(self._scheduling)
                finally:
                    if self.durable is not None:
                        self.durable.journal.close()

    async def _close_engine(self) -> None:
        try:
            await self.models.close()
        finally:
            await in_thread(self.engine.close)
            for event in self.engine.poll():
                self._dispatch(event)


def _completion(turn: Turn, event: TurnFinished) -> Completion:
    stats = event.stats
    admitted_s = turn.arrived_s if turn.admitted_s is None else turn.admitted_s
    numbers = TurnNumbers(
        turn=turn.id,
        agent=turn.agent,
        model=turn.spec.model,
        finish_reason=event.reason,
        prompt_tokens=stats.prompt_tokens,
        reused_tokens=stats.reused_tokens,
        generated_tokens=stats.generated_tokens,
        queue_wait_s=admitted_s - turn.arrived_s,
        wait_reason=turn.wait_reason,
        engine_wait_s=stats.engine_wait_s,
        prefill_s=stats.prefill_s,
        decode_s=stats.decode_s,
        time_to_first_token_s=stats.time_to_first_token_s,
        upload_wait_s=stats.upload_wait_s,
        uploaded_bytes=stats.uploaded_bytes,
        switched=stats.switched,
    )
    return Completion(event.text, event.tokens, event.reason, numbers, event.logprobs)
