"""What each run has had, for least attained service, what it did last, for look-ahead, and how long turns take."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol


class Computing(Protocol):
    """A turn under way, as far as its service is concerned."""

    @property
    def computed_tokens(self) -> int:
        """Tokens of prompt and answer that were computed so far."""
        ...


@dataclass(slots=True, eq=False)
class Account:
    """One run's. ``attained`` and ``served`` only ever grow: the queue's order relies on it."""

    ended_tokens: int = 0
    """Computed for turns that have ended."""
    under_way: set[Computing] = field(default_factory=set)
    served: int = 0
    """Number of the last admission that was one of its turns: of runs that have had the same, the one served longest
    ago goes first."""
    queued: int = 0
    last_model: str | None = None
    """Of the turn that ended last."""

    @property
    def attained(self) -> int:
        """Tokens computed for it: prompts without what a KV cache gave, and answers. For a turn under way, the first
        batch of its prompt counts only when it ends, because only then is it known how much of it was computed."""
        tokens = self.ended_tokens
        for turn in self.under_way:
            tokens += turn.computed_tokens
        return tokens

    def end(self, turn: Computing, tokens: int | None) -> None:
        """A turn that was under way has ended, with so many tokens computed; None: as far as is known."""
        self.under_way.discard(turn)
        self.ended_tokens += max(turn.computed_tokens, tokens or 0)


class Accounts:
    """Of all runs. Those with no turn in the scheduler are forgotten, the one longest ago first, beyond ``keep``: such
    a run begins from nothing again, which gives it more than its due once, and memory stays bounded."""

    def __init__(self, keep: int = 4096) -> None:
        self._keep = keep
        self._by_run: OrderedDict[str, Account] = OrderedDict()

    def of(self, run: str) -> Account:
        """The run's account. A turn outside of any run (``""``) gets one of its own."""
        if not run:
            return Account()
        account = self._by_run.get(run)
        if account is None:
            self._trim()
            account = self._by_run[run] = Account()
        else:
            self._by_run.move_to_end(run)
        return account

    def forget(self, run: str) -> None:
        """The run has ended."""
        self._by_run.pop(run, None)

    def __len__(self) -> int:
        return len(self._by_run)

    def _trim(self) -> None:
        # Two for each new one: those with turns in the scheduler are spared, and the others become fewer all the same.
        for _ in range(2):
            if len(self._by_run) < self._keep:
                return
            run, account = self._by_run.popitem(last=False)
            if account.queued or account.under_way:
                self._by_run[run] = account


class ServiceTimes:
    """How long turns take, for an estimate of when a full queue will have room. Recent ones count most."""

    _WEIGHT = 0.2
    """Of the latest turn."""

    def __init__(self) -> None:
        self._mean_s: float | None = None
        self._refused = 0

    def took(self, seconds: float) -> None:
        """A turn ended after so many seconds in the engine, those not counted in which it was parked."""
        mean_s = seconds if self._mean_s is None else self._mean_s
        self._mean_s = mean_s + self._WEIGHT * (seconds - mean_s)

    def refused(self, most: int) -> None:
        """The queue was full. At most ``most`` of those who were turned away are counted: one who asks again and again
        must not drive the estimate for all."""
        self._refused = min(self._refused + 1, most)

    def made_room(self) -> None:
        """A turn left the queue."""
        self._refused = max(0, self._refused - 1)

    def retry_after_s(self, active: int) -> float:
        """Seconds until a full queue has room for one more, after those who were turned away before have come again; 0
        before any turn has ended."""
        return 0.0 if self._mean_s is None else (1 + self._refused) * self._mean_s / max(active, 1)
