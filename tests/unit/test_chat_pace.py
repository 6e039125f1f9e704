"""How often a chat tells its text: at most as often as asked, the first and the end without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agentmux import Runtime
from agentmux.chatting import ChatAnswer, ChatDelta, ChatEvent, ChatRequest
from agentmux.engine.base import TextDelta, TurnFailed
from agentmux.errors import EngineError, RequestInvalid
from agentmux.messages import Message
from agentmux.testing import Answer, Failure, FakeClock, ScriptedEngine, settle

EVERY_S = 0.5


class Talking(ScriptedEngine):
    """Its turns say more while they are held."""

    def say(self, text: str) -> None:
        self._emit(TextDelta(self.held[0], text, (1,), ()))

    def fail(self) -> None:
        self._emit(TurnFailed(self.held[0], "engine", "broken", {}))


@dataclass
class Chat:
    """One that goes on beside the test."""

    engine: Talking
    clock: FakeClock
    events: list[ChatEvent] = field(default_factory=list)
    error: Exception | None = None

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, ChatDelta)]

    async def say(self, text: str) -> list[str]:
        """The deltas so far, once this was said."""
        self.engine.say(text)
        await settle()
        return self.texts

    async def wait(self, seconds: float) -> list[str]:
        self.clock.advance(seconds)
        await settle()
        return self.texts

    async def follow(self, mux: Runtime, every_s: float) -> None:
        async with aclosing(mux.chat(ChatRequest("m", (Message("user", "x"),), every_s=every_s))) as events:
            try:
                async for event in events:
                    self.events.append(event)
            except EngineError as error:
                self.error = error


@asynccontextmanager
async def chat(every_s: float = EVERY_S, whole: str = "abcdef") -> AsyncIterator[Chat]:
    engine, clock = Talking({"m": [Answer(whole, chunks=("a",), hold=True)]}), FakeClock()
    async with AsyncExitStack() as stack:
        mux = await stack.enter_async_context(Runtime(models=engine.models, engine=engine, clock=clock, config=False))
        one = Chat(engine, clock)
        task = asyncio.create_task(one.follow(mux, every_s))
        try:
            await settle()
            yield one
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_text_that_comes_early_is_part_of_the_next_delta() -> None:
    async with chat() as one:
        assert one.texts == ["a"]
        assert await one.say("b") == ["a"]
        assert await one.wait(EVERY_S / 2) == ["a"]
        assert await one.say("c") == ["a"]
        assert await one.wait(EVERY_S / 2) == ["a", "bc"]
        assert await one.say("d") == ["a", "bc"]
        assert await one.wait(EVERY_S) == ["a", "bc", "d"]


async def test_text_that_comes_late_does_not_wait() -> None:
    async with chat() as one:
        await one.wait(EVERY_S)
        assert await one.say("b") == ["a", "b"]
        await one.wait(2 * EVERY_S)
        assert await one.say("c") == ["a", "b", "c"]
        assert one.clock.next_call_s is None, "nobody waits for anything"


async def test_the_end_does_not_wait() -> None:
    async with chat() as one:
        await one.say("bcd")
        assert one.texts == ["a"]
        one.engine.release()
        await settle()
        assert "".join(one.texts) == "abcdef"
        assert isinstance(one.events[-1], ChatAnswer)
        assert one.clock.next_call_s is None


async def test_an_error_does_not_wait_and_comes_after_the_text() -> None:
    async with chat() as one:
        await one.say("b")
        one.engine.fail()
        await settle()
        assert one.texts == ["a", "b"]
        assert isinstance(one.error, EngineError)


async def test_who_stops_listening_leaves_no_timer() -> None:
    async with chat() as one:
        await one.say("b")
        assert one.clock.next_call_s is not None
    assert one.clock.next_call_s is None


async def test_without_a_pace_all_of_it_comes_as_it_is_there() -> None:
    async with chat(every_s=0) as one:
        for text in "bcd":
            assert (await one.say(text))[-1] == text


async def test_a_refused_turn_is_told_at_once() -> None:
    engine, clock = ScriptedEngine({"m": [Failure("engine", "broken")]}), FakeClock()
    async with Runtime(models=engine.models, engine=engine, clock=clock, config=False) as mux:
        with pytest.raises(EngineError, match="broken"):
            async with aclosing(mux.chat(ChatRequest("m", (Message("user", "x"),), every_s=EVERY_S))) as events:
                [event async for event in events]


@pytest.mark.parametrize("every_s", [-1.0, float("nan")])
def test_paces_that_cannot_be_meant(every_s: float) -> None:
    with pytest.raises(RequestInvalid, match="every_s"):
        ChatRequest("m", (Message("user", "x"),), every_s=every_s)
