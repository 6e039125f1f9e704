"""What the NVIDIA driver says of a GPU: memory in use and energy. Everything is None where there is no NVML."""

from __future__ import annotations

import ctypes
import threading
from types import TracebackType

_PERIOD_S = 0.01


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Nvml:
    """One GPU, by its index."""

    def __init__(self, index: int = 0) -> None:
        self._library: ctypes.CDLL | None = None
        self._device = ctypes.c_void_p()
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
            found = library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._device))
        except (OSError, AttributeError):
            return
        if found == 0:
            self._library = library

    def name(self) -> str | None:
        """The product's."""
        text = ctypes.create_string_buffer(96)
        if self._library is None or self._library.nvmlDeviceGetName(self._device, text, len(text)):
            return None
        return text.value.decode(errors="replace")

    def used_bytes(self) -> int | None:
        """Of the whole GPU, by everyone."""
        memory = _Memory()
        if self._library is None or self._library.nvmlDeviceGetMemoryInfo(self._device, ctypes.byref(memory)):
            return None
        return int(memory.used)

    def energy_j(self) -> float | None:
        """Since the driver was loaded."""
        millijoules = ctypes.c_ulonglong()
        if self._library is None:
            return None
        if self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(millijoules)):
            return None
        return millijoules.value / 1000


class Watch:
    """While it is entered, looks at the memory in use a hundred times a second.

    Afterwards: ``peak_bytes`` above what was in use when ``base_bytes`` was read, and ``energy_j``; None where unknown.
    """

    def __init__(self, nvml: Nvml, base_bytes: int | None) -> None:
        self.peak_bytes: int | None = None
        self.energy_j: float | None = None
        self._nvml = nvml
        self._base_bytes = base_bytes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began_j: float | None = None

    def __enter__(self) -> Watch:
        self._began_j = self._nvml.energy_j()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        ended_j = self._nvml.energy_j()
        if ended_j is not None and self._began_j is not None:
            self.energy_j = ended_j - self._began_j

    def _run(self) -> None:
        while True:
            used = self._nvml.used_bytes()
            if used is None or self._base_bytes is None:
                return
            self.peak_bytes = max(self.peak_bytes or 0, used - self._base_bytes)
            if self._stop.wait(_PERIOD_S):
                return
