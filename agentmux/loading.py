"""Models on their way into the engine: those that the runtime was given, and those that an agent names later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from agentmux.admission import Ledger
from agentmux.config import ModelSpec
from agentmux.engine.base import Engine, Footprint, LoadSpec
from agentmux.log import get_logger
from agentmux.models import expanded, known

T = TypeVar("T")


class LoadedModels:
    """The models in an engine, by the names that agents use. One model is loaded at a time.

    Args:
        engine: where they are.
        ledger: told of each model and of what its loading left of the arena.
        find: the ModelSpec that a name stands for; raises ModelNotFound.
    """

    def __init__(self, engine: Engine, ledger: Ledger, find: Callable[[str], ModelSpec]) -> None:
        self._engine = engine
        self._ledger = ledger
        self._find = find
        self._lock = asyncio.Lock()
        self._log = get_logger("agentmux.models")
        self.footprints: dict[str, Footprint] = {}
        """[name] measured sizes."""
        self.without_system = set[str]()
        """Names of models that are not to be shown system messages."""
        self.paths: dict[str, str] = {}
        """[name] the file that it was loaded from."""
        self._vocabularies: dict[str, tuple[bytes, ...]] = {}

    async def loaded(self, name: str) -> Footprint:
        """The footprint of a model, which is loaded first if it is not there yet; others wait until that is done.

        Raises ModelNotFound, ModelCorrupt, ModelUnsupported, NeverFits, ConfigError; nothing is changed then.
        """
        if (there := self.footprints.get(name)) is not None:
            return there
        async with self._lock:
            if (there := self.footprints.get(name)) is not None:
                return there
            return await self._load(name, await in_thread(self._find, name))

    async def _load(self, name: str, spec: ModelSpec) -> Footprint:
        load = LoadSpec(name, expanded(spec), spec.context_tokens, spec.slots, spec.batch_tokens)
        footprint = await in_thread(self._engine.load, load)
        sizes = self._engine.stats()
        self._ledger.add(footprint, arena_bytes=sizes.arena_bytes, budget_bytes=sizes.device_budget_bytes or None)
        self.footprints[name] = footprint
        self.paths[name] = load.path
        if not spec.system_messages:
            self.without_system.add(name)
        self._log.debug("model loaded", model=name, weight_bytes=footprint.weight_bytes)
        return footprint

    async def vocabulary(self, name: str) -> tuple[bytes, ...]:
        """[token id] its bytes; read when first asked. Raises ModelNotFound for a model that is not loaded, EngineError
        where it cannot be read."""
        path = self.paths[known(name, self.paths)]
        if name not in self._vocabularies:
            self._vocabularies[name] = await in_thread(_token_bytes, path)
        return self._vocabularies[name]


def _token_bytes(path: str) -> tuple[bytes, ...]:
    # Here, not at the top: it loads the native library, which a plain `import agentmux` must not.
    from agentmux.engine.vocabulary import token_bytes

    return token_bytes(path)


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a blocking call in a thread. Cancelled, it waits for the call's end: a thread cannot be interrupted, and what
    comes next (closing the engine) must not meet a load that is still under way."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *args)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        if not future.cancelled():
            future.exception()
        raise
