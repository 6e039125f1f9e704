"""What a server is told: where it listens, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from agentmux.chatting import STREAM_EVERY_S
from agentmux.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Raises ConfigError at once for settings that cannot be meant, such as a public address without an API key."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: any that is free."""
    api_keys: tuple[str, ...] = ()
    """Each request but ``/health`` and ``/ready`` must bring one of them; none: whoever reaches the address may ask."""
    live: bool = True
    """Whether there is a live page. Whoever may ask sees there what others asked."""
    max_body_bytes: int = 8 * 1024 * 1024
    max_headers: int = 100
    max_messages: int = 1000
    """Of one conversation."""
    max_choices: int = 16
    """``n`` at most."""
    head_s: float = 30.0
    """Seconds in which a request's line and headers must have come; as long may a connection be silent at first."""
    body_s: float = 30.0
    """Seconds in which a request's body must have come."""
    drain_s: float = 30.0
    """Seconds that requests under way get when the server is told to end."""
    max_sessions: int = 256
    """Named conversations whose KV cache is kept; the one used longest ago is forgotten first."""
    reuse_prefixes: int = 0
    """Conversations without a name whose KV cache is kept and found by what they begin with; 0: none."""
    chunk_s: float = STREAM_EVERY_S
    """Seconds from one chunk of an answer's text to the next at least, in streams; the first and the last do not wait.
    So what a stream costs does not grow with the speed of its model."""
    stall_s: float = 120.0
    """Seconds without any progress, although there is work, after which ``/health`` fails."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is outside 0 to 65535")
        for name in ("max_body_bytes", "max_headers", "max_messages", "max_choices", "max_sessions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("reuse_prefixes", "chunk_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must not be negative")
        for key in self.api_keys:
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError("an API key must be printable ASCII text without spaces, and not empty")
        if not self.is_local and not self.api_keys:
            raise ConfigError(
                f"{self.host} can be reached from elsewhere: that needs an API key "
                "(AGENTMUX_API_KEY or --api-key-file); or listen on 127.0.0.1"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or address, without port, stands for this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
