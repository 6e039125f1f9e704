"""What the endpoints share."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmux.chatting import Declared
from agentmux.errors import ModelNotFound
from agentmux.runtime import Runtime
from agentmux.server.health import Health
from agentmux.server.live import Live
from agentmux.server.prefixes import Prefixes
from agentmux.server.published import Published
from agentmux.server.settings import ServerSettings
from agentmux.server.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Served:
    """A server's parts. The runtime is open for as long as the server answers."""

    mux: Runtime
    settings: ServerSettings
    published: Mapping[str, Published]
    traffic: Traffic
    health: Health
    live: Live
    declared: Declared = field(default_factory=Declared)
    sessions: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Conversations that were named, the one used longest ago first."""
    prefixes: Prefixes | None = None
    """Sessions of conversations without a name, if they are kept."""
    started_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models themselves."""
        return tuple(self.mux.config.models)

    def known(self, name: str) -> None:
        """Raises ModelNotFound for a name that is neither a model nor published. Clients must not be able to load
        whatever file they name."""
        there = (*self.models, *self.published)
        if name not in there:
            raise ModelNotFound(f"no model named {name!r}; there are: {', '.join(there)}")

    def expect(self, name: str) -> None:
        """Raises ModelNotFound as ``known`` does; and what a turn of this model would be refused with now, so that a
        full queue costs nothing but the reading of the request. Agents and pipelines may have no turns at all."""
        self.known(name)
        if name not in self.published:
            self.mux.check(name)

    def use_session(self, name: str | None) -> None:
        """A conversation goes on; of too many, the one used longest ago is forgotten."""
        if name is None:
            return
        self.sessions[name] = None
        self.sessions.move_to_end(name)
        while len(self.sessions) > self.settings.max_sessions:
            oldest, _ = self.sessions.popitem(last=False)
            self.mux.end_session(oldest)
