"""No real engine by accident."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agentmux.engine.guard import REAL_ENGINES_VARIABLE


@contextmanager
def forbid_real_engines() -> Iterator[None]:
    """Within, making a native engine is an EngineError, in child processes too: the environment says so.

    For all tests of a project, rather set ``agentmux_real_engines = forbid`` in pytest's settings.
    """
    before = os.environ.get(REAL_ENGINES_VARIABLE)
    os.environ[REAL_ENGINES_VARIABLE] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[REAL_ENGINES_VARIABLE]
        else:
            os.environ[REAL_ENGINES_VARIABLE] = before
