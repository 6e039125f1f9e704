"""A server's ``/live`` stream, read in a thread of the caller's: the document after each change."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agentmux.errors import AgentmuxError, ConfigError

SILENCE_S = 40.0
"""The server says something every 15 seconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is."""

    scheme: str
    host: str
    port: int
    key: str = ""

    @classmethod
    def of(cls, url: str, key: str = "") -> Place:
        """Of an address such as ``http://127.0.0.1:8080``. Raises ConfigError for others."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{url!r} is no address of a server, such as http://127.0.0.1:8080") from error
        if not parts.hostname:
            raise ConfigError(f"{url!r} names no host")
        return cls(parts.scheme, parts.hostname, port, key)


class Refused(AgentmuxError):
    """The server answered, and not with what goes on."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What goes on at a moment. ``now_s`` is the server's clock."""

    document: Mapping[str, Any]
    now_s: float
    seen_s: float
    """The same moment, on this process's monotonic clock."""


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A document with a JSON merge patch (RFC 7396) applied."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def moments(place: Place) -> Iterator[Moment]:
    """What goes on, whenever it has changed, until the server ends the stream.

    Raises OSError and HTTPException where the connection fails, Refused where the server has no such stream for us.
    """
    connects = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = connects(place.host, place.port, timeout=SILENCE_S)
    headers = {"Authorization": f"Bearer {place.key}"} if place.key else {}
    try:
        connection.request("GET", "/live", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise Refused(_why(response))
        document: Mapping[str, Any] = {}
        for kind, data in _events(response):
            now_s = data.pop("now_s")
            document = data if kind == "snapshot" else merged(document, data)
            yield Moment(document, now_s, time.monotonic())
    finally:
        connection.close()


def _why(response: http.client.HTTPResponse) -> str:
    try:
        return str(json.loads(response.read())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server has no /live: {response.status} {response.reason}"


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    while line := response.readline().decode():
        if line.startswith("event: "):
            kind = line[7:].strip()
        elif line.startswith("data: "):
            yield kind, json.loads(line[6:])


Told = Callable[[Moment | str], None]
"""Is given what goes on, or why that is not known."""


def follow(place: Place, told: Told, ended: Callable[[float], bool]) -> None:
    """Follow a server through its restarts. ``ended``: waits so many seconds, and says whether to end.

    Raises Refused, since trying again would not help.
    """
    while True:
        try:
            for moment in moments(place):
                told(moment)
                if ended(0):
                    return
            told("the server has ended, trying again")
        except (OSError, http.client.HTTPException) as error:
            told(f"no connection, trying again ({error})")
        if ended(1.0):
            return
