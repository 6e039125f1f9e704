"""What a conversation is answered, by a model or by what is published as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.requests import Request

from agentmux.chatting import ChatAnswer
from agentmux.server.answers import Told, told, whole
from agentmux.server.asked import Asked
from agentmux.server.published import prompt_for, told_run
from agentmux.server.reading import unless_gone
from agentmux.server.state import Served


def events_of(served: Served, asked: Asked) -> AsyncGenerator[Told, None]:
    """The events of all its choices. Nothing begins before the first is asked for.

    Raises Problem for what an agent or pipeline does not take.
    """
    if published := served.published.get(asked.model):
        return told_run(served.mux, published, prompt_for(published, asked))
    served.use_session(asked.turns[0].session)
    return told(served.mux, asked.turns, served.prefixes)


async def answers_to(request: Request, served: Served, asked: Asked) -> tuple[ChatAnswer, ...]:
    """[choice] the whole answers. Raises what ends them, and ClientGone."""
    return await unless_gone(request, whole(events_of(served, asked)))
