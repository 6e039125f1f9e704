"""``GET /v1/models``, ``/health``, ``/ready`` and ``/metrics``."""

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
    kind = {"kind": "model", "state": _state(stats, name)}
    if kind["state"] != "loaded":
        return {**head, "agentmux": kind}
    footprint = served.mux.footprint(name)
    now = next((one for one in stats.engine.models if one.model == name), ModelStats(name, "", 0, 0, 0))
    state = {
        **kind,
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


def _state(stats: RuntimeStats, name: str) -> str:
    if name in stats.loading:
        return "loading"
    return "failed" if name in stats.load_errors else "loaded"


async def health(served: Served, request: Request) -> Response:
    """200 while all is well; 503 if nothing moves although there is work, or the engine is gone."""
    stats = served.mux.stats()
    stalled_s = served.health.stalled_s(stats, asyncio.get_running_loop().time())
    work = {"active": stats.active, "queued": stats.queued}
    if stalled_s:
        return JSONResponse({"status": "stalled", "stalled_s": round(stalled_s, 1), **work}, 503)
    return JSONResponse({"status": "ok", **work})


async def ready(served: Served, request: Request) -> Response:
    """200 once all models are loaded; 503 while some are not, with their names, and those that could not be loaded.
    What may pass is tried again without anybody's asking: a probe that lets no requests through sees the end of it.

    Requests are answered meanwhile: those for a model that is on its way wait for it.
    """
    stats = served.mux.stats()
    failed = [name for name in served.models if name in stats.load_errors and name not in stats.loading]
    loading = [name for name in stats.loading if name in served.models]
    status = "loading" if loading else "failed" if failed else "ready"
    return JSONResponse({"status": status, "loading": loading, "failed": failed}, 200 if status == "ready" else 503)


async def metrics(served: Served, request: Request) -> Response:
    """Prometheus's text format."""
    stats = served.mux.stats()
    there = [name for name in served.models if _state(stats, name) == "loaded"]
    text = served.traffic.text(stats, {name: served.mux.footprint(name).weight_bytes for name in there})
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
