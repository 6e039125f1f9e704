"""A conversation with one model: one run that lasts as long as the chat, so that its session keeps the KV cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

from agentmux.agent import Agent, Run
from agentmux.config import Limits
from agentmux.errors import EngineError
from agentmux.messages import Event, Message, TextStreamed, TurnCancelled, TurnCompleted, TurnErrored, TurnNumbers
from agentmux.run import RunContext
from agentmux.runtime import Runtime
from agentmux.sampling import SamplingParams
from agentmux.turn import TurnSpec


class Talk(Protocol):
    """What a conversation needs of its run."""

    async def say(self, text: str) -> None:
        """Have the model answer; its text comes with the run's events."""
        ...

    def clear(self) -> None:
        """Forget all that was said."""
        ...


class Conversation:
    """Questions and answers, one after the other. Made by ``conversation``."""

    def __init__(self) -> None:
        self.last: TurnNumbers | None = None
        """Of the last answer that was not stopped."""
        self.answers = 0
        self._talk: Talk | None = None
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._turn_ended = asyncio.Event()
        self._on_text: Callable[[str], None] = lambda _: None

    async def ask(self, text: str, on_text: Callable[[str], None]) -> TurnNumbers:
        """Ask, and pass on the answer as it comes. Cancelled, the answer is stopped and forgotten with the question.

        Raises what ``Run.ask`` raises.
        """
        if self._talk is None:
            raise EngineError("the conversation's run has ended")
        self._turn_ended.clear()
        self._on_text = on_text
        try:
            await self._talk.say(text)
            await self._turn_ended.wait()  # what it said last may still be on its way here
        finally:
            self._on_text = lambda _: None
        assert self.last is not None
        self.answers += 1
        return self.last

    def clear(self) -> None:
        """Begin anew."""
        self.last = None
        if self._talk is not None:
            self._talk.clear()

    async def hold(self, ctx: Run, sampling: SamplingParams, max_tokens: int) -> None:
        """The run's body: the conversation may go on until it is over."""
        self._talk = talk_of(ctx, sampling, max_tokens)
        self._ready.set()
        await self._over.wait()

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Take the run's events until its end."""
        try:
            async for event in events:
                match event:
                    case TextStreamed(text=text):
                        self._on_text(text)
                    case TurnCompleted(numbers=numbers):
                        self.last = numbers
                        self._turn_ended.set()
                    case TurnCancelled() | TurnErrored():
                        self._turn_ended.set()
                    case _:
                        pass
        finally:
            self._talk = None
            self._ready.set()

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
        await talk.hold(ctx, sampling, max_tokens)

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


def talk_of(ctx: Run, sampling: SamplingParams, max_tokens: int) -> Talk:
    """How to talk within this run. The one place that knows whether runs have sessions of their own."""
    if hasattr(ctx, "stream") and hasattr(ctx, "session"):
        return SessionTalk(ctx, sampling, max_tokens)
    assert isinstance(ctx, RunContext)
    return TurnTalk(ctx, sampling, max_tokens)


class SessionTalk:
    """By the run's own session."""

    def __init__(self, ctx: Any, sampling: SamplingParams, max_tokens: int) -> None:
        self._ctx = ctx
        self._sampling = sampling
        self._max_tokens = max_tokens

    async def say(self, text: str) -> None:
        """See ``Talk``."""
        async with aclosing(self._ctx.stream(text, sampling=self._sampling, max_tokens=self._max_tokens)) as pieces:
            async for _ in pieces:
                pass

    def clear(self) -> None:
        """See ``Talk``."""
        self._ctx.session.clear()


class TurnTalk:
    """By turns of one session name, with the messages kept here: for as long as runs have no sessions."""

    def __init__(self, ctx: RunContext, sampling: SamplingParams, max_tokens: int) -> None:
        self._ctx = ctx
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._messages: tuple[Message, ...] = ()
        self.clear()

    async def say(self, text: str) -> None:
        """See ``Talk``."""
        state, agent = self._ctx._state, self._ctx._agent
        assert agent is not None
        asked = (*self._messages, Message("user", text))
        spec = TurnSpec(
            model=agent.model,
            prompt=self._rendered(agent.model, asked),
            max_tokens=self._max_tokens,
            sampling=self._sampling,
            session=self._ctx.id,
        )
        completion = await state.turn(spec, self._ctx.agent, self._ctx._span)
        self._messages = (*asked, Message("assistant", completion.text))

    def clear(self) -> None:
        """See ``Talk``."""
        agent = self._ctx._agent
        instructions = agent.instructions if agent is not None else ""
        self._messages = (Message("system", instructions),) if instructions else ()

    def _rendered(self, model: str, messages: Sequence[Message]) -> str:
        services = self._ctx._state.services
        found = services.footprints[model]
        return services.renderer.render(model, found.chat_template, messages, found.bos_text, found.eos_text)
