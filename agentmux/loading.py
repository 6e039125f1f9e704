"""Models on their way into the engine: those that the runtime was given, and those that an agent names later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentmux.admission import Ledger
from agentmux.config import ModelSpec
from agentmux.engine.base import Engine, Footprint, LoadSpec
from agentmux.errors import EngineError
from agentmux.log import get_logger
from agentmux.models import expanded, known
from agentmux.threads import finished, in_thread


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
        self._under_way: dict[str, asyncio.Task[Footprint]] = {}
        self._closed = False
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

        Cancelled, it lets the loading go on: a thread cannot be stopped, and what it has brought into the engine has to
        be booked. Whoever asks next finds it.

        Raises ModelNotFound, ModelCorrupt, ModelUnsupported, NeverFits, ConfigError, EngineError; nothing is changed
        then.
        """
        while (there := self.footprints.get(name)) is None:
            if self._closed:
                raise EngineError(f"the runtime is closed: model {name} is not loaded any more")
            loading = self._under_way.get(name)
            if loading is not None:
                await asyncio.wait({loading})  # if it fails, this one tries for itself, and has an error of its own
                continue
            loading = self._under_way[name] = asyncio.create_task(self._load(name), name=f"agentmux loads {name}")
            loading.add_done_callback(lambda ended: self._loaded(name, ended))
            await asyncio.wait({loading})
            return loading.result()
        return there

    async def close(self) -> None:
        """Load nothing from now on, and return once what is on its way is there or has failed; a cancellation meanwhile
        is raised after that."""
        self._closed = True
        await finished(*self._under_way.values())

    def _loaded(self, name: str, ended: asyncio.Task[Footprint]) -> None:
        del self._under_way[name]
        if not ended.cancelled() and (error := ended.exception()):
            self._log.debug("a model was not loaded", model=name, error=str(error))

    async def _load(self, name: str) -> Footprint:
        async with self._lock:
            spec = await in_thread(self._find, name)
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
