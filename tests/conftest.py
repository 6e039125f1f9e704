"""Shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Two cores under load must not turn a slow example into a failure: correctness is tested here, not speed.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# A shell starts what it runs in the background with interrupts ignored, and so they would be for the commands in tests.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def home_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the developer's own registry and journal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTMUX_HOME", str(tmp_path_factory.mktemp("agentmux-home")))
        yield


@pytest.fixture(autouse=True)
def logs_as_ever() -> Iterator[None]:
    """What a command configured of the logs does not reach the next test."""
    yield
    structlog.reset_defaults()
