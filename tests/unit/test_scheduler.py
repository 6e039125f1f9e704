"""The scheduler's coroutine on a fake clock: a small simulator in which turns take time, and none is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from agentmux.admission import Ledger
from agentmux.errors import EngineError, ModelNotFound, NeverFits, QueueTimeout
from agentmux.messages import TurnErrored
from agentmux.scheduler import Policy
from agentmux.testing import settle
from agentmux.turn import Turn
from tests.unit.scheduler_world import ENDS, World, running, world


async def test_turns_of_one_model_are_collated() -> None:
    async with running(world()) as w:
        for turn, model in enumerate("abcabc"):
            w.submit(turn, model)
        await w.until_idle()
        assert w.models_in_order == "aabbcc"


async def test_turns_of_one_model_share_its_slots() -> None:
    async with running(world(slots=3)) as w:
        for turn, model in enumerate("aaabab"):
            w.submit(turn, model)
        await settle()
        assert w.models_in_order == "aaa"
        await w.until_idle()
        assert w.models_in_order == "aaaabb"


async def test_models_that_fit_together_do_not_wait_for_each_other() -> None:
    async with running(world(arena=200)) as w:
        for turn, model in enumerate("abc"):
            w.submit(turn, model)
        await settle()
        assert w.models_in_order == "ab"


async def test_a_stream_of_one_model_does_not_starve_another() -> None:
    async with running(world(policy=Policy(max_wait_s=10, min_residency_s=1))) as w:
        w.submit(0, "a")
        await settle()
        w.submit(1, "b")
        for turn in range(2, 40):
            w.submit(turn, "a")
        await w.until_idle()
        (admitted_s,) = [when_s for when_s, _, model in w.admitted if model == "b"]
        assert 10 < admitted_s <= 12
        assert len(w.admitted) == 40


async def test_under_load_residency_is_not_given_up_for_every_turn() -> None:
    async with running(world(policy=Policy(max_wait_s=0, min_residency_s=3))) as w:
        for turn, model in enumerate("abababababab"):
            w.submit(turn, model)
        await w.until_idle()
        assert w.models_in_order == "aaabbbaaabbb"


async def test_the_successor_is_hinted_once_per_change() -> None:
    async with running(world()) as w:
        for turn, model in enumerate("aab"):
            w.submit(turn, model)
        await w.until_idle()
        assert w.engine.prefetches == ["b"]


async def test_a_successor_that_has_run_is_hinted_anew() -> None:
    async with running(world()) as w:
        for turn, model in enumerate("ab"):
            w.submit(turn, model)
        await w.until_idle()
        w.submit(2, "a")
        await settle()
        w.submit(3, "b")
        await w.until_idle()
        assert w.engine.prefetches == ["b", "b", "a"]


async def test_an_overdue_turn_that_gives_up_lets_the_others_go() -> None:
    async with running(world(slots=2, policy=Policy(max_wait_s=2, min_residency_s=20))) as w:
        w.submit(0, "a", duration_s=100)
        await settle()
        w.clock.advance(5)
        w.submit(1, "b", queue_wait_s=18)
        w.clock.advance(16)
        w.submit(2, "a")
        await settle()
        assert w.models_in_order == "a", "the overdue turn of b holds back what would keep a running"
        w.clock.advance(2)
        await settle()
        assert w.models_in_order == "aa"


async def test_the_reason_of_a_wait_is_told() -> None:
    async with running(world()) as w:
        turns = [w.submit(turn, model) for turn, model in enumerate("aabaa")]
        await w.until_idle()
        assert [turn.wait_reason for turn in turns] == [
            "",
            "model a is busy: 1 of 1 slots",
            "waiting for a to finish",
            "model a is busy: 1 of 1 slots",
            "model a is busy: 1 of 1 slots",
        ]


async def test_deadlines_of_turns_that_have_started_are_not_kept() -> None:
    async with running(world()) as w:
        for turn in range(500):
            w.submit(turn, "a", queue_wait_s=10_000)
            await settle(3)
            w.clock.advance(1)
            await settle(3)
        assert w.scheduler.ends["finished"] == 500
        assert len(w.scheduler._backlog._deadlines) < 100


async def test_a_round_is_learned() -> None:
    async with running(world()) as w:
        for turn, model in enumerate("abcabcabc"):
            w.submit(turn, model)
            await w.until_idle()
        # Nothing is known in the first round but what is said by the second; from then on each successor is hinted.
        assert w.engine.prefetches == list("bcabca")


async def test_a_refused_turn_gives_its_slot_back() -> None:
    async with running(world(refused=frozenset({0}))) as w:
        first, second = w.submit(0, "a"), w.submit(1, "a")
        await w.until_idle()
        assert isinstance(first.error, EngineError)
        assert second.state == "finished"
        assert w.ledger.active == 0


async def test_unknown_and_hopeless_models_end_as_failed_at_once() -> None:
    async with running(World({"a": 100}, {"a": 1}, arena=100)) as w:
        assert isinstance(w.submit(0, "z").error, ModelNotFound)
        w.scheduler._ledger = Ledger(w.footprints, arena_bytes=10, budget_bytes=10)
        assert isinstance(w.submit(1, "a").error, NeverFits)
        assert [type(event) for event in w.events] == [TurnErrored, TurnErrored]


async def test_a_closed_scheduler_refuses() -> None:
    async with running(world()) as w:
        pass
    late = w.submit(0, "a")
    assert late.state == "failed"
    assert isinstance(late.error, EngineError)


async def test_it_sleeps_while_nothing_happens() -> None:
    async with running(world()) as w:
        steps = 0
        inner = w.scheduler.step

        def counted() -> None:
            nonlocal steps
            steps += 1
            inner()

        w.scheduler.step = counted  # type: ignore[method-assign]
        w.submit(0, "a", duration_s=100)
        w.submit(1, "a", queue_wait_s=50)
        await settle()
        before = steps
        w.clock.advance(49)
        await settle()
        assert steps == before
        w.clock.advance(1)
        await settle()
        assert steps > before
        assert isinstance(w.events[-1], TurnErrored)


@dataclass(frozen=True)
class Job:
    arrives_s: float
    model: str
    duration_s: float
    queue_wait_s: float | None
    cancel_after_s: float | None
    run: str
    priority: int


jobs = st.builds(
    Job,
    arrives_s=st.floats(0, 30),
    model=st.sampled_from("abcd"),
    duration_s=st.floats(0, 5),
    queue_wait_s=st.none() | st.floats(0, 40),
    cancel_after_s=st.none() | st.floats(0, 20),
    run=st.sampled_from(["", "r", "s"]),
    priority=st.integers(-1, 1),
)


@given(
    st.lists(jobs, max_size=25),
    st.lists(st.integers(20, 120), min_size=4, max_size=4),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
    st.integers(50, 200),
    st.builds(Policy, st.floats(0, 10), st.floats(0, 5)),
    st.frozensets(st.integers(0, 24), max_size=3),
)
def test_every_turn_ends_once_and_nothing_is_overcommitted(
    work: list[Job], weights: list[int], slots: list[int], arena: int, policy: Policy, refused: frozenset[int]
) -> None:
    async def simulate() -> None:
        w = World(
            dict(zip("abcd", weights, strict=True)), dict(zip("abcd", slots, strict=True)), arena, policy, refused
        )
        turns: dict[int, Turn] = {}

        def arrive(number: int, job: Job) -> None:
            turns[number] = w.submit(
                number, job.model, job.duration_s, job.run, queue_wait_s=job.queue_wait_s, priority=job.priority
            )
            if job.cancel_after_s is not None:
                w.clock.call_at(w.clock.now() + job.cancel_after_s, lambda: w.cancel(turns[number]))

        async with running(w):
            for number, job in enumerate(work):
                w.clock.call_at(job.arrives_s, lambda number=number, job=job: arrive(number, job))  # type: ignore[misc]
            await w.until_idle()
            assert len(turns) == len(work)
            assert all(turn.has_ended for turn in turns.values())
            assert (w.ledger.active, w.scheduler.active, w.scheduler.queued) == (0, 0, 0)
        ends = Counter(event.turn for event in w.events if isinstance(event, ENDS))
        assert ends == Counter(dict.fromkeys(turns, 1))
        assert sum(w.scheduler.ends.values()) == len(work)
        for number, job in enumerate(work):
            if isinstance(turns[number].error, QueueTimeout):
                assert job.queue_wait_s is not None
            if job.queue_wait_s is None and job.cancel_after_s is None and number not in refused:
                assert turns[number].state == "finished"

    asyncio.run(simulate())
