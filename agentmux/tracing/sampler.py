"""What the engine's counters did while turns ran: uploads, waits for them, switches, residency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentmux.engine.base import EngineStats
from agentmux.tracing.lanes import Write
from agentmux.tracing.records import SWITCHES, UPLOADS, WAITS, counted, instant, micros, whole


@dataclass(slots=True)
class _Upload:
    """Uploads without a pause, from the sample before the first of them."""

    from_us: int
    until_us: int
    sent_bytes: int


class Sampler:
    """Turns samples of the counters into records. What lies between two samples is known as a sum only: so a wait is
    drawn up to the end of the interval that it ended in, and uploads over all of theirs."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._last: EngineStats | None = None
        self._last_us = 0
        self._waited_until_us = 0
        self._upload: _Upload | None = None
        self._drawn: dict[str, Mapping[str, float]] = {}

    def sample(self, stats: EngineStats, at_us: int) -> None:
        """The counters as they are now. Moments must be given in order."""
        last, elapsed_us = self._last, at_us - self._last_us
        if last is not None and elapsed_us <= 0:
            return  # no interval to put anything into; the next one has it all
        if last is not None:
            self._uploaded(stats.uploaded_bytes - last.uploaded_bytes, at_us)
            self._waited(stats.upload_wait_s - last.upload_wait_s, at_us)
            if switches := stats.switches - last.switches:
                self._write(instant(SWITCHES, "switch" if switches == 1 else f"{switches} switches", at_us, {}))
        self._last, self._last_us = stats, at_us
        self._draw("resident weights (bytes)", at_us, {one.model: one.resident_bytes for one in stats.models})
        saved, restored = stats.session_bytes_saved, stats.session_bytes_restored
        self._draw("KV cache moved (bytes)", at_us, {"saved": saved, "restored": restored})

    def pause(self, at_us: int) -> None:
        """No more samples for now: what is known is written, and the next sample begins anew."""
        self._flush()
        if "upload (GB/s)" in self._drawn:
            self._draw("upload (GB/s)", at_us, {"GB/s": 0.0})
        self._last = None

    def _uploaded(self, sent_bytes: int, at_us: int) -> None:
        from_us = self._last_us
        self._draw("upload (GB/s)", from_us, {"GB/s": round(sent_bytes / (at_us - from_us) / 1e3, 4)})
        if sent_bytes <= 0:
            self._flush()
        elif self._upload is None:
            self._upload = _Upload(from_us, at_us, sent_bytes)
        else:
            self._upload.until_us = at_us
            self._upload.sent_bytes += sent_bytes

    def _flush(self) -> None:
        if (upload := self._upload) is not None:
            said = {"bytes": upload.sent_bytes}
            self._write(whole(UPLOADS, "uploads", upload.from_us, upload.until_us, said))
            self._upload = None

    def _waited(self, waited_s: float, at_us: int) -> None:
        # The engine tells of a wait when it is over: a long one began before the interval that it ended in.
        from_us = max(at_us - micros(waited_s), self._waited_until_us)
        if waited_s > 0 and from_us < at_us:
            said = {"waited_s": waited_s, "within_s": (at_us - self._last_us) / 1e6}
            self._write(whole(WAITS, "waits for uploads", from_us, at_us, said))
            self._waited_until_us = at_us

    def _draw(self, name: str, at_us: int, values: Mapping[str, float]) -> None:
        if values and self._drawn.get(name) != values:
            self._drawn[name] = values
            self._write(counted(name, at_us, values))
