"""What every request passes before it reaches an endpoint: headers, host, key. And what every answer carries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentmux.log import get_logger
from agentmux.server.problems import Problem, problem_of
from agentmux.server.settings import ServerSettings, is_loopback
from agentmux.server.traffic import Traffic

REQUEST_ID = "x-request-id"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CUT_OFF = Problem(503, "the server ended before the answer was there", code="engine_unavailable", type="server_error")


class Guard:
    """Around an application: refuses what may not come in, and names, counts and logs what was answered.

    Args:
        app: what answers.
        settings: who may ask.
        traffic: where answers are counted.
        paths: the endpoints that are counted by name; others, which clients can make up, count as one.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, traffic: Traffic, paths: frozenset[str]) -> None:
        self._app = app
        self._settings = settings
        self._traffic = traffic
        self._paths = paths
        self._keys = tuple(_digest(key) for key in settings.api_keys)
        self._log = get_logger("agentmux.server")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _GIVEN_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._answer(scope, receive, named, headers)
        except asyncio.CancelledError:
            if not status:
                await _CUT_OFF.response()(scope, receive, named)
            raise
        except Exception as error:
            self._log.error("request failed", request=request_id, path=scope["path"], error=repr(error), exc_info=True)
            if not status:
                await problem_of(error).response()(scope, receive, named)
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._traffic.answered(path, status)
        self._log.info("request", request=request_id, method=scope["method"], path=scope["path"], status=status)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        try:
            self._admit(scope["path"], headers)
        except Problem as problem:
            self._traffic.refused(problem.code)
            await problem.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _admit(self, path: str, headers: Headers) -> None:
        if len(headers) > self._settings.max_headers:
            raise Problem(
                431, f"{len(headers)} headers are more than {self._settings.max_headers}", code="too_many_headers"
            )
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy may see the request's end elsewhere, and so another request behind it.
            raise Problem(
                400,
                "a request has Transfer-Encoding or Content-Length, not both",
                code="invalid_http",
                headers={"Connection": "close"},
            )
        if not self._keys:
            self._check_host(headers)
        elif path not in ("/health", "/ready", "/") and not path.startswith("/page/"):
            self._check_key(headers)

    def _check_host(self, headers: Headers) -> None:
        """Without a key, a page in a browser must not get here by a name of its own for this machine's address."""
        host = headers.get("host", "")
        name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
        if not is_loopback(name):
            raise Problem(403, f"host {name!r} is not this machine", code="forbidden_host")

    def _check_key(self, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = _digest(given.strip() if scheme.lower() == "bearer" else "")
        # Digests are of one length, and all keys are looked at: the time says nothing of how much was right.
        if not sum(hmac.compare_digest(digest, key) for key in self._keys):
            challenge: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, "the API key is missing or wrong", code="invalid_api_key", headers=challenge)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
