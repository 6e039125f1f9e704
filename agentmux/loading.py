"""Models on their way into the engine: those that the runtime was given, and those that an agent names later."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agentmux.admission import Ledger
from agentmux.clock import Clock
from agentmux.config import ModelSpec
from agentmux.engine.base import Engine, Footprint, LoadSpec
from agentmux.errors import EngineError, ModelNotFound, QueueFull, said
from agentmux.load_failures import LoadFailures, another
from agentmux.log import get_logger
from agentmux.models import expanded, known
from agentmux.threads import finished, in_daemon, in_thread


@dataclass(slots=True, eq=False)
class _Wanted:
    """A model that is not there yet."""

    name: str
    order: int
    """Among those that nobody waits for."""
    ahead: bool = False
    """It is loaded even if nobody waits for it."""
    asked: int = 0
    """Among those that somebody waits for: since when."""
    waiting: list[asyncio.Future[Footprint]] = field(default_factory=list)
    spec: ModelSpec | None = None
    """None until it is known where its file lies."""
    finding: asyncio.Future[ModelSpec] | None = None
    """While that is looked up, and downloaded maybe."""
    makes_way: bool = False
    """It is being prepared, and somebody waits for another one."""

    @property
    def urgency(self) -> tuple[bool, bool, int]:
        """The least goes first."""
        return (False, self.spec is None, self.asked) if self.waiting else (True, False, self.order)

    @property
    def is_wanted(self) -> bool:
        """Whether there is a reason left to load it."""
        return self.ahead or bool(self.waiting)

    def settle(self, outcome: Footprint | Exception) -> bool:
        """Tell all who wait, each with an error of its own; whether there was anybody."""
        waiting = [future for future in self.waiting if not future.done()]
        for i, future in enumerate(waiting):
            if isinstance(outcome, Exception):
                future.set_exception(another(outcome) if i else outcome)
            else:
                future.set_result(outcome)
        return bool(waiting)


class LoadedModels:
    """The models in an engine, by the names that agents use.

    One is loaded at a time, since loading is bound by bandwidth: first the one that somebody has waited for longest of
    those whose files are there, then those that nobody waits for, in the order in which they were named ahead. Looking
    for a file, which may be a download, keeps no other that somebody waits for from being loaded; nor does preparing
    one that nobody waits for.

    Args:
        engine: where they are.
        ledger: told of each model and of what its loading left of the arena.
        at_hand: models whose files are there.
        find: the ModelSpec that another name stands for, called in a thread; raises ModelNotFound.
        on_change: called when there is another model.
        clock: tells when what failed is to be tried again.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        at_hand: Mapping[str, ModelSpec],
        find: Callable[[str], ModelSpec],
        on_change: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._at_hand = at_hand
        self._find = find
        self._on_change = on_change
        self._wanted: dict[str, _Wanted] = {}
        self._numbers = itertools.count(1)
        self._under_way: tuple[_Wanted, asyncio.Task[Footprint | None]] | None = None
        self._stopped = False
        self._log = get_logger("agentmux.models")
        self._failures = LoadFailures(clock, lambda name: self.load_ahead([name]))
        self._vocabularies: dict[str, tuple[bytes, ...]] = {}
        self.prepare: Callable[[ModelSpec, Callable[[], bool]], None] | None = None
        """Called in a thread before the engine loads a model: what can be done aside from the engine's own thread,
        where turns are computed. It is told by the second argument that its work is not wanted any more."""
        self.is_computing: Callable[[], bool] = lambda: True
        """Whether turns are under way, which preparing spares. Else whoever waits for a model would only have it later;
        one that nobody waits for is prepared in any case, since a turn may begin at any moment."""
        self.footprints: dict[str, Footprint] = {}
        """[name] measured sizes."""
        self.without_system = set[str]()
        """Names of models that are not to be shown system messages."""
        self.paths: dict[str, str] = {}
        """[name] the file that it was loaded from."""

    @property
    def loading(self) -> tuple[str, ...]:
        """Names of those that are on their way, in the order in which they are going to be there as it looks now."""
        first = self._under_way and self._under_way[0]
        return tuple(one.name for one in sorted(self._wanted.values(), key=lambda one: (one is not first, one.urgency)))

    @property
    def failures(self) -> Mapping[str, str]:
        """[name] the error of the last attempt, of those named ahead that could not be loaded, and were not since."""
        return self._failures.ahead

    @property
    def waiting(self) -> int:
        """How many wait for a model."""
        return sum(len(one.waiting) for one in self._wanted.values())

    def is_coming(self, name: str) -> bool:
        """Whether a turn of this model would wait for its loading: it is on its way, or is to be tried again."""
        return name not in self.footprints and (name in self._wanted or name in self.failures)

    def check(self, name: str, limit: int) -> None:
        """Look whether a turn of a model that is coming may wait for it. Raises QueueFull where ``limit`` wait already;
        and what ``for_turn`` refuses it with at once."""
        self._refuse_after_failure(name)
        if self.waiting >= limit:
            raise QueueFull(
                f"a turn of model {name} cannot wait: {self.waiting} of {limit} wait already for models to be loaded; "
                "try again later or raise queue_limit",
                queued=self.waiting,
                queue_limit=limit,
                retry_after_s=0,
            )

    def footprint(self, name: str) -> Footprint:
        """The measured sizes of a model. Raises ModelNotFound."""
        if self.is_coming(name):
            failure = self.failures.get(name)
            raise ModelNotFound(f"model {name} is not loaded{f': {failure}' if failure else ' yet'}")
        return self.footprints[known(name, self.footprints)]

    def load_ahead(self, names: Iterable[str]) -> None:
        """Have these loaded, in this order, while nobody waits for another. What fails then is logged."""
        for name in names:
            if name not in self.footprints:
                self._want(name).ahead = True
        self._begin()

    async def loaded(self, name: str) -> Footprint:
        """The footprint of a model, which is loaded first if it is not there yet; others wait until that is done.

        Cancelled, it lets a loading that has begun go on: a thread cannot be stopped, and what it has brought into the
        engine has to be booked. Whoever asks next finds it.

        Raises ModelNotFound, ModelCorrupt, ModelUnsupported, NeverFits, ConfigError, EngineError; nothing is changed
        then. All who wait have the error of one attempt; whoever asks later has another made.
        """
        if (there := self.footprints.get(name)) is not None:
            return there
        if self._stopped:
            raise self._gone(name)
        wanted = self._want(name)
        if not wanted.waiting:
            wanted.asked = next(self._numbers)
        future: asyncio.Future[Footprint] = asyncio.get_running_loop().create_future()
        wanted.waiting.append(future)
        self._begin()
        try:
            return await future
        finally:
            wanted.waiting.remove(future)
            self._give_up(wanted)
            self._begin()  # one that was being prepared for whoever has left may have to make way

    async def for_turn(self, name: str) -> Footprint:
        """``loaded``, for a turn. Raises the error of an attempt that has failed just now without making another: each
        takes the device from others, and turns may come as often as clients of a server ask for them."""
        self._refuse_after_failure(name)
        return await self.loaded(name)

    def _refuse_after_failure(self, name: str) -> None:
        if name not in self._wanted:
            self._failures.refuse(name)

    def stop(self) -> None:
        """Begin no further loading from now on."""
        self._stopped = True
        self._failures.stop()

    async def close(self) -> None:
        """Load nothing from now on, and return once what is on its way is there or has failed; a cancellation meanwhile
        is raised after that. Whoever waits for another model has EngineError."""
        self.stop()
        self._drop_waiting()
        if self._under_way is not None:
            await finished(self._under_way[1])

    async def vocabulary(self, name: str) -> tuple[bytes, ...]:
        """[token id] its bytes; read when first asked. Raises ModelNotFound for a model that is neither loaded nor on
        its way, EngineError where it cannot be read, and what loading raises."""
        if self.is_coming(name):
            await self.for_turn(name)
        path = self.paths[known(name, self.paths)]
        if name not in self._vocabularies:
            self._vocabularies[name] = await in_thread(_token_bytes, path)
        return self._vocabularies[name]

    def _want(self, name: str) -> _Wanted:
        if name not in self._wanted:
            self._wanted[name] = _Wanted(name, next(self._numbers))
        return self._wanted[name]

    def _drop_waiting(self) -> None:
        for wanted in list(self._wanted.values()):
            if not self._is_under_way(wanted):
                del self._wanted[wanted.name]
                if wanted.finding is not None:  # a thread cannot be stopped, and this one does not concern the engine
                    wanted.finding.cancel()
                wanted.settle(self._gone(wanted.name))

    def _gone(self, name: str) -> EngineError:
        return EngineError(f"the runtime is closed: model {name} is not loaded any more")

    def _is_under_way(self, wanted: _Wanted) -> bool:
        return self._under_way is not None and self._under_way[0] is wanted

    def _give_up(self, wanted: _Wanted) -> None:
        """Somebody has stopped waiting: what nobody wants any more does not begin."""
        mine = self._wanted.get(wanted.name) is wanted
        has_begun = wanted.finding is not None or self._is_under_way(wanted)
        if mine and not wanted.is_wanted and not has_begun:
            del self._wanted[wanted.name]

    def _begin(self) -> None:
        """Have looked for, and loaded, what is next."""
        if self._stopped:
            return
        ahead = [one for one in self._wanted.values() if not one.waiting]
        first_ahead = [min(ahead, key=lambda one: one.order)] if ahead else []
        waited = [one for one in self._wanted.values() if one.waiting]
        for one in (*waited, *first_ahead):
            self._look_for(one)
        found = [one for one in (*waited, *first_ahead) if one.spec is not None]
        if not found:
            return
        most_urgent = min(found, key=lambda one: one.urgency)
        if self._under_way is None:
            self._start(most_urgent)
        elif most_urgent.waiting and not self._under_way[0].waiting:
            self._under_way[0].makes_way = True

    def _look_for(self, wanted: _Wanted) -> None:
        if wanted.spec is None:
            wanted.spec = self._at_hand.get(wanted.name)
        if wanted.spec is None and wanted.finding is None:
            wanted.finding = in_daemon(self._find, wanted.name)
            wanted.finding.add_done_callback(lambda ended: self._was_found(wanted, ended))

    def _was_found(self, wanted: _Wanted, ended: asyncio.Future[ModelSpec]) -> None:
        wanted.finding = None
        if ended.cancelled():
            return
        error = ended.exception()
        if self._stopped:
            return
        if error is None and wanted.is_wanted:
            wanted.spec = ended.result()
        else:
            del self._wanted[wanted.name]
            if error is not None:
                self._failed(wanted, error, found=False)
        self._begin()

    def _start(self, wanted: _Wanted) -> None:
        assert wanted.spec is not None
        wanted.makes_way = False
        loading = asyncio.create_task(self._load(wanted, wanted.spec), name=f"agentmux loads {wanted.name}")
        self._under_way = wanted, loading
        loading.add_done_callback(lambda ended: self._ended(wanted, ended))

    def _ended(self, wanted: _Wanted, ended: asyncio.Task[Footprint | None]) -> None:
        self._under_way = None
        if ended.cancelled():  # by whoever ends all tasks of the loop
            self.stop()
            self._drop_waiting()
            return
        error = ended.exception()
        footprint = ended.result() if error is None else None
        if error is not None:
            del self._wanted[wanted.name]
            self._failed(wanted, error, found=True)
        elif footprint is not None:
            del self._wanted[wanted.name]
            self._failures.forget(wanted.name)
            wanted.settle(footprint)
            self._on_change()
        else:  # it has made way
            self._give_up(wanted)
        self._begin()

    def _failed(self, wanted: _Wanted, error: BaseException, *, found: bool) -> None:
        if not isinstance(error, Exception):
            error = EngineError(f"loading failed: {error!r}")
        self._failures.book(wanted.name, error, ahead=wanted.ahead, found=found)
        is_told = wanted.settle(error)
        log = self._log.debug if is_told or self._stopped else self._log.warning
        log("a model was not loaded", model=wanted.name, error=said(error))

    def _is_in_haste(self, wanted: _Wanted) -> bool:
        """Whether preparing it would only delay something."""
        is_delayed = bool(wanted.waiting) and not self.is_computing()
        return self._stopped or wanted.makes_way or is_delayed

    async def _load(self, wanted: _Wanted, spec: ModelSpec) -> Footprint | None:
        """None: it has made way for another one, and nothing is changed."""
        name = wanted.name
        if self.prepare is not None:
            if not self._is_in_haste(wanted):
                await in_thread(self.prepare, spec, lambda: self._is_in_haste(wanted))
            if wanted.makes_way and not self._stopped:
                return None
        if self._stopped:
            raise self._gone(name)
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


def _token_bytes(path: str) -> tuple[bytes, ...]:
    # Here, not at the top: it loads the native library, which a plain `import agentmux` must not.
    from agentmux.engine.vocabulary import token_bytes

    return token_bytes(path)
