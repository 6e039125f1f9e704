"""One server with the bundled models for all tests that only ask it, and one with scripts for others' clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI

from agentmux import Runtime
from agentmux.models import bundled_models
from agentmux.testing import ScriptedEngine
from tests.server.live import Live
from tests.server.two_models import two_models


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """The demonstration models on one thread."""
    with Live(
        lambda observers: Runtime(models=bundled_models(), device="cpu", threads=1, config=False, observers=observers)
    ) as server:
        yield server


@pytest.fixture
def scripted() -> Iterator[tuple[Live, ScriptedEngine]]:
    """A planner and a coder that follow scripts, and their engine."""
    make, engine = two_models()
    with Live(make) as server:
        yield server, engine


@pytest.fixture
async def client(scripted: tuple[Live, ScriptedEngine]) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's own client of that server."""
    async with AsyncOpenAI(base_url=f"{scripted[0].url}/v1", api_key="none", max_retries=0) as client:
        yield client
