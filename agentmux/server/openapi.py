"""``GET /openapi.json``: what can be asked, and how it is answered, for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentmux.server.forms import ChatCompletion, HealthCard, ModelCard, ModelCards, ReadyCard, Refused, TextCompletion
from agentmux.server.responses_body import ResponseBody
from agentmux.server.settings import ServerSettings
from agentmux.server.state import Served
from agentmux.server.wire import ChatBody, CompletionBody

Json: TypeAlias = dict[str, Any]
_JSON = "application/json"
_STREAM = "text/event-stream"
_REFUSED_ONLY = ("functions", "function_call")
"""Members that are known so that they can be refused."""
_NOT_OF_RESPONSES = ("n", "max_tokens", "stream_options")
"""Members that are read as all others of ``Sampled``, and have no effect there."""
_TEXT: Json = {"type": "string", "minLength": 1}
_IDS: Json = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, "minItems": 1}
_CONTENT: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]}
_CALLS: Json = {"type": "array", "items": {"$ref": "#/components/schemas/CallPart"}}
_NULL: Json = {"type": "null"}
_MESSAGES: tuple[tuple[list[str], list[str], Json], ...] = (
    (["system", "developer", "user"], ["content"], {}),
    (["assistant"], ["content"], {"tool_calls": {"anyOf": [_CALLS, _NULL]}}),
    (
        ["assistant"],
        ["tool_calls"],
        {"content": {"anyOf": [_CONTENT, _NULL]}, "tool_calls": {**_CALLS, "minItems": 1}},
    ),
    (["tool"], ["content", "tool_call_id"], {"tool_call_id": {"type": "string"}}),
)
"""Whose message, what it must have, and its further members: more than the types of ``wire`` say."""
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


@dataclass(frozen=True, slots=True)
class Described:
    """An endpoint's bodies. Endpoints that have no such description are described by their path and their docstring."""

    answer: type[BaseModel] | None = None
    """Of a good response; None: any."""
    body: type[BaseModel] | None = None
    media_types: tuple[str, ...] = (_JSON,)
    """Of a good response; what is not JSON is text."""
    more: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    """[status] other responses than those that any endpoint may have."""


_ENDPOINTS: Mapping[str, Described] = MappingProxyType(
    {
        "/v1/chat/completions": Described(ChatCompletion, ChatBody, (_JSON, _STREAM)),
        "/v1/completions": Described(TextCompletion, CompletionBody, (_JSON, _STREAM)),
        "/v1/responses": Described(None, ResponseBody, (_JSON, _STREAM)),
        "/v1/models": Described(ModelCards),
        "/v1/models/{name:path}": Described(ModelCard),
        "/health": Described(HealthCard, more={503: HealthCard}),
        "/ready": Described(ReadyCard, more={503: ReadyCard}),
        "/metrics": Described(media_types=("text/plain",)),
        "/openapi.json": Described(),
        "/": Described(media_types=("text/html",)),
        "/page/{name}": Described(media_types=("text/javascript", "text/css", "image/svg+xml")),
        "/live": Described(media_types=(_STREAM,)),
    }
)
_REFUSALS: Mapping[int, str] = MappingProxyType(
    {
        400: "The request cannot be meant, or could not be answered even alone.",
        401: "The API key is missing or wrong.",
        403: "The host is not this machine.",
        404: "There is no such model, or place.",
        408: "The request did not come in time.",
        413: "The body is too large.",
        415: "The body is not application/json.",
        429: "As many turns wait as may.",
        431: "Too many headers.",
        500: "A run failed.",
        503: "The engine is not there.",
    }
)
_OF_BODIES = (408, 413, 415)


async def openapi(served: Served, request: Request) -> Response:
    """This description."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    return JSONResponse(description(routes, (*served.models, *served.published), served.settings))


def description(routes: list[Route], names: tuple[str, ...], settings: ServerSettings) -> Json:
    """OpenAPI 3.1.

    Args:
        routes: what is served.
        names: what can be named as a model.
        settings: what is asked of requests.
    """
    paths = {_PARAMETER.sub(r"{\1}", route.path): _path(route) for route in routes}
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "agentmux", "version": version("agentmux")},
        "paths": paths,
        "components": {"schemas": _schemas(names, settings)},
    }
    if settings.api_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for path in paths.keys() & {"/health", "/ready"}:
            paths[path]["get"]["security"] = []
    return document


def _schemas(names: tuple[str, ...], settings: ServerSettings) -> Json:
    used: set[type[BaseModel]] = {Refused}
    for one in _ENDPOINTS.values():
        used |= {form for form in (one.answer, one.body, *one.more.values()) if form is not None}
    ordered = sorted(used, key=lambda form: form.__name__)
    _, made = models_json_schema(
        [(form, "validation") for form in ordered], ref_template="#/components/schemas/{model}"
    )
    schemas: Json = made["$defs"]
    schemas["ChatMessage"] = {"anyOf": [_message(*form) for form in _MESSAGES]}
    schemas["Part"] |= {"properties": {"type": {"const": "text"}, "text": {"type": "string"}}}
    schemas["Part"]["required"] = ["type", "text"]
    schemas["ChatBody"]["properties"]["messages"]["maxItems"] = settings.max_messages
    schemas["CompletionBody"]["properties"]["prompt"] = {"anyOf": [_TEXT, _IDS, _several(_TEXT), _several(_IDS)]}
    for body in (ChatBody, CompletionBody, ResponseBody):
        members = schemas[body.__name__]["properties"]
        members["model"] = {"type": "string", "enum": list(names)}
        members["n"]["anyOf"][0]["maximum"] = settings.max_choices
        members["logit_bias"]["anyOf"][0]["propertyNames"] = {"pattern": "^[0-9]{1,10}$"}
        for name in _REFUSED_ONLY if body is not ResponseBody else _NOT_OF_RESPONSES:
            members.pop(name, None)
    return schemas


def _message(roles: list[str], required: list[str], more: Json) -> Json:
    members = {"role": {"enum": roles}, "content": _CONTENT, **more}
    return {"type": "object", "properties": members, "required": ["role", *required]}


def _several(one: Json) -> Json:
    return {"type": "array", "items": one, "minItems": 1}


def _path(route: Route) -> Json:
    described = _ENDPOINTS.get(route.path, Described())
    verbs = sorted((route.methods or set()) - {"HEAD"})
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(route.path)
    ]
    operation: Json = {
        "summary": (route.endpoint.__doc__ or "").strip().partition("\n")[0],
        "responses": _responses(described, has_body="POST" in verbs),
    }
    if described.body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": _reference(described.body)}}}
    if parameters:
        operation["parameters"] = parameters
    return {verb.lower(): operation for verb in verbs}


def _responses(described: Described, has_body: bool) -> Json:
    contents = {kind: {"schema": _good(described, kind)} for kind in described.media_types}
    responses = {"200": _response("The answer.", contents)}
    for status, text in _REFUSALS.items():
        if status in _OF_BODIES and not has_body:
            continue
        form = described.more.get(status, Refused)
        responses[str(status)] = _response(text, {_JSON: {"schema": _reference(form)}})
    responses["429"]["headers"]["Retry-After"] = {"schema": {"type": "integer", "minimum": 1}}
    return responses


def _good(described: Described, media_type: str) -> Json:
    if media_type == _JSON and described.answer is not None:
        return _reference(described.answer)
    return {} if media_type in (_JSON, _STREAM) else {"type": "string"}


def _response(text: str, contents: Json) -> Json:
    return {"description": text, "headers": {"x-request-id": {"schema": {"type": "string"}}}, "content": contents}


def _reference(form: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{form.__name__}"}
