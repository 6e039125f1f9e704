"""Attempts to load a model that failed: who is told of them, and when another one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agentmux.clock import Clock, Timer
from agentmux.errors import (
    ConfigError,
    EngineError,
    ModelCorrupt,
    ModelUnsupported,
    NeverFits,
    again,
    said,
)

RETRY_S = 60.0
"""Seconds after a failed attempt within which no turn causes another one, and after which the first is made unasked."""
_DOUBLINGS = 4
"""How often the time until the next unasked attempt is doubled."""
_FINAL = (ModelCorrupt, ModelUnsupported, NeverFits, ConfigError)
"""What an engine says of a model that it is not going to load another time either."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """The last attempt."""

    error: Exception
    at_s: float
    ahead: bool
    """Of a model that was named ahead."""
    attempts: int
    retry: Timer | None
    """None: not before somebody asks for it."""


def another(error: Exception) -> Exception:
    """An error like this one, to be raised elsewhere."""
    try:
        return again(error)
    except Exception:  # not one of ours, and made in a way of its own
        return EngineError(said(error))


class LoadFailures:
    """The models that could not be loaded, and were not since.

    One that was named ahead is tried again after a minute, and then after twice as long each time, up to 16 minutes,
    unless the engine has found that the model itself cannot be loaded.

    Args:
        clock: what the times are of.
        retry: has another attempt made.
    """

    def __init__(self, clock: Clock, retry: Callable[[str], None]) -> None:
        self._clock = clock
        self._retry = retry
        self._failures: dict[str, _Failure] = {}
        self._stopped = False

    @property
    def ahead(self) -> Mapping[str, str]:
        """[name] the error, of those named ahead."""
        return {name: said(failure.error) for name, failure in self._failures.items() if failure.ahead}

    def refuse(self, name: str) -> None:
        """Raise the error of an attempt that has failed just now."""
        failure = self._failures.get(name)
        if failure is not None and self._is_recent(failure):
            raise another(failure.error)

    def book(self, name: str, error: Exception, *, ahead: bool, found: bool) -> None:
        """An attempt has failed.

        Args:
            name: the model's.
            error: what was raised.
            ahead: the model was named ahead.
            found: its file was, so that the engine had to do with it.
        """
        before = self._failures.get(name)
        self.forget(name)
        self._failures = {other: one for other, one in self._failures.items() if one.ahead or self._is_recent(one)}
        attempts, retry, now_s = 1, None, self._clock.now()
        if before is not None:
            ahead, attempts = ahead or before.ahead, before.attempts + 1
        if ahead and not self._stopped and not (found and isinstance(error, _FINAL)):
            wait_s = RETRY_S * 2 ** min(attempts - 1, _DOUBLINGS)
            retry = self._clock.call_at(now_s + wait_s, lambda: self._retry(name))
        if ahead or found:  # looking for a file that is not there takes nothing from others
            self._failures[name] = _Failure(another(error), now_s, ahead, attempts, retry)

    def forget(self, name: str) -> None:
        """It is there, or booked anew."""
        failure = self._failures.pop(name, None)
        if failure is not None and failure.retry is not None:
            failure.retry.cancel()

    def stop(self) -> None:
        """Have no further attempt made."""
        self._stopped = True
        for failure in self._failures.values():
            if failure.retry is not None:
                failure.retry.cancel()

    def _is_recent(self, failure: _Failure) -> bool:
        return self._clock.now() - failure.at_s < RETRY_S
