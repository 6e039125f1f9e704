"""One server with the bundled models for all tests that only ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmux import Runtime
from agentmux.models import bundled_models
from tests.server.live import Live


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """The demonstration models on one thread."""
    with Live(
        lambda observers: Runtime(models=bundled_models(), device="cpu", threads=1, config=False, observers=observers)
    ) as server:
        yield server
