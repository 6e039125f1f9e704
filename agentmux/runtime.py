"""The runtime: loads the models, runs agents and pipelines on them, and brings the engine's events to the turns."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar, overload

from agentmux.agent import AsksOnce, AsksOther, Run, SupportsRun
from agentmux.chatting import ChatEvent, ChatRequest, converse
from agentmux.clock import Clock
from agentmux.config import JournalConfig, Limits, ModelSpec, Oversize, RuntimeConfig, WaitForModels
from agentmux.core import Core
from agentmux.engine.base import Engine, Footprint
from agentmux.errors import EngineError
from agentmux.following import Asked, follow
from agentmux.messages import (
    Completion,
    Event,
    RunFinished,
    RunResult,
)
from agentmux.models import bundled_models
from agentmux.opening import Parts, open_core
from agentmux.run import Approve, forget_quietly
from agentmux.runtime_stats import RuntimeStats as RuntimeStats
from agentmux.sampling import SamplingParams
from agentmux.turn import TurnSpec

P = ParamSpec("P")
T = TypeVar("T")


class Runtime:
    """Models, an engine and a scheduler, as an async context manager.

    ::

        async with Runtime(models={"planner": "a.gguf", "coder": ModelSpec("b.gguf", slots=4)}, vram="8GiB") as mux:
            result = await mux.run(write_code, "sort the even numbers")

    Args:
        models: name that agents use -> path, registered name, ``hf:owner/repo:file.gguf`` or ModelSpec; None: the
            configuration's, else the bundled demonstration models. They are loaded at once; others when an agent that
            names them is first run.
        wait_for_models: what entering waits for: ``all`` of them, or the ``first``. Then the first one's turns can
            start while the others are loaded in the background, in their order; a turn whose model is not there yet
            waits, and its model is loaded before those that nobody waits for. Default ``all``.
        vram: device memory for everything, in bytes or as text such as ``"7GiB"``; None: nine tenths of what the device
            has free.
        device: ``auto`` (first GPU, else CPU), ``cpu`` or a ggml device name. Default ``auto``.
        engine: an engine to use in place of the native one, such as a ``ScriptedEngine``; the runtime closes it.
        limits: of each run that brings none of its own.
        queue_limit: turns that may wait at the same time; a further one is QueueFull. Default 1024.
        max_wait_s: a turn that has waited longer goes before turns of the resident model. Default 10.
        min_residency_s: a model that became resident keeps its turns first for this long. Default 1.
        max_active_slots: turns of all models that may decode at once. Default: the sum of the models' slots.
        threads: CPU threads for computing. Default: the cores this process may use.
        arena_bytes: cap on the arena below what the budget leaves for it, for measurements.
        link_bytes_per_s: hold uploads to this rate, for measurements.
        host_bytes: host memory for page-locked copies of weights and for sessions that are away from the device.
        contexts: how many models may hold a context (KV cache and compute buffers) at once.
        oversize: what a model larger than the arena does with the layers that do not fit.
        switches_per_quantum: where more models want to decode than fit, a time slice lasts at least as long as so many
            uploads. Default 8.
        debug_poison: overwrite evicted memory, for tests.
        journal: record runs, so that they can be resumed after their process ended. True: in the journal of
            ``AGENTMUX_HOME``; a path: in that file; a JournalConfig: that, and how long runs are kept. Default: off.
        config: the configuration file; None: ``agentmux.toml`` or ``[tool.agentmux]`` of this folder or one above;
            False: none.
        approve: asked before a tool runs that needs approval, with the call and the agent's name. True lets it run;
            False, or a text that says why not, is told to the model. May be async.
        observers: called with each event of each run, on the event loop; what they raise is logged.
        clock: the source of time, for tests.

    What is None here comes from the environment (``AGENTMUX_VRAM`` and so on), else from the configuration file, else
    from the defaults; see docs/configuration.md.

    Raises ConfigError for settings that cannot be meant. Entering it looks at the front of each model's file, loads the
    models, in a thread, and raises ModelNotFound, ModelCorrupt, ModelUnsupported, NeverFits or EngineError, with
    everything freed again. Leaving it ends all runs and turns as cancelled and frees everything. It can be entered
    once.

    With ``wait_for_models="first"`` models on the hub but the first are looked up, and downloaded, in the background
    too. A model that cannot be loaded there fails the turns that wait for it, with what entering would have raised;
    others go on. Where no turn waits for it, that is logged as a warning; it stands in ``stats().load_errors``, and
    neither a run without it nor leaving the runtime raises anything. Leaving begins no further loading, and waits for
    one that is under way.

    Each attempt to load takes the device from others. So turns that come within a minute of one that failed have its
    error, also those of models that an agent names later; one that comes after that causes another attempt, and
    ``load`` does at once. A model that was to be loaded in the background is tried again unasked after a minute, and
    then after twice as long each time, up to 16 minutes, unless what the engine found is about the model itself
    (ModelCorrupt, ModelUnsupported, NeverFits).
    """

    def __init__(
        self,
        models: Mapping[str, str | os.PathLike[str] | ModelSpec] | None = None,
        *,
        wait_for_models: WaitForModels | None = None,
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
        host_bytes: int | str | None = None,
        contexts: int | None = None,
        oversize: Oversize | None = None,
        switches_per_quantum: float | None = None,
        debug_poison: bool | None = None,
        journal: bool | str | os.PathLike[str] | JournalConfig | None = None,
        config: str | os.PathLike[str] | Literal[False] | None = None,
        approve: Approve | None = None,
        observers: Sequence[Callable[[Event], None]] = (),
        clock: Clock | None = None,
    ) -> None:
        sizes = {"vram": vram, "arena_bytes": arena_bytes, "host_bytes": host_bytes}
        most = {"queue_limit": queue_limit, "max_active_slots": max_active_slots, "contexts": contexts}
        waits = {"max_wait_s": max_wait_s, "min_residency_s": min_residency_s, "wait_for_models": wait_for_models}
        made = RuntimeConfig.make(
            os.environ,
            config=config,
            models=None if models is None else dict(models),
            device=device,
            **sizes,
            **most,
            **waits,
            link_bytes_per_s=link_bytes_per_s,
            limits=limits,
            switches_per_quantum=switches_per_quantum,
            threads=threads,
            oversize=oversize,
            journal=journal,
            debug_poison=debug_poison,
        )
        self._config = _with_models(made)
        self._parts = Parts(engine, clock, approve, tuple(observers))
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
        self._core = await open_core(self._config, self._parts)
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
        self,
        target: Callable[[], AsksOnce[T]],
        prompt: str,
        /,
        *,
        limits: Limits | None = None,
        session: str | None = None,
    ) -> RunResult[T]: ...
    @overload
    async def run(
        self, target: AsksOnce[T], prompt: str, /, *, limits: Limits | None = None, session: str | None = None
    ) -> RunResult[T]: ...
    @overload
    async def run(
        self, target: Callable[[], AsksOther] | AsksOther, prompt: str, /, *, limits: Limits | None = None
    ) -> RunResult[Any]: ...
    @overload
    async def run(self, target: Any, /, *args: Any, limits: Limits, **kwargs: Any) -> RunResult[Any]: ...
    @overload
    async def run(self, target: Any, /, *args: Any, session: str, **kwargs: Any) -> RunResult[Any]: ...
    @overload
    async def run(self, target: Any, /, *args: Any, resume: str, **kwargs: Any) -> RunResult[Any]: ...
    async def run(self, target: Any, /, *args: Any, **kwargs: Any) -> RunResult[Any]:
        """Run an agent or pipeline to its end. The arguments, and what it may raise, are those of ``stream``."""
        asked = Asked.of(target, args, kwargs)
        result: RunResult[Any] | None = None
        async with aclosing(follow(self._opened(), self._config.limits, asked, every=False)) as events:
            async for event in events:
                if isinstance(event, RunFinished):
                    result = event.result
        assert result is not None
        return result

    async def resume(
        self, run: str, target: Any = None, /, *args: Any, rerun_in_doubt: bool = False, **kwargs: Any
    ) -> RunResult[Any]:
        """Take up a run of the journal that was interrupted, failed or cancelled, and bring it to its end.

        Completed turns and calls of tools are not done again: their answers come from the journal. A tool that was
        under way when the process ended is ToolInDoubt, unless it is idempotent or ``rerun_in_doubt`` is given.

        Args:
            run: its id, or the beginning of it that no other has.
            target, args, kwargs: what it ran; None: as it was recorded.
            rerun_in_doubt: run such tools again.

        Raises JournalError if there is no such run, or it is under way or finished; and what ``stream`` raises.
        """
        return await self.run(target, *args, resume=run, rerun_in_doubt=rerun_in_doubt, **kwargs)

    def stream(
        self,
        target: Any,
        /,
        *args: Any,
        limits: Limits | None = None,
        session: str | None = None,
        resume: str | None = None,
        rerun_in_doubt: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[Event, None]:
        """Run an agent or pipeline, and yield its events as they happen; the last is ``RunFinished``.

        Args:
            target: an Agent class, an Agent, or a function marked by ``@pipeline``.
            args, kwargs: what it takes after ``ctx``.
            limits: None: the runtime's.
            session: name under which agents' ``ctx.session`` goes on from run to run; None: it ends with the run, or,
                with ``resume``, is that of the run as it was recorded.
            resume: id of a run in the journal that was interrupted, failed or cancelled: what it had completed is not
                done again. Without a target, target and arguments are those that were recorded.
            rerun_in_doubt: with ``resume``, run tools again that were under way when the process ended.

        Raises, after a last event ``RunErrored``, what the target raised; LimitExceeded at the ``wall_s`` limit;
        EngineError if the runtime was closed meanwhile; ConfigError if the target cannot be run.

        Cancelling the caller, or ending the iteration early, cancels the run and its turns in the engine. To have
        that done at a known moment, use ``contextlib.aclosing``.
        """
        asked = Asked(target, args, kwargs, limits, session, resume, rerun_in_doubt)
        return follow(self._opened(), self._config.limits, asked)

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
        await opened.services.loaded(model)
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

    def chat(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """One turn of a conversation that the caller keeps, below the agents: chat template, tools that the caller
        runs, structured output. Yields ChatStarted, ChatDelta as they come, and one ChatAnswer last.

        Ending the iteration early, or cancelling it, cancels the turn in the engine; use ``contextlib.aclosing``.

        Raises what ``generate`` raises, and RequestInvalid for messages that the model's chat template refuses.
        """
        if request.queue_wait_s is None:
            request = replace(request, queue_wait_s=self._config.limits.queue_wait_s)
        return converse(self._opened().services, request)

    def check(self, model: str) -> None:
        """Raises what a turn of this model would be refused with at this moment: QueueFull where too many wait,
        ModelNotFound, NeverFits, EngineError. A look only, before anything is done for the turn; it takes no place.

        A turn whose model is not loaded yet would wait for that: it is refused where as many as ``queue_limit`` do, and
        with the error of the last attempt to load it if that failed within the last minute."""
        opened = self._opened()
        if opened.models.is_coming(model):
            opened.models.check(model, self._config.queue_limit)
        else:
            opened.scheduler.check(model)

    async def vocabulary(self, model: str) -> Sequence[bytes]:
        """[token id] its bytes, special tokens too; read from the model's file when first asked. Raises ModelNotFound,
        and, where the model is not loaded yet, what ``load`` raises."""
        return await self._opened().models.vocabulary(model)

    async def drain(self) -> None:
        """Refuse new runs with EngineError from now on, and return once those under way have ended."""
        await self._opened().drain()

    async def load(self, model: str) -> Footprint:
        """Load a model now that an agent is going to name later, and return its measured sizes; of one that is on its
        way in the background, wait for it. No effect on one that is loaded; one that could not be loaded is tried again
        at once. Raises ModelNotFound, ModelCorrupt,
        ModelUnsupported, NeverFits."""
        return await self._opened().models.loaded(model)

    def end_session(self, session: str) -> None:
        """Forget what was said under this session's name, and its KV cache. Unknown names: no effect."""
        services = self._opened().services
        for kept in services.sessions.end(session):
            forget_quietly(services, kept.model, kept.engine_session)

    def footprint(self, model: str) -> Footprint:
        """The measured sizes of a model. Raises ModelNotFound for one that is not loaded, or not yet."""
        return self._opened().models.footprint(model)

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
            loading=opened.models.loading,
            load_errors=opened.models.failures,
        )


def _with_models(config: RuntimeConfig) -> RuntimeConfig:
    """The settings, with the bundled models where none were chosen."""
    chosen = "models" in config.model_fields_set
    return config if chosen else config.model_copy(update={"models": bundled_models()})
