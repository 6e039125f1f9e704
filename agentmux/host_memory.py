"""What the system says of main memory."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def sizes() -> dict[str, int]:
    """[name, as in /proc/meminfo] bytes; empty where there is no such file."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return {}
    return {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith("kB")}


def cgroup_limit() -> int | None:
    """Bytes that the control group may use at most; None without a limit."""
    try:
        text = _CGROUP.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def available_bytes() -> int:
    """Bytes that can be used without swapping, files that are only kept in memory among them; 0 where the system does
    not say."""
    available, limit = sizes().get("MemAvailable", 0), cgroup_limit()
    return available if limit is None else min(available, limit)
