"""``GET /v1/models``, ``/health`` and ``/metrics``."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from agentmux.engine.base import ModelStats
from agentmux.runtime_stats import RuntimeStats
from agentmux.server.state import Served


async def models(served: Served, request: Request) -> Response:
    """All that can be named as a model."""
    stats = served.mux.stats()
    data = [_document(served, stats, name) for name in (*served.models, *served.published)]
    return JSONResponse({"object": "list", "data": data})


async def model(served: Served, request: Request) -> Response:
    """One of them. Raises ModelNotFound."""
    name = request.path_params["name"]
    served.known(name)
    return JSONResponse(_document(served, served.mux.stats(), name))


def _document(served: Served, stats: RuntimeStats, name: str) -> dict[str, Any]:
    head = {"id": name, "object": "model", "created": served.started_s, "owned_by": "agentmux"}
    if published := served.published.get(name):
        return {**head, "agentmux": {"kind": published.kind}}
    footprint = served.mux.footprint(name)
    now = next((one for one in stats.engine.models if one.model == name), ModelStats(name, "", 0, 0, 0))
    state = {
        "kind": "model",
        "architecture": footprint.architecture,
        "context_tokens": footprint.context_tokens,
        "slots": footprint.slots,
        "weight_bytes": footprint.weight_bytes,
        "resident_bytes": now.resident_bytes,
        "resident_share": round(now.resident_bytes / footprint.weight_bytes, 4) if footprint.weight_bytes else 1.0,
        "active": now.slots_active,
        "waiting": served.traffic.waiting(name) + now.slots_waiting,
        "units": now.unit_states,
    }
    return {**head, "agentmux": state}


async def health(served: Served, request: Request) -> Response:
    """200 while all is well; 503 if nothing moves although there is work, or the engine is gone."""
    stats = served.mux.stats()
    stalled_s = served.health.stalled_s(stats, asyncio.get_running_loop().time())
    work = {"active": stats.active, "queued": stats.queued}
    if stalled_s:
        return JSONResponse({"status": "stalled", "stalled_s": round(stalled_s, 1), **work}, 503)
    return JSONResponse({"status": "ok", **work})


async def metrics(served: Served, request: Request) -> Response:
    """Prometheus's text format."""
    weights = {name: served.mux.footprint(name).weight_bytes for name in served.models}
    text = served.traffic.text(served.mux.stats(), weights)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
