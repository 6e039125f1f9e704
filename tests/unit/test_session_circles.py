"""Answers that would wait for each other's sessions for ever: found where the circle would close, and nowhere else."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux import Agent, ConfigError, Run, Runtime, parallel
from agentmux.engine.base import TurnRequest
from agentmux.sessions import Conversation, OpenQuestion, path
from agentmux.testing import Answer, ScriptedEngine, settle


class Echo(Agent):
    """Says it again."""

    tools: ClassVar[Any] = ()

    async def run(self, ctx: Run, text: str) -> str:
        return str(await ctx.session.ask(text))


class Left(Echo):
    """The one."""

    model = "left"


class Right(Echo):
    """The other."""

    model = "right"


class Third(Echo):
    """One more."""

    model = "third"


def calls(agent: str) -> str:
    return json.dumps({"tool": agent, "arguments": {"text": "from a tool"}})


def script(callee: str) -> Any:
    """Who is asked from outside calls the tool first, and says what came of it."""

    def step(request: TurnRequest) -> Answer:
        prompt = str(request.prompt).strip()
        if prompt.endswith("from a tool"):
            return Answer("as a tool")
        return Answer("whole" if "as a tool" in prompt else calls(callee), hold="as a tool" not in prompt)

    return step


@pytest.fixture
def crossed() -> Any:
    Left.tools, Right.tools, Third.tools = (Right,), (Left,), ()
    yield
    Left.tools = Right.tools = Third.tools = ()


@pytest.mark.usefixtures("crossed")
async def test_two_runs_that_would_wait_for_each_others_sessions_for_ever() -> None:
    engine = ScriptedEngine({"left": script("Right"), "right": script("Left")})
    async with Runtime(models=engine.models, engine=engine) as mux, asyncio.timeout(10):
        first = asyncio.create_task(mux.run(Left, "go", session="s"))
        second = asyncio.create_task(mux.run(Right, "go", session="s"))
        await settle()
        engine.release(engine.held[0])  # each is in its session now; the first one's tool waits for the other's
        await settle()
        engine.release()
        with pytest.raises(ConfigError) as caught:
            await second
        assert str(caught.value) == (
            "Left would wait for ever: it asks in Left's session 's' within an answer in Right's session 's', while "
            "the answer in Left's session 's' waits for Right's session 's'; agents that call each other as tools have "
            "to use ctx.ask, or sessions that no other run uses"
        )
        assert (await first).output == "whole", "with the other one gone, it has its turn"
        assert mux.stats().active == 0


@pytest.mark.usefixtures("crossed")
async def test_two_agents_of_one_run_that_would() -> None:
    engine = ScriptedEngine({"left": script("Right"), "right": script("Left")})
    async with Runtime(models=engine.models, engine=engine) as mux, asyncio.timeout(10):
        task = asyncio.create_task(mux.run(parallel(Left, Right), "go"))
        await settle()
        engine.release()
        with pytest.raises(ConfigError, match="would wait for ever"):
            await task
        assert mux.stats().active == 0


async def test_a_circle_of_three() -> None:
    Left.tools, Right.tools, Third.tools = (Right,), (Third,), (Left,)
    engine = ScriptedEngine({"left": script("Right"), "right": script("Third"), "third": script("Left")})
    async with Runtime(models=engine.models, engine=engine) as mux, asyncio.timeout(10):
        runs = [asyncio.create_task(mux.run(agent, "go", session="s")) for agent in (Left, Right, Third)]
        await settle()
        engine.release()
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
    Left.tools = Right.tools = Third.tools = ()
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(failed) == 1
    assert str(failed[0]).count("waits for") == 2


@pytest.mark.usefixtures("crossed")
async def test_who_waits_for_a_session_that_waits_for_nobody_has_its_turn() -> None:
    Right.tools = ()
    engine = ScriptedEngine(
        {
            "left": script("Right"),
            "right": lambda request: Answer("as a tool", hold=str(request.prompt).strip() == "go"),
        }
    )
    async with Runtime(models=engine.models, engine=engine) as mux, asyncio.timeout(10):
        busy = asyncio.create_task(mux.run(Right, "go", session="s"))
        await settle()
        waiting = asyncio.create_task(mux.run(Left, "go", session="s"))
        await settle()
        engine.release(engine.held[1])
        await settle()
        assert not waiting.done()
        engine.release()
        assert [(await busy).output, (await waiting).output] == ["as a tool", "whole"]


NODES = st.integers(0, 7)


@given(st.dictionaries(NODES, st.lists(NODES)), NODES, st.sets(NODES))
def test_a_way_is_found_if_there_is_one_and_is_a_shortest(
    graph: dict[int, list[int]], start: int, ends: set[int]
) -> None:
    reached, far = {start}, {start: 0}
    for steps in range(1, 9):
        reached |= {one for node in list(reached) for one in graph.get(node, ())}
        far |= {node: steps for node in reached if node not in far}
    way = path(start, lambda node: graph.get(node, ()), ends)
    if way is None:
        assert not reached & ends
        return
    assert (way[0], way[-1] in ends) == (start, True)
    assert all(after in graph[before] for before, after in itertools.pairwise(way))
    assert len(way) - 1 == min(far[end] for end in ends if end in far)


class Questions:
    """Questions that begin, from outside and as parts of answers, and end when nothing that is part of them is open."""

    def __init__(self) -> None:
        self.conversations = [Conversation(str(number), "m", str(number)) for number in range(5)]
        self.open: dict[asyncio.Task[None], tuple[OpenQuestion, ...]] = {}  # [question] those that it is part of
        self.asked: dict[asyncio.Task[None], OpenQuestion] = {}  # [question whose turn it is]
        self.may_end: dict[asyncio.Task[None], asyncio.Event] = {}

    async def begin(self, choice: int, wanted: int) -> None:
        """Begin a question, as a part of one that is asked or from outside: refused if, and only if, it must be."""
        outer = [*self.asked, None][choice % (len(self.asked) + 1)]
        within = () if outer is None else (*self.open[outer], self.asked[outer])
        kept = self.conversations[wanted]
        must_be_refused = self.stuck_if(within, kept)
        task = asyncio.create_task(self.ask(kept, within))
        self.open[task], self.may_end[task] = within, asyncio.Event()
        await settle()
        refused = task.done() and task.exception() is not None
        assert refused == must_be_refused
        if refused:
            del self.open[task], self.may_end[task]

    async def ask(self, kept: Conversation, within: tuple[OpenQuestion, ...]) -> None:
        me = asyncio.current_task()
        assert me is not None
        async with kept.asking("x", within) as asked:
            self.asked[me] = asked
            await self.may_end[me].wait()

    async def end_some(self) -> bool:
        """End those of which no part is open. Whether there was any."""
        ready = [one for one, here in self.asked.items() if not any(here in within for within in self.open.values())]
        for one in ready:
            self.may_end[one].set()
        for one in ready:
            await one
            del self.asked[one], self.open[one], self.may_end[one]
        await settle()
        return bool(ready)

    def stuck_if(self, within: tuple[OpenQuestion, ...], wanted: Conversation) -> bool:
        """Whether some answer could never end if those waited for ``wanted``: take away whatever can end, again and
        again, and see what is left."""
        waits = {kept: list(kept.question.waits_for) for kept in self.conversations if kept.question is not None}
        for outer in within:
            waits[outer.kept].append(wanted)
        while can_end := [kept for kept, needs in waits.items() if not any(one in waits for one in needs)]:
            for kept in can_end:
                del waits[kept]
        return bool(waits)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4), st.booleans()), max_size=40))
def test_nothing_that_is_let_wait_waits_for_ever_and_nothing_is_refused_for_less(
    steps: list[tuple[int, int, bool]],
) -> None:
    async def play() -> None:
        questions = Questions()
        for choice, wanted, some_end in steps:
            await questions.begin(choice, wanted)
            if some_end:
                await questions.end_some()
        while await questions.end_some():
            pass
        assert not questions.open, "something waits for ever"
        assert all(kept.question is None and not kept.lock.locked() for kept in questions.conversations)

    asyncio.run(play())
