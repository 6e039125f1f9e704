"""Property: whatever is run, cancelled and let go on, in whatever order, every turn ends once and nothing is left."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux import (
    Agent,
    Event,
    Limits,
    ModelSpec,
    Run,
    RunErrored,
    RunFinished,
    Runtime,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnQueued,
    parallel,
    pipeline,
)
from agentmux.messages import AgentErrored, AgentFinished, AgentStarted
from agentmux.testing import Answer, Failure, FakeClock, ScriptedEngine, settle


async def nap(n: int) -> str:
    """Takes a while."""
    for _ in range(n):
        await asyncio.sleep(0)
    return str(n)


class Left(Agent):
    model = "left"
    max_tokens = 6


class Right(Agent):
    model = "right"
    max_tokens = 6


class Caller(Agent):
    """Calls."""

    model = "left"
    tools = (nap,)


class Nested(Agent):
    model = "right"
    tools = (Caller, nap)


class Keeper(Agent):
    model = "left"

    async def run(self, ctx: Run, text: str) -> str:
        return f"{await ctx.session.ask(text)} {await ctx.session.ask(text)}"


class Guest(Agent):
    """Asks in its session, and within that its host in the host's."""

    model = "right"

    async def run(self, ctx: Run, text: str) -> str:
        return str(await ctx.session.ask(text))


class Host(Guest):
    """Asks in its session, and within that its guest in the guest's."""

    model = "left"
    tools = (Guest, nap)


Guest.tools = (Host,)


class Reader(Agent):
    model = "right"

    async def run(self, ctx: Run, text: str) -> str:
        async for piece in ctx.stream(text):
            return piece
        return ""


@pipeline
async def careless(ctx: Run, text: str) -> str:
    left = asyncio.create_task(ctx.run(Left, text))
    left.add_done_callback(lambda task: task.cancelled() or task.exception())
    return str(await ctx.run(Right, text))


TARGETS = (Left, Right, Caller, Nested, Keeper, Guest, Host, Reader, careless, parallel(Left, Right, Caller))
LIMITS = (
    Limits(),
    Limits(turns=1),
    Limits(tokens=8),
    Limits(tokens=30),
    Limits(wall_s=2),
    Limits(queue_wait_s=1),
    Limits(tool_calls=1),
)

Start = st.tuples(st.just("start"), st.sampled_from(TARGETS), st.sampled_from(LIMITS), st.sampled_from([None, "s"]))
Step = st.one_of(
    Start,
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("advance"), st.sampled_from([0.3, 1.0])),
    st.tuples(st.just("end session"), st.just("s")),
)
ANSWERS = (
    "word",
    "some more words",
    json.dumps({"tool": "nap", "arguments": {"n": 3}}),
    json.dumps({"tool": "Caller", "arguments": {"prompt": "x"}}),
    None,
    json.dumps({"tool": "Host", "arguments": {"text": "x"}}),
    json.dumps({"tool": "Guest", "arguments": {"text": "x"}}),
)
ENDS = (TurnCompleted, TurnCancelled, TurnErrored)


class World:
    """A runtime on a scripted engine, and what was seen of it."""

    def __init__(self, answers: list[str | None]) -> None:
        self._answers = iter(answers * 1000)
        self.clock = FakeClock()
        self.turns = Counter[int]()
        self.runs = Counter[str]()
        self.agents = Counter[str]()
        self.engine = ScriptedEngine(
            {"left": self._answer, "right": self._answer}, weight_bytes={"left": 6, "right": 6}, arena_bytes=10
        )
        self.mux = Runtime(
            models={"left": ModelSpec("l.gguf", slots=2), "right": "r.gguf"},
            engine=self.engine,
            clock=self.clock,
            queue_limit=3,
            observers=[self._see],
        )

    def _answer(self, request: Any) -> Answer | Failure:
        text = next(self._answers)
        return Failure() if text is None else Answer(text, hold=True)

    def _see(self, event: Event) -> None:
        if isinstance(event, TurnQueued):
            self.turns[event.turn] += 0
        elif isinstance(event, ENDS):
            self.turns[event.turn] += 1
        elif isinstance(event, RunFinished | RunErrored):
            self.runs[event.run] += 1
        elif isinstance(event, AgentStarted):
            self.agents[event.run] += 1
        elif isinstance(event, AgentFinished | AgentErrored):
            self.agents[event.run] -= 1

    async def play(self, steps: list[tuple[Any, ...]]) -> None:
        """Do all that, then let everything come to its end, and look."""
        tasks: list[asyncio.Task[Any]] = []
        async with self.mux:
            for kind, *given_ in steps:
                if kind == "start":
                    target, limits, session = given_
                    options = {} if session is None else {"session": session}
                    tasks.append(asyncio.create_task(self.mux.run(target, "x", limits=limits, **options)))
                elif kind == "cancel" and given_[0] < len(tasks):
                    tasks[-1 - given_[0]].cancel()
                elif kind == "release" and given_[0] < len(self.engine.held):
                    self.engine.release(self.engine.held[given_[0]])
                elif kind == "wait":
                    await settle(given_[0])
                elif kind == "advance":
                    self.clock.advance(given_[0])
                elif kind == "end session":
                    self.mux.end_session(given_[0])
            await self._finish(tasks)
            self.mux.end_session("s")
            self._check()

    async def _finish(self, tasks: list[asyncio.Task[Any]]) -> None:
        for _ in range(400):
            await settle(20)
            if all(task.done() for task in tasks) and not self.engine.held:
                break
            if self.engine.held:
                self.engine.release()
            self.clock.advance(0.1)
        assert all(task.done() for task in tasks), "something waits for ever"
        for task in tasks:
            task.cancelled() or task.exception()
        await settle()

    def _check(self) -> None:
        stats, core = self.mux.stats(), self.mux._opened()
        assert (stats.active, stats.queued) == (0, 0)
        assert not core.runs
        assert core.scheduler._ledger.active == 0
        assert len(core.scheduler._accounts) == 0
        assert set(self.turns.values()) <= {1}
        assert set(self.runs.values()) <= {1}
        assert set(self.agents.values()) <= {0}
        assert {(call.model, call.session) for call in self.engine.calls if call.session} <= set(self.engine.forgotten)


@settings(max_examples=200, deadline=None)
@given(st.lists(Step, max_size=30), st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=8))
def test_every_turn_ends_once_and_nothing_is_left(steps: list[tuple[Any, ...]], answers: list[str | None]) -> None:
    asyncio.run(World(answers).play(steps))


CROSSWISE = st.one_of(
    st.tuples(st.just("start"), st.sampled_from((Guest, Host)), st.just(Limits()), st.just("s")),
    st.tuples(st.just("cancel"), st.integers(0, 2)),
    st.tuples(st.just("release"), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(CROSSWISE, max_size=12), st.lists(st.sampled_from(ANSWERS[-2:]), min_size=1, max_size=4))
def test_nor_where_answers_ask_in_each_others_sessions(steps: list[tuple[Any, ...]], answers: list[str | None]) -> None:
    asyncio.run(World([*answers, "word"]).play(steps))
