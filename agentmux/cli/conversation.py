"""A conversation with one model: one run that lasts as long as the chat, so that its session keeps the KV cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from agentmux.agent import Agent, Run, Session
from agentmux.config import Limits
from agentmux.errors import EngineError
from agentmux.messages import Event, TurnCompleted, TurnNumbers
from agentmux.runtime import Runtime
from agentmux.sampling import SamplingParams


class Conversation:
    """Questions and answers, one after the other. Made by ``conversation``."""

    def __init__(self) -> None:
        self.last: TurnNumbers | None = None
        """Of the last answer that was not stopped."""
        self._session: Session | None = None
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._turn_ended = asyncio.Event()

    async def ask(self, text: str, on_text: Callable[[str], None]) -> TurnNumbers:
        """Ask, and pass on the answer as it comes. Cancelled, the answer is stopped and forgotten with the question.

        Raises what ``Run.ask`` raises.
        """
        if self._session is None:
            raise EngineError("the conversation's run has ended")
        self._turn_ended.clear()
        async with aclosing(self._session.stream(text)) as pieces:
            async for piece in pieces:
                on_text(piece)
        await self._turn_ended.wait()  # its numbers may still be on their way here
        assert self.last is not None
        return self.last

    def clear(self) -> None:
        """Begin anew."""
        self.last = None
        if self._session is not None:
            self._session.clear()

    async def hold(self, ctx: Run) -> None:
        """The run's body: the conversation may go on until it is over."""
        self._session = ctx.session
        self._ready.set()
        await self._over.wait()

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Take the run's events until its end."""
        try:
            async for event in events:
                if isinstance(event, TurnCompleted):
                    self.last = event.numbers
                    self._turn_ended.set()
        finally:
            self._session = None
            self._ready.set()
            self._turn_ended.set()

    async def until_ready(self) -> None:
        """Wait for the run's beginning."""
        await self._ready.wait()

    def end(self) -> None:
        """Let the run end."""
        self._over.set()


@asynccontextmanager
async def conversation(
    mux: Runtime, model: str, system: str, sampling: SamplingParams, max_tokens: int
) -> AsyncIterator[Conversation]:
    """A conversation with the runtime's ``model``; ``system`` is the system message, none if it is empty."""
    talk = Conversation()

    async def body(self: Agent, ctx: Run) -> None:
        await talk.hold(ctx)

    declared = {"model": model, "instructions": system, "sampling": sampling, "max_tokens": max_tokens, "run": body}
    agent = type("Chat", (Agent,), declared)

    async def follow() -> None:
        async with aclosing(mux.stream(agent, limits=Limits())) as events:
            await talk.follow(events)

    following = asyncio.create_task(follow())
    try:
        await talk.until_ready()
        yield talk
    finally:
        talk.end()
        await following
