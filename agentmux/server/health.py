"""Whether something moves while there is work."""

from __future__ import annotations

from agentmux.runtime_stats import RuntimeStats


class Health:
    """Looks at the runtime's numbers whenever it is asked, and remembers since when nothing has moved.

    Args:
        stall_s: seconds without progress, while turns wait or run, after which it is not well.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._seen: tuple[int, ...] = ()
        self._since_s = 0.0

    def stalled_s(self, stats: RuntimeStats, now_s: float) -> float:
        """Seconds for which nothing is known to have moved although there is work; 0 while all is well."""
        engine = stats.engine
        seen = (engine.steps, engine.uploaded_bytes, stats.finished, stats.cancelled, stats.failed)
        if seen != self._seen or not (stats.queued or stats.active):
            self._seen, self._since_s = seen, now_s
        stalled_s = now_s - self._since_s
        return stalled_s if stalled_s >= self._stall_s else 0.0
