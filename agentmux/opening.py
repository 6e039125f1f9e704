"""How a runtime is opened: journal, engine, models, scheduler, in this order; all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from agentmux import telemetry
from agentmux.admission import Ledger
from agentmux.clock import Clock, LoopClock
from agentmux.config import JournalConfig, ModelSpec, RuntimeConfig
from agentmux.core import Core
from agentmux.durable import DurableRuns
from agentmux.engine.base import Engine, EngineConfig
from agentmux.engine.guard import require_real_engines
from agentmux.errors import EngineError
from agentmux.journal import Journal
from agentmux.loading import LoadedModels
from agentmux.messages import Event
from agentmux.models import check_file, known, read_ahead, resolve, resolve_all
from agentmux.paths import journal_path
from agentmux.pump import GATHER_S
from agentmux.run import Approve, Services
from agentmux.scheduler import Policy, Scheduler
from agentmux.threads import in_thread

DAY_S = 86_400.0
LATER_S = 0.005
"""Seconds in which a run's beginning and end are written, if nothing else is."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a runtime is given beside its settings."""

    engine: Engine | None = None
    """Used in place of a native one, and closed with the runtime."""
    clock: Clock | None = None
    approve: Approve | None = None
    observers: tuple[Callable[[Event], None], ...] = ()


async def open_core(config: RuntimeConfig, parts: Parts) -> Core:
    """Open all that a runtime needs. If that fails or is cancelled, what was opened by then is closed again.

    Raises JournalError, EngineError, ModelNotFound, ModelCorrupt, ModelUnsupported, NeverFits, ConfigError.
    """
    engines = [] if parts.engine is None else [parts.engine]
    opened: list[DurableRuns | None] = []
    try:
        # Both appended in the thread: if this task is cancelled meanwhile, they still have to be closed.
        await in_thread(lambda: opened.append(_durable(config.journal, config)))
        if opened[0] is not None:
            clock = parts.clock or LoopClock()
            opened[0].journal.write_later(lambda settle: clock.call_at(clock.now() + LATER_S, settle))
        if not engines:
            await in_thread(lambda: engines.append(native_engine(config)))
        return await _loaded(config, parts, engines[0], opened[0])
    except BaseException:
        try:
            for engine in engines:
                with suppress(Exception):  # what went wrong first is what has to be seen
                    await in_thread(engine.close)
        finally:
            for durable in opened:
                if durable is not None:
                    durable.journal.close()
        raise


def _durable(journal: JournalConfig | None, config: RuntimeConfig) -> DurableRuns | None:
    if journal is None or not journal.enabled:
        return None
    path = journal_path(os.environ) if journal.path is None else journal.path
    max_age_s = None if journal.max_age_days is None else journal.max_age_days * DAY_S
    return DurableRuns(Journal.open(path, max_age_s=max_age_s, max_runs=journal.max_runs), config)


def native_engine(config: RuntimeConfig) -> Engine:
    """The C++ engine. Raises EngineError where it cannot be loaded, ConfigError for a device that does not exist."""
    require_real_engines(os.environ)
    # The one place that loads the native library, and only here, so that `import agentmux` stays fast and works
    # where the library does not.
    try:
        from agentmux.engine.native import NativeEngine
    except ImportError as error:
        raise EngineError(f"the native engine cannot be loaded: {error}; reinstall agentmux") from error
    return NativeEngine(
        EngineConfig(
            device=config.device,
            device_bytes=config.vram,
            threads=config.threads,
            arena_bytes=config.arena_bytes,
            host_bytes=config.host_bytes,
            contexts=config.contexts,
            oversize=config.oversize,
            link_bytes_per_s=config.link_bytes_per_s,
            debug_poison=config.debug_poison,
        )
    )


def _looked_at(config: RuntimeConfig) -> dict[str, ModelSpec]:
    """The models' files, with a look at each, before time goes into loading any."""
    specs = resolve_all(config, os.environ, download=config.wait_for_models == "all")
    for spec in specs.values():
        check_file(spec)
    return specs


async def _loaded(config: RuntimeConfig, parts: Parts, engine: Engine, durable: DurableRuns | None) -> Core:
    clock, sizes = parts.clock or LoopClock(), engine.stats()
    ledger = Ledger(
        {},
        arena_bytes=sizes.arena_bytes,
        budget_bytes=sizes.device_budget_bytes or None,
        queue_limit=config.queue_limit,
        max_active_slots=config.max_active_slots,
    )

    scheduler = Scheduler(
        engine, ledger, clock, Policy(config.max_wait_s, config.min_residency_s, config.switches_per_quantum)
    )
    # An engine that was handed in has its own idea of models: their files need not exist.
    native = parts.engine is None
    specs = await in_thread(_looked_at, config) if native else config.models

    def find(name: str) -> ModelSpec:
        if native and name not in specs:
            return resolve(name, config=config, environ=os.environ)
        return specs[known(name, specs)]

    models = LoadedModels(engine, ledger, specs, find, scheduler.wake_up, clock)
    try:
        for name in tuple(config.models)[: 1 if config.wait_for_models == "first" else None]:
            await models.loaded(name)
    except BaseException:
        await models.close()  # cancelled, it has left one on its way
        raise
    if native:
        # From now on, turns may be under way.
        models.prepare, models.is_computing = read_ahead, lambda: scheduler.active > 0
    models.load_ahead(config.models)
    observers = (*telemetry.observers(), *parts.observers)
    services = Services(
        scheduler,
        clock,
        models.for_turn,
        engine.forget,
        models.without_system,
        observers=observers,
        approve=parts.approve,
    )
    # The turns of an engine that was handed in may take no time at all, as in tests: there is nothing to gather.
    return Core(engine, services, models, durable, gather_s=GATHER_S if native else 0.0)
