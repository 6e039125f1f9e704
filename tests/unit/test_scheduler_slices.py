"""The scheduler's coroutine where turns make way, models come and go, and queues fill: on a fake clock."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from agentmux.engine.base import LoadSpec
from agentmux.errors import EngineError, ModelNotFound, NeverFits, QueueFull
from agentmux.messages import TurnAdmitted, TurnCancelled
from agentmux.scheduler import Policy
from agentmux.testing import settle
from tests.unit.scheduler_world import World, running, world

QUANTUM = Policy(max_wait_s=10, min_residency_s=2)


def timeline(w: World) -> list[tuple[float, str, int]]:
    """(second, what, turn) of all that began or made way."""
    return sorted(
        [(at, "starts", turn) for at, turn, _ in w.admitted]
        + [(at, "parks", turn) for at, turn in w.parked]
        + [(at, "resumes", turn) for at, turn in w.resumed]
    )


async def test_a_long_answer_does_not_hold_everybody() -> None:
    async with running(world(policy=QUANTUM)) as w:
        long = w.submit(0, "a", duration_s=100, run="long")
        w.clock.advance(1)
        await settle()
        for turn in (1, 2):
            w.submit(turn, "b", duration_s=0.5, run=f"short {turn}")
        await w.until_idle()
        assert [what for _, what, turn in timeline(w) if turn == 0] == ["starts", "parks", "resumes"]
        waited = {turn: at - 1 for at, turn, _ in w.admitted}
        assert waited[1] == 4, "the long one began at second 1 and has been running for two quanta"
        assert waited[2] == 4.5
        assert long.state == "finished"
        assert (long.parks, long.parked_s) == (1, 1.0)
        assert w.scheduler.parks == 1


async def test_long_turns_of_three_models_go_round() -> None:
    async with running(world(policy=QUANTUM)) as w:
        for turn, model in enumerate("abc"):
            w.submit(turn, model, duration_s=12, run=str(turn))
        await w.until_idle()
        runs = [turn for _, what, turn in timeline(w) if what != "parks"]
        assert runs == [0, 1, 2, 0, 1, 2, 0, 1, 2]
        times = [at for at, what, _ in timeline(w) if what != "parks"]
        assert all(later - earlier == 4 for earlier, later in pairwise(times))


async def test_all_turns_of_a_model_make_way_together() -> None:
    async with running(world(slots=2, policy=QUANTUM)) as w:
        for turn, model in enumerate("aab"):
            w.submit(turn, model, duration_s=5 if model == "a" else 1)
        await w.until_idle()
        assert [turn for _, turn in w.parked] == [0, 1]
        assert sorted(turn for _, turn in w.resumed) == [0, 1]
        assert w.scheduler.ends["finished"] == 3


async def test_a_turn_that_is_parked_can_be_cancelled() -> None:
    async with running(world(policy=QUANTUM)) as w:
        parked = w.submit(0, "a", duration_s=100)
        other = w.submit(1, "b", duration_s=100)
        await settle()
        w.clock.advance(4)
        await settle()
        assert (parked.state, other.state) == ("parked", "active")
        assert (w.scheduler.active, w.scheduler.parked, w.ledger.active) == (1, 1, 1)
        w.cancel(parked)
        assert parked.state == "cancelled"
        assert w.scheduler.parked == 0
        await w.until_idle()
        assert [event.turn for event in w.events if isinstance(event, TurnCancelled)] == [0]


async def test_a_turn_that_ends_before_it_is_parked_has_ended() -> None:
    async with running(world(policy=QUANTUM)) as w:
        first, second = w.submit(0, "a", duration_s=4), w.submit(1, "b")
        await w.until_idle()
        assert (first.state, second.state) == ("finished", "finished")
        assert w.ledger.active == 0


async def test_if_the_one_that_turns_made_way_for_gives_up_they_go_on() -> None:
    async with running(world(policy=QUANTUM)) as w:
        long, other = w.submit(0, "a", duration_s=100), w.submit(1, "b")
        await settle()
        w.scheduler.step()
        w.clock.advance(3.99)
        await settle()
        w.clock.advance(0.01)
        w.scheduler.step()  # parks; the engine has not said so yet
        assert long.state == "active"
        w.scheduler.cancel(other)
        await settle()
        assert long.state == "active"
        assert (len(w.parked), len(w.resumed)) == (1, 1)
        await w.until_idle()
        assert long.state == "finished"


async def test_closing_ends_parked_turns_once() -> None:
    async with running(world(policy=QUANTUM)) as w:
        turns = [w.submit(turn, model, duration_s=100) for turn, model in enumerate("abc")]
        await settle()
        w.clock.advance(4)
        await settle()
        assert [turn.state for turn in turns] == ["parked", "active", "queued"]
        w.scheduler.close(EngineError("lost"))
        assert {turn.state for turn in turns} == {"failed"}
        assert w.scheduler.ends == {"finished": 0, "cancelled": 0, "failed": 3}
        assert (w.scheduler.active, w.scheduler.parked, w.scheduler.queued, w.ledger.active) == (0, 0, 0, 0)


async def test_priority_decides_and_does_not_starve() -> None:
    async with running(world(policy=QUANTUM)) as w:
        w.submit(0, "a")
        await settle()
        low = w.submit(1, "b", priority=-1)
        for turn in range(2, 40):
            w.submit(turn, "a")
        await w.until_idle()
        assert low.admitted_s is not None
        assert 10 < low.admitted_s <= 12


async def test_a_run_of_many_turns_does_not_hold_back_a_short_one() -> None:
    async with running(world(policy=QUANTUM)) as w:
        for turn in range(50):
            w.submit(turn, "a", run="many")
        await settle()
        w.clock.advance(30)  # all of them are overdue
        await settle()
        before = len(w.admitted)
        short = w.submit(50, "a", run="one")
        await w.until_idle()
        assert [turn for _, turn, _ in w.admitted].index(short.id) <= before + 1


async def test_runs_that_have_had_the_same_take_turns() -> None:
    async with running(world()) as w:
        for turn in range(6):
            w.submit(turn, "a", run="first" if turn < 3 else "second")
        await w.until_idle()
        assert [turn for _, turn, _ in w.admitted] == [0, 3, 1, 4, 2, 5]


async def test_turns_outside_of_runs_are_runs_of_their_own() -> None:
    async with running(world()) as w:
        for turn in range(4):
            w.submit(turn, "a", run="")
        await w.until_idle()
        assert [turn for _, turn, _ in w.admitted] == [0, 1, 2, 3]
        assert len(w.scheduler._accounts) == 0


async def test_what_a_run_declares_is_uploaded_ahead() -> None:
    async with running(world()) as w:
        w.submit(0, "a", then="c")
        await w.until_idle()
        assert w.engine.prefetches == ["c"]


async def test_what_is_declared_and_not_loaded_is_no_hint() -> None:
    async with running(world()) as w:
        w.submit(0, "a", then="z")
        await w.until_idle()
        assert w.engine.prefetches == []


async def test_only_what_follows_within_a_run_is_learned() -> None:
    async with running(world()) as w:
        for turn, model in enumerate("abab"):
            w.submit(turn, model, run=str(turn))
            await w.until_idle()
        assert w.engine.prefetches == []


async def test_a_full_queue_says_when_to_try_again() -> None:
    w = world(queue_limit=2)
    async with running(w):
        w.submit(0, "a", duration_s=4)
        w.submit(1, "a", duration_s=100)
        await settle()
        w.submit(2, "a")
        first = w.submit(3, "a")
        assert isinstance(first.error, QueueFull)
        assert first.error.numbers["retry_after_s"] == 0, "nothing has ended yet"
        w.clock.advance(4)
        await settle()
        w.submit(4, "a")
        refused = [w.submit(turn, "a").error for turn in (5, 6)]
        again = [error.numbers["retry_after_s"] for error in refused if isinstance(error, QueueFull)]
        assert again == [4.0, 8.0], "one after the other"
        assert "try again in about 4.0 s" in str(refused[0])


async def test_draining_lets_finish_what_there_is() -> None:
    async with running(world(policy=QUANTUM)) as w:
        turns = [w.submit(turn, model, duration_s=3) for turn, model in enumerate("abb")]
        await settle()
        draining = asyncio.create_task(w.scheduler.drain())
        await settle()
        late = w.submit(3, "a")
        assert isinstance(late.error, EngineError)
        assert not draining.done()
        await w.until_idle()
        assert draining.done()
        assert {turn.state for turn in turns} == {"finished"}


async def test_draining_nothing_takes_no_time() -> None:
    async with running(world()) as w:
        await w.scheduler.drain()
        assert w.clock.now() == 0


async def test_closing_ends_a_drain() -> None:
    async with running(world()) as w:
        w.submit(0, "a", duration_s=100)
        await settle()
        draining = asyncio.create_task(w.scheduler.drain())
        await settle()
        w.scheduler.close()
        await settle()
        assert draining.done()


async def test_a_model_that_is_added_can_be_used() -> None:
    w = world("ab")
    async with running(w):
        assert isinstance(w.submit(0, "c").error, ModelNotFound)
        w.engine._script["c"] = w._answer
        w.engine._weight_bytes["c"] = 100
        w.weights["c"], w.slots["c"] = 100, 1
        w.ledger.add(w.engine.load(LoadSpec("c", "")), arena_bytes=100, budget_bytes=100)
        turn = w.submit(1, "c")
        await w.until_idle()
        assert turn.state == "finished"


async def test_a_model_that_is_retired_lets_go_of_its_turns() -> None:
    async with running(world(policy=QUANTUM)) as w:
        parked, active, queued = (w.submit(turn, model, duration_s=100) for turn, model in enumerate("aba"))
        await settle()
        w.clock.advance(4)
        await settle()
        assert (parked.state, active.state, queued.state) == ("parked", "active", "queued")
        w.scheduler.retire("a")
        assert isinstance(queued.error, ModelNotFound)
        assert isinstance(w.submit(3, "a").error, ModelNotFound)
        await settle()
        assert (parked.state, active.state) == ("cancelled", "active")
        w.scheduler.retire("b")
        assert w.ledger.active == 1, "its slot is taken until the engine says so"
        await settle()
        assert active.state == "cancelled"
        assert dict(w.ledger.snapshot(0).footprints).keys() == {"c"}
        with pytest.raises(ModelNotFound):
            w.scheduler.retire("b")


async def test_what_does_not_fit_any_more_is_refused_with_the_numbers() -> None:
    async with running(world()) as w:
        w.submit(0, "a")
        await settle()
        late = w.submit(1, "b")
        w.ledger.resize(arena_bytes=99, budget_bytes=99)
        await w.until_idle()
        assert isinstance(late.error, NeverFits)
        assert late.error.available_bytes == 99


async def test_each_admission_is_told_once_however_often_a_turn_is_parked() -> None:
    async with running(world(policy=QUANTUM)) as w:
        for turn, model in enumerate("ab"):
            w.submit(turn, model, duration_s=18, run=model)
        await w.until_idle()
        assert w.scheduler.parks > 4
        assert sum(isinstance(event, TurnAdmitted) for event in w.events) == 2
