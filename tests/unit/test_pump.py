"""The way of an engine's events to the loop: when it is woken, and that nothing is lost or out of order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux.engine.base import EngineEvent, TextDelta, TurnFinished, TurnStarted, TurnStats
from agentmux.pump import GATHER_S, Pump
from agentmux.testing import FakeClock, settle


class Source:
    """The part of an engine that tells events."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._waiting: list[EngineEvent] = []
        self.polls = 0
        self.error: Exception | None = None

    def push(self, *events: EngineEvent) -> None:
        if not self._waiting:
            os.write(self._writer, b"1")
        self._waiting += events

    def poll(self) -> list[EngineEvent]:
        self.polls += 1
        if self.error:
            raise self.error
        taken, self._waiting = self._waiting, []
        if taken:
            os.read(self._reader, 1)
        return taken

    def fileno(self) -> int:
        return self._reader

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.close()


def text(number: int) -> TextDelta:
    return TextDelta(number, str(number), (number,), ())


def finished(turn: int) -> TurnFinished:
    return TurnFinished(turn, "stop", "", (), TurnStats(), ())


def pump_of(source: Any, clock: FakeClock) -> tuple[Pump, list[EngineEvent], list[Exception]]:
    got: list[EngineEvent] = []
    errors: list[Exception] = []
    return Pump(source, clock, got.append, errors.append), got, errors


async def test_after_a_silence_events_come_at_once(source: Source) -> None:
    clock = FakeClock()
    pump, got, _ = pump_of(source, clock)
    for number in range(5):
        source.push(text(number))
        await settle()
        assert got == [text(one) for one in range(number + 1)]
        clock.advance(0.03)
    assert source.polls == 5
    pump.close()


async def test_a_quick_stream_gathers_for_a_moment(source: Source) -> None:
    clock = FakeClock()
    pump, got, _ = pump_of(source, clock)
    for number in range(2):
        source.push(text(number))
        await settle()
    polls = source.polls
    for number in range(2, 8):
        source.push(text(number))
        await settle()
    assert (len(got), source.polls) == (2, polls)
    clock.advance(GATHER_S)
    assert (got, source.polls) == ([text(number) for number in range(8)], polls + 1)
    clock.advance(GATHER_S)
    source.push(text(8))
    await settle()
    assert got[8:] == [text(8)], "nothing had gathered, so it is woken again"
    pump.close()


@pytest.mark.parametrize("event", [TurnStarted(7), finished(7)], ids=type)
async def test_what_others_wait_for_ends_the_gathering(source: Source, event: EngineEvent) -> None:
    clock = FakeClock()
    pump, got, _ = pump_of(source, clock)
    for number in range(2):
        source.push(text(number))
        await settle()
    source.push(event)
    clock.advance(GATHER_S)
    source.push(text(2))
    await settle()
    assert got == [text(0), text(1), event, text(2)]
    pump.close()


@given(st.lists(st.tuples(st.sampled_from(["text", "end", "both"]), st.sampled_from([0, 0.0005, 0.002, 0.01]))))
def test_nothing_is_lost_and_the_order_stays(steps: list[tuple[str, float]]) -> None:
    async def check() -> None:
        source, clock = Source(), FakeClock()
        pump, got, _ = pump_of(source, clock)
        told: list[EngineEvent] = []
        for number, (kind, pause_s) in enumerate(steps):
            new = {"text": [text(number)], "end": [finished(number)], "both": [text(number), finished(number)]}[kind]
            told += new
            source.push(*new)
            await settle(5)
            clock.advance(pause_s)
        clock.advance(2 * GATHER_S)
        await settle(5)
        assert got == told
        pump.close()
        source.close()

    asyncio.run(check())


@pytest.mark.parametrize("is_gathering", [False, True])
async def test_closed_it_takes_nothing(source: Source, is_gathering: bool) -> None:
    clock = FakeClock()
    pump, got, _ = pump_of(source, clock)
    for number in range(2 if is_gathering else 0):
        source.push(text(number))
        await settle()
    pump.close()
    pump.close()
    before = list(got)
    source.push(text(9))
    clock.advance(1)
    await settle()
    assert got == before


async def test_without_a_moment_to_gather_each_event_comes_at_once(source: Source) -> None:
    got: list[EngineEvent] = []
    pump = Pump(source, FakeClock(), got.append, lambda _: None, gather_s=0)  # type: ignore[arg-type]
    for number in range(5):
        source.push(text(number))
        await settle()
    assert got == [text(number) for number in range(5)]
    pump.close()


async def test_an_engine_that_cannot_be_asked_is_told_of_once(source: Source) -> None:
    clock = FakeClock()
    pump, got, errors = pump_of(source, clock)
    source.error = OSError("gone")
    source.push(text(0))
    await settle()
    assert (got, errors, source.polls) == ([], [source.error], 1)
    pump.close()
