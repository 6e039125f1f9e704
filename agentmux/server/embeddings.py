"""``POST /v1/embeddings``, which is not offered: the engine gives texts and probabilities, no hidden states."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agentmux.server.problems import Problem
from agentmux.server.state import Served


async def embeddings(served: Served, request: Request) -> Response:
    """Raises Problem."""
    raise Problem(404, "embeddings are not offered: the engine only generates", code="unsupported")
