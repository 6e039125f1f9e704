"""What goes on, as a document, and as a stream of what changes in it, for the live page and for ``agentmux top``.

Nothing is sampled while nobody watches, and nothing is sent while nothing changes. Each watcher compares with what it
was sent last, so that a slow one gets fewer and larger changes, and nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

from agentmux.engine.base import ModelStats
from agentmux.errors import EngineError, ModelNotFound
from agentmux.messages import Event, TurnAdmitted, TurnCancelled, TurnCompleted, TurnErrored
from agentmux.runtime import Runtime
from agentmux.runtime_stats import RuntimeStats
from agentmux.server.live_merge import changes
from agentmux.server.live_record import BUCKET_S, BUCKETS, Document, Record
from agentmux.server.problems import Problem

TICK_S = 0.1
"""Between two changes at least, while there is work."""
MAX_WATCHERS = 32


class Live:
    """Give ``observe`` to the runtime as an observer, and the whole to ``application``.

    Args:
        clock: seconds, for tests.
        idle_s: between two looks at the engine while nothing happens; events are told at once.
        heartbeat_s: seconds of silence after which a stream says that it is still there.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, idle_s: float = 2.0, heartbeat_s: float = 15.0
    ) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._heartbeat_s = heartbeat_s
        self._began_s = clock()
        self._record = Record()
        self._version = 0
        self._mux: Runtime | None = None
        self._targets: Mapping[str, str] = {}
        self._sizes: dict[str, Document] = {}
        self._uploaded_bytes = 0
        self._watchers: set[asyncio.Event] = set()
        self._ended = False

    def bind(self, mux: Runtime, targets: Mapping[str, str]) -> None:
        """Say of which runtime; ``targets``: [name] ``agent`` or ``pipeline``, of what is published."""
        self._mux = mux
        self._targets = dict(targets)

    @property
    def watchers(self) -> int:
        """How many follow it."""
        return len(self._watchers)

    def observe(self, event: Event) -> None:
        """Take notice of an event of any run."""
        self._record.add(event, self._now_s())
        self._version += 1
        if not self._watchers and isinstance(event, TurnAdmitted | TurnCompleted | TurnCancelled | TurnErrored):
            self._stats()  # so that the link's use is known of times when nobody watched, too
        for watcher in self._watchers:
            watcher.set()

    def end(self) -> None:
        """Let all streams end, since the server does."""
        self._ended = True
        for watcher in self._watchers:
            watcher.set()

    def turn(self, turn: str) -> Document | None:
        """A recent turn with prompt, answer and numbers."""
        return self._record.turn(turn)

    async def follow(self) -> AsyncGenerator[str, None]:
        """Server-sent events: a ``snapshot``, then a ``delta`` whenever something has changed, as JSON merge patches.

        Raises Problem (503) where too many follow already.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise Problem(503, f"{MAX_WATCHERS} follow already", code="too_many_watchers", type="server_error")
        woken = asyncio.Event()
        self._watchers.add(woken)
        try:
            seen = self.document()
            yield _event("snapshot", {"now_s": self._now_s(), **seen})
            sent_s = self._clock()
            version, stats = -1, None
            while not self._ended:
                woken.clear()
                before, stats = stats, self._stats()
                if version != self._version or before != stats:
                    version = self._version
                    now = self.document()
                    if patch := changes(seen, now):
                        yield _event("delta", {"now_s": self._now_s(), **patch})
                        seen, sent_s = now, self._clock()
                if self._clock() - sent_s >= self._heartbeat_s:
                    yield ": still here\n\n"
                    sent_s = self._clock()
                await self._pause(woken, stats)
        finally:
            self._watchers.discard(woken)

    async def _pause(self, woken: asyncio.Event, stats: RuntimeStats | None) -> None:
        if stats is None or not (stats.active or stats.queued):
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), self._idle_s)
        if not self._ended:
            await asyncio.sleep(TICK_S)

    def document(self) -> Document:
        """All of it, at this moment, but for the time."""
        stats, record = self._stats(), self._record
        head: dict[str, Any] = {
            "version": 1,
            "bucket_s": BUCKET_S,
            "buckets": BUCKETS,
            "targets": self._targets,
            "turns": dict(record.turns),
            "spans": dict(record.spans),
            "rates": dict(record.rates),
            "tokens": record.tokens,
        }
        return head if stats is None else {**head, **self._engine(stats)}

    def _engine(self, stats: RuntimeStats) -> Document:
        engine = stats.engine
        return {
            "device": engine.device,
            "memory": {
                "budget_bytes": engine.device_budget_bytes,
                "arena_bytes": engine.arena_bytes,
                "arena_used_bytes": engine.arena_used_bytes,
                "context_bytes": engine.context_bytes,
                "host_bytes": engine.host_weight_bytes,
                "uploaded_bytes": engine.uploaded_bytes,
                "link_bytes_per_s": round(engine.upload_bytes_per_s),
                "upload_wait_s": round(engine.upload_wait_s, 3),
                "switches": engine.switches,
            },
            "ends": {"finished": stats.finished, "cancelled": stats.cancelled, "failed": stats.failed},
            "models": {one.model: self._model(one) for one in engine.models if self._size(one.model)},
            "loading": list(stats.loading),
        }

    def _model(self, stats: ModelStats) -> Document:
        return {
            **self._size(stats.model),
            "units": stats.unit_states,
            "resident_bytes": stats.resident_bytes,
            "active": stats.slots_active,
            "waiting": stats.slots_waiting,
        }

    def _size(self, model: str) -> Document:
        """What does not change; made once, since it is asked for often. Empty for a model that is just being loaded."""
        if model not in self._sizes:
            assert self._mux is not None
            try:
                footprint = self._mux.footprint(model)
            except ModelNotFound:
                return {}
            self._sizes[model] = {
                "architecture": footprint.architecture,
                "weight_bytes": footprint.weight_bytes,
                "unit_bytes": list(footprint.unit_bytes),
                "slots": footprint.slots,
                "context_tokens": footprint.context_tokens,
            }
        return self._sizes[model]

    def _stats(self) -> RuntimeStats | None:
        """The runtime's numbers, if it is open; what was uploaded since the last look is taken down."""
        if self._mux is None:
            return None
        try:
            stats = self._mux.stats()
        except EngineError:
            return None
        uploaded = stats.engine.uploaded_bytes
        self._record.uploaded(uploaded - self._uploaded_bytes, self._now_s())
        self._uploaded_bytes = uploaded
        return stats

    def _now_s(self) -> float:
        return round(self._clock() - self._began_s, 3)


def _event(kind: str, document: Document) -> str:
    data = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n"
