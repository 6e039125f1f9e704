"""Runs a part of the probe in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

_WAIT_S = 120.0


def ask(part: str = "") -> dict[str, Any]:
    """What the probe found; ``{"crash": why}`` if it did not come to an end."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "agentmux.cli.health.probe", *([part] if part else [])],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_WAIT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"crash": f"it did not end within {_WAIT_S:.0f} s"}
    except OSError as error:
        return {"crash": str(error)}
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"crash": f"ended by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else last}
    return found if isinstance(found, dict) else {"crash": "it said no object"}
