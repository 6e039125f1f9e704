"""The turns that wait, of each model in two orders at once: in which they should start, and in which they came.

With n turns waiting, adding and removing one takes O(log n), and so does looking at the next: a run's standing changes
with each token that is computed for it, without anything here being touched. That works because it only ever gets
worse. So a run's place in the heap is never too late, at worst too early; what is at the top and has got worse since is
put back where it belongs, and what then stays at the top is first.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

from agentmux.policy.accounts import Account
from agentmux.policy.situation import Waiting

T = TypeVar("T")
Key: TypeAlias = tuple[float, float, int]
"""Tokens attained, number of the last admission, order of the next turn."""
_LAST = float("inf")


@dataclass(slots=True, eq=False)
class Queued(Generic[T]):
    """A turn in the queue, with whatever the caller keeps about it."""

    turn: int
    order: int
    since_s: float
    priority: int
    account: Account
    what: T

    def waiting(self) -> Waiting:
        """As a decision sees it."""
        return Waiting(self.turn, self.order, self.since_s, self.priority, self.account.attained)


@dataclass(slots=True, eq=False)
class _RunLine(Generic[T]):
    """Turns of one run and priority, by arrival."""

    account: Account
    turns: OrderedDict[int, Queued[T]] = field(default_factory=OrderedDict)

    def key(self) -> Key:
        return self.account.attained, self.account.served, next(iter(self.turns.values())).order


class _Level(Generic[T]):
    """Turns of one priority."""

    def __init__(self) -> None:
        self._lines: dict[Account, _RunLine[T]] = {}
        self._heap: list[tuple[Key, int, _RunLine[T]]] = []
        self._pushed = 0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, entry: Queued[T]) -> None:
        line = self._lines.get(entry.account)
        if line is None:
            line = self._lines[entry.account] = _RunLine(entry.account)
            line.turns[entry.turn] = entry
            self._push(line)
        else:
            line.turns[entry.turn] = entry

    def remove(self, entry: Queued[T]) -> None:
        line = self._lines[entry.account]
        del line.turns[entry.turn]
        if not line.turns:
            del self._lines[entry.account]
            if len(self._heap) > 2 * len(self._lines) + 64:  # lines that ended far from the top
                self._heap = [item for item in self._heap if item[2].turns]
                heapq.heapify(self._heap)

    def _push(self, line: _RunLine[T]) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (line.key(), self._pushed, line))

    def _top(self) -> tuple[Key, int, _RunLine[T]] | None:
        """The first line of the heap, once it is where it belongs."""
        while self._heap:
            key, _, line = self._heap[0]
            if not line.turns:
                heapq.heappop(self._heap)
            elif line.key() > key:
                heapq.heappop(self._heap)
                self._push(line)
            else:
                return self._heap[0]
        return None

    def first(self, count: int) -> list[Queued[T]]:
        """The next turns, as if each were started before the following one is looked for."""
        found: list[Queued[T]] = []
        taken: list[tuple[Key, int, _RunLine[T]]] = []
        again: list[tuple[Key, int, Queued[T], Iterator[Queued[T]]]] = []
        while len(found) < count:
            top = self._top()
            if top is not None and (not again or top[0] < again[0][0]):
                taken.append(heapq.heappop(self._heap))
                rest = iter(top[2].turns.values())
                entry = next(rest)
            elif again:
                _, _, entry, rest = heapq.heappop(again)
            else:
                break
            found.append(entry)
            if following := next(rest, None):
                # Its run has just been served, so runs that have had as little go before its next turn.
                key = (entry.account.attained, _LAST, following.order)
                heapq.heappush(again, (key, following.order, following, rest))
        for item in taken:
            heapq.heappush(self._heap, item)
        return found


class ModelQueue(Generic[T]):
    """All turns that wait for one model."""

    def __init__(self) -> None:
        self._by_age: OrderedDict[int, Queued[T]] = OrderedDict()
        self._levels: dict[int, _Level[T]] = {}
        self._ranks: list[int] = []  # sorted: the negated priorities of the levels

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[Queued[T]]:
        """By arrival."""
        return iter(list(self._by_age.values()))

    def get(self, turn: int) -> Queued[T] | None:
        """The turn of this id, if it waits here."""
        return self._by_age.get(turn)

    def add(self, entry: Queued[T]) -> None:
        """A turn that arrives after all others here."""
        self._by_age[entry.turn] = entry
        level = self._levels.get(entry.priority)
        if level is None:
            level = self._levels[entry.priority] = _Level()
            insort(self._ranks, -entry.priority)
        level.add(entry)
        entry.account.queued += 1

    def remove(self, turn: int) -> None:
        """Take a turn out that is here."""
        entry = self._by_age.pop(turn)
        level = self._levels[entry.priority]
        level.remove(entry)
        if not level:
            del self._levels[entry.priority]
            del self._ranks[bisect_left(self._ranks, -entry.priority)]
        entry.account.queued -= 1

    def first(self, count: int, overdue_before_s: float) -> list[Waiting]:
        """The next ``count`` turns, in order; then the oldest, and as many that wait since before that second."""
        found: dict[int, Queued[T]] = {}
        for rank in self._ranks:
            if len(found) >= count:
                break
            found |= {entry.turn: entry for entry in self._levels[-rank].first(count - len(found))}
        for place, entry in enumerate(islice(self._by_age.values(), count)):
            if place and entry.since_s >= overdue_before_s:
                break
            found.setdefault(entry.turn, entry)
        return [entry.waiting() for entry in found.values()]


class Backlog(Generic[T]):
    """The turns that wait for any model, and when each gives up."""

    def __init__(self) -> None:
        self._queues: dict[str, ModelQueue[T]] = {}
        self._model_of: dict[int, str] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._model_of)

    @property
    def models(self) -> Iterable[str]:
        """Those for which a turn waits."""
        return self._queues

    def of(self, model: str) -> Iterator[Queued[T]]:
        """The turns that wait for a model, by arrival."""
        return iter(self._queues.get(model, ModelQueue[T]()))

    def get(self, turn: int) -> Queued[T] | None:
        """The turn of this id, if it waits."""
        model = self._model_of.get(turn)
        return None if model is None else self._queues[model].get(turn)

    def add(self, model: str, entry: Queued[T], deadline_s: float | None) -> None:
        """A turn that arrives after all others, and gives up at that second."""
        self._queues.setdefault(model, ModelQueue()).add(entry)
        self._model_of[entry.turn] = model
        if deadline_s is not None:
            heapq.heappush(self._deadlines, (deadline_s, entry.turn))

    def remove(self, turn: int) -> None:
        """A turn waits no longer; no effect if it does not."""
        model = self._model_of.pop(turn, None)
        if model is not None:
            self._queues[model].remove(turn)
            if not self._queues[model]:
                del self._queues[model]

    def first(self, model: str, count: int, overdue_before_s: float) -> list[Waiting]:
        """See ``ModelQueue.first``."""
        queue = self._queues.get(model)
        return [] if queue is None else queue.first(count, overdue_before_s)

    def next_deadline_s(self) -> float | None:
        """The second at which the next turn gives up."""
        # Most turns start long before their deadline; without this, theirs would be kept until then.
        if len(self._deadlines) > 2 * len(self) + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._model_of]
            heapq.heapify(self._deadlines)
        while self._deadlines and self._deadlines[0][1] not in self._model_of:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expired(self, now_s: float) -> Iterator[Queued[T]]:
        """Turns whose deadline has come, each still in the queue when it is given out."""
        while (deadline_s := self.next_deadline_s()) is not None and deadline_s <= now_s:
            if entry := self.get(heapq.heappop(self._deadlines)[1]):
                yield entry
