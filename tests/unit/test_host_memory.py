"""What the system says of main memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmux import host_memory

GIB = 2**30


def test_this_system() -> None:
    assert 0 < host_memory.available_bytes() <= host_memory.sizes()["MemTotal"]


@pytest.mark.parametrize(
    ("meminfo", "limit", "available"),
    [
        ("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nHugePages_Total: 0\n", "max\n", 4 * GIB),
        ("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n", f"{GIB}\n", GIB),
        ("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n", None, 4 * GIB),
        (None, f"{GIB}\n", 0),
        (None, None, 0),
    ],
)
def test_what_is_available(
    meminfo: str | None, limit: str | None, available: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("_MEMINFO", meminfo), ("_CGROUP", limit)):
        monkeypatch.setattr(host_memory, name, tmp_path / name)
        if text is not None:
            (tmp_path / name).write_text(text)
    assert host_memory.available_bytes() == available
