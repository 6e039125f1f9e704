"""The runtime: loads the models, runs agents and pipelines on them, and brings the engine's events to the turns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

from agentmux.admission import Ledger
from agentmux.agent import AsksOnce, AsksOther, Run, SupportsRun, resolve
from agentmux.clock import Clock, LoopClock
from agentmux.config import Limits, ModelSpec, RuntimeConfig
from agentmux.core import Core, in_thread
from agentmux.engine.base import (
    Engine,
    EngineConfig,
    EngineStats,
    Footprint,
    LoadSpec,
)
from agentmux.engine.guard import require_real_engines
from agentmux.errors import EngineError
from agentmux.messages import (
    Completion,
    Event,
    RunErrored,
    RunFinished,
    RunResult,
)
from agentmux.models import bundled_models, expanded, known
from agentmux.run import RunState, Services
from agentmux.sampling import SamplingParams
from agentmux.scheduler import Policy, Scheduler
from agentmux.turn import TurnSpec

P = ParamSpec("P")
T = TypeVar("T")


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


class Runtime:
    """Models, an engine and a scheduler, as an async context manager.

    ::

        async with Runtime(models={"planner": "a.gguf", "coder": ModelSpec("b.gguf", slots=4)}, vram="8GiB") as mux:
            result = await mux.run(write_code, "sort the even numbers")

    Args:
        models: name that agents use -> path or ModelSpec; None: the bundled demonstration models.
        vram: device memory for everything, in bytes or as text such as ``"8GiB"``; None: ``AGENTMUX_VRAM``, else what
            the device has free.
        device: ``auto`` (first GPU, else CPU), ``cpu`` or a ggml device name; None: ``AGENTMUX_DEVICE``, else ``auto``.
        engine: an engine to use in place of the native one, such as a ``ScriptedEngine``; the runtime closes it.
        limits: of each run that brings none of its own.
        queue_limit: turns that may wait at the same time; a further one is QueueFull. Default 1024.
        max_wait_s: a turn that has waited longer goes before turns of the resident model. Default 10.
        min_residency_s: a model that became resident keeps its turns first for this long. Default 1.
        max_active_slots: turns of all models that may decode at once. Default: the sum of the models' slots.
        threads: CPU threads for computing. Default: the cores this process may use.
        arena_bytes: cap on the arena below what the budget leaves for it, for measurements.
        link_bytes_per_s: hold uploads to this rate, for measurements.
        debug_poison: overwrite evicted memory, for tests.
        clock: the source of time, for tests.

    Raises ConfigError for settings that cannot be meant. Entering it loads the models, in a thread, and raises
    ModelNotFound, ModelCorrupt, ModelUnsupported, NeverFits or EngineError, with everything freed again. Leaving it
    ends all runs and turns as cancelled and frees everything. It can be entered once.
    """

    def __init__(
        self,
        models: Mapping[str, str | os.PathLike[str] | ModelSpec] | None = None,
        *,
        vram: int | str | None = None,
        device: str | None = None,
        engine: Engine | None = None,
        limits: Limits | None = None,
        queue_limit: int | None = None,
        max_wait_s: float | None = None,
        min_residency_s: float | None = None,
        max_active_slots: int | None = None,
        threads: int | None = None,
        arena_bytes: int | str | None = None,
        link_bytes_per_s: int | None = None,
        debug_poison: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._config = RuntimeConfig.make(
            os.environ,
            models=dict(bundled_models() if models is None else models),
            vram=vram,
            device=device,
            limits=limits,
            queue_limit=queue_limit,
            max_wait_s=max_wait_s,
            min_residency_s=min_residency_s,
            max_active_slots=max_active_slots,
            threads=threads,
            arena_bytes=arena_bytes,
            link_bytes_per_s=link_bytes_per_s,
            debug_poison=debug_poison,
        )
        self._engine = engine
        self._clock = clock
        self._entered = False
        self._core: Core | None = None

    @property
    def config(self) -> RuntimeConfig:
        """The settings in force."""
        return self._config

    async def __aenter__(self) -> Self:
        if self._entered:
            raise EngineError("a Runtime can be entered once; make another one")
        self._entered = True
        try:
            if self._engine is None:
                await in_thread(self._make_engine)
            self._core = await self._load(self._engine_made())
        except BaseException:
            if self._engine is not None:
                with suppress(Exception):  # what went wrong first is what has to be seen
                    await in_thread(self._engine.close)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._core = self._core, None
        if opened is None:
            return
        try:
            await opened.close()
        except Exception as closing:
            if error is None:
                raise
            # The body's error is the one to be seen; this one only came of it.
            opened.log.error("closing failed", error=str(closing))

    def _make_engine(self) -> None:
        config = self._config
        require_real_engines(os.environ)
        # The one place that loads the native library, and only here, so that `import agentmux` stays fast and works
        # where the library does not.
        try:
            from agentmux.engine.native import NativeEngine
        except ImportError as error:
            raise EngineError(f"the native engine cannot be loaded: {error}; reinstall agentmux") from error
        # Kept at once, not returned: if the caller is cancelled meanwhile, it still has to be closed.
        self._engine = NativeEngine(
            EngineConfig(
                device=config.device,
                device_bytes=config.vram,
                threads=config.threads,
                arena_bytes=config.arena_bytes,
                link_bytes_per_s=config.link_bytes_per_s,
                debug_poison=config.debug_poison,
            )
        )

    def _engine_made(self) -> Engine:
        assert self._engine is not None
        return self._engine

    async def _load(self, engine: Engine) -> Core:
        footprints: dict[str, Footprint] = {}
        for name, spec in self._config.models.items():
            load = LoadSpec(name, expanded(spec), spec.context_tokens, spec.slots, spec.batch_tokens)
            footprints[name] = await in_thread(engine.load, load)
        config, clock = self._config, self._clock or LoopClock()
        sizes = engine.stats()
        ledger = Ledger(
            footprints,
            arena_bytes=sizes.arena_bytes,
            budget_bytes=sizes.device_budget_bytes or None,
            queue_limit=config.queue_limit,
            max_active_slots=config.max_active_slots,
        )
        scheduler = Scheduler(engine, ledger, clock, Policy(config.max_wait_s, config.min_residency_s))
        return Core(engine, Services(scheduler, footprints, clock))

    def _opened(self) -> Core:
        if self._core is None:
            raise EngineError("the runtime is not open; use it inside of `async with Runtime(...) as mux:`")
        return self._core

    # For the type checker, see `agentmux.agent.Run.run`. With `limits` the arguments of an agent's own `run` are not
    # checked: a ParamSpec admits no further keyword.
    @overload
    async def run(
        self, target: Callable[[], SupportsRun[P, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> RunResult[T]: ...
    @overload
    async def run(self, target: SupportsRun[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RunResult[T]: ...
    @overload
    async def run(
        self, target: Callable[Concatenate[Run, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> RunResult[T]: ...
    @overload
    async def run(
        self, target: Callable[[], AsksOnce[T]], prompt: str, /, *, limits: Limits | None = None
    ) -> RunResult[T]: ...
    @overload
    async def run(self, target: AsksOnce[T], prompt: str, /, *, limits: Limits | None = None) -> RunResult[T]: ...
    @overload
    async def run(
        self, target: Callable[[], AsksOther] | AsksOther, prompt: str, /, *, limits: Limits | None = None
    ) -> RunResult[Any]: ...
    @overload
    async def run(self, target: Any, /, *args: Any, limits: Limits, **kwargs: Any) -> RunResult[Any]: ...
    async def run(self, target: Any, /, *args: Any, **kwargs: Any) -> RunResult[Any]:
        """Run an agent or pipeline to its end. The arguments, and what it may raise, are those of ``stream``."""
        result: RunResult[Any] | None = None
        async with aclosing(self.stream(target, *args, **kwargs)) as events:
            async for event in events:
                if isinstance(event, RunFinished):
                    result = event.result
        assert result is not None
        return result

    async def stream(
        self, target: Any, /, *args: Any, limits: Limits | None = None, **kwargs: Any
    ) -> AsyncGenerator[Event, None]:
        """Run an agent or pipeline, and yield its events as they happen; the last is ``RunFinished``.

        Args:
            target: an Agent class, an Agent, or a function marked by ``@pipeline``.
            args, kwargs: what it takes after ``ctx``.
            limits: None: the runtime's.

        Raises, after a last event ``RunErrored``, what the target raised; LimitExceeded at the ``wall_s`` limit;
        EngineError if the runtime was closed meanwhile; ConfigError if the target cannot be run.

        Cancelling the caller, or ending the iteration early, cancels the run and its turns in the engine. To have
        that done at a known moment, use ``contextlib.aclosing``.
        """
        opened = self._opened()
        name = resolve(target)[0]
        events: asyncio.Queue[Event] = asyncio.Queue()
        run = RunState(opened.services, limits or self._config.limits, events.put_nowait)
        task = asyncio.create_task(run.drive(name, target, args, kwargs), name=f"agentmux run {run.id}")
        opened.runs[task] = run
        task.add_done_callback(opened.forget)
        try:
            while True:
                event = await events.get()
                yield event
                if isinstance(event, RunFinished | RunErrored):
                    break
        finally:
            await opened.stop_run(task)
        if run.error is not None:
            raise run.error

    async def generate(
        self,
        model: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 512,
        temperature: float | None = None,
        sampling: SamplingParams | None = None,
        grammar: str | None = None,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        queue_wait_s: float | None = None,
    ) -> Completion:
        """One turn outside of any run: no chat template, no instructions, no parsing.

        Args:
            model: one of the runtime's names.
            prompt: text (special tokens in it are parsed) or token ids.
            max_tokens: tokens of the answer at most.
            temperature: in place of the sampling's.
            sampling: None: greedy.
            grammar: GBNF with the root rule ``root``.
            stop: texts that end the answer.
            ignore_eos: go on past the end token until ``max_tokens``, for measurements.
            queue_wait_s: seconds to wait for admission at most; None: the runtime's limit.

        Raises ModelNotFound, RequestInvalid, ContextOverflow, NeverFits, QueueFull, QueueTimeout, EngineError.
        """
        opened = self._opened()
        chosen = sampling or SamplingParams()
        spec = TurnSpec(
            model=model,
            prompt=prompt if isinstance(prompt, str) else tuple(prompt),
            max_tokens=max_tokens,
            sampling=chosen if temperature is None else replace(chosen, temperature=temperature),
            grammar=grammar,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            ignore_eos=ignore_eos,
            queue_wait_s=self._config.limits.queue_wait_s if queue_wait_s is None else queue_wait_s,
        )
        return await opened.services.complete(opened.services.turn(spec, "", "", lambda _: None, 0))

    def footprint(self, model: str) -> Footprint:
        """The measured sizes of a model. Raises ModelNotFound."""
        footprints = self._opened().services.footprints
        return footprints[known(model, footprints)]

    def stats(self) -> RuntimeStats:
        """A snapshot of queue, turns and engine. Raises EngineError if the runtime is not open."""
        opened = self._opened()
        scheduler, ends = opened.scheduler, opened.scheduler.ends
        return RuntimeStats(
            queued=scheduler.queued,
            active=scheduler.active,
            finished=ends["finished"],
            cancelled=ends["cancelled"],
            failed=ends["failed"],
            engine=opened.engine.stats(),
        )
