"""OpenAI's interface to a runtime, over HTTP. Needs the extra ``server``.

``application`` makes the ASGI application of an open runtime; ``serve`` runs it on a socket. A request passes ``guard``
(host, key, headers), is read by ``reading`` and ``wire`` (bytes to types), becomes turns in ``asked``, and is answered
by ``chats``, ``completions`` or ``listing``. ``live`` feeds the page at ``/``.
Nothing here decides who runs: that is the scheduler's.
"""

from agentmux.server.app import application
from agentmux.server.live import Live
from agentmux.server.serving import listen, serve
from agentmux.server.settings import ServerSettings
from agentmux.server.traffic import Traffic

__all__ = ["Live", "ServerSettings", "Traffic", "application", "listen", "serve"]
