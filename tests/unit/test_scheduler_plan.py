"""The scheduler's decision: order, bounds, slices and hints, each as a property of ``plan``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentmux import admission
from agentmux.admission import Admit, Request, Wait
from agentmux.engine.base import Footprint
from agentmux.errors import NeverFits
from agentmux.policy import Decision, Policy, Running, Snapshot, Waiting, plan, residents_after
from agentmux.policy.ranking import outranks
from agentmux.policy.slices import stay_s, upload_s

POLICY = Policy(max_wait_s=10.0, min_residency_s=2.0)


def footprint(model: str, weight: int, slots: int) -> Footprint:
    return Footprint(model, "test", (weight,), 1, 0, 0, 1, weight, 64, slots, 64, 10, None)


def snapshot(
    waiting: list[tuple[str, float] | tuple[str, float, int] | tuple[str, float, int, float]],
    *,
    active: dict[str, int] | None = None,
    slots: int = 2,
    arena: int = 100,
    max_active_slots: int | None = None,
    started_s: float = 0,
    priority: int = 0,
    **rest: Any,
) -> Snapshot:
    """``waiting`` is (model, second since which it waits, priority, attained), in order of arrival; turns are numbered
    from 1, those that run (since ``started_s``, with ``priority``) from 101; weights are 100."""
    prints = {model: footprint(model, 100, slots) for model in "abc"}
    active = active or {}
    capacity = admission.Snapshot(prints, active, arena, 1000, max_active_slots=max_active_slots)
    queues: dict[str, list[Waiting]] = {}
    for turn, (model, *entry) in enumerate(waiting, start=1):
        queues.setdefault(model, []).append(Waiting(turn, turn, *entry))
    running = [Running(0, model, started_s, priority) for model, count in active.items() for _ in range(count)]
    running = [replace(one, turn=turn) for turn, one in enumerate(running, start=101)]
    residents = rest.pop("residents", dict.fromkeys(active, 0.0))
    return Snapshot(capacity, queues, residents, running, **rest)


def decide(now_s: float, *args: Any, **kwargs: Any) -> Decision:
    return plan(snapshot(*args, **kwargs), now_s, POLICY)


def test_nothing_waits() -> None:
    assert decide(0, []) == Decision()


def test_the_first_model_to_come_takes_all_its_slots() -> None:
    decision = decide(0, [("a", 0), ("b", 0), ("a", 0), ("c", 0), ("a", 0)])
    assert decision.admit == (1, 3)
    assert decision.waits == {
        5: "model a is busy: 2 of 2 slots",
        2: "waiting for a to finish",
        4: "waiting for a to finish",
    }
    assert decision.prefetch == "b"


def test_the_resident_model_goes_first() -> None:
    assert decide(5, [("b", 0), ("a", 1)], residents={"a": 0}).admit == (2,)


def test_the_model_that_is_being_uploaded_goes_before_others() -> None:
    assert decide(5, [("b", 0), ("c", 1)], hint="c").admit == (2,)
    decision = decide(5, [("b", 4), ("c", 4)], active={"a": 1}, hint="c")
    assert decision.prefetch == "c", "the hint does not move to another that waits no more urgently"
    assert decide(5, [("b", 4, 1), ("c", 4)], active={"a": 1}, hint="c").prefetch == "b"


def test_models_that_fit_together_start_together() -> None:
    assert decide(0, [("a", 0), ("b", 0), ("c", 0)], arena=200).admit == (1, 2)


def test_an_overdue_turn_goes_before_the_resident_model() -> None:
    assert decide(11, [("b", 0), ("a", 1)], residents={"a": 0}).admit == (1,)


def test_a_model_that_just_arrived_is_protected_from_overdue_turns() -> None:
    decision = decide(11, [("b", 0), ("a", 10)], active={"a": 1}, residents={"a": 10})
    assert decision.admit == (2,)
    assert decision.park == ()


def test_an_overdue_turn_that_waits_for_its_own_slots_holds_nobody_back() -> None:
    decision = decide(11, [("a", 0), ("b", 10)], active={"a": 2}, arena=200)
    assert decision.admit == (2,)


def test_priority_goes_before_affinity_and_arrival() -> None:
    assert decide(5, [("a", 0), ("b", 1, 1)], residents={"a": 0}).admit == (2,)
    assert decide(1, [("a", 0), ("b", 1, 1)], residents={"a": 0}).admit == (1,), "a is protected"


def test_a_run_that_had_less_goes_first_among_models_of_the_same_kind() -> None:
    assert decide(5, [("b", 0, 0, 100.0), ("c", 1, 0, 5.0)]).admit == (2,)


def test_every_second_turn_may_pass_an_overdue_one_that_it_outranks() -> None:
    waiting = [("b", 0, 0, 50.0), ("c", 19, 1, 0.0)]
    assert (decide(20, waiting).admit, decide(20, waiting).passed) == ((2,), True)
    assert (decide(20, waiting, passed=True).admit, decide(20, waiting, passed=True).passed) == ((1,), False)
    same_model = snapshot([], slots=1)
    queue = [Waiting(2, 2, 19, 1), Waiting(1, 1, 0)]
    for passed, first in ((False, 2), (True, 1)):
        decision = plan(replace(same_model, waiting={"a": queue}, passed=passed), 20, POLICY)
        assert (decision.admit, decision.passed) == ((first,), not passed)


def test_what_outranks_nothing_does_not_pass() -> None:
    assert decide(20, [("b", 0), ("c", 19)]).admit == (1,)


LONG: dict[str, Any] = {"active": {"a": 1}}


def test_a_long_turn_makes_way_after_two_quanta() -> None:
    before = decide(3.5, [("b", 1)], **LONG)
    assert (before.park, before.wake_s) == ((), 4.0)
    after = decide(4, [("b", 1)], **LONG)
    assert decide(4, [("b", 2.5)], **LONG).wake_s == 4.5, "it has to wait for a quantum"
    assert (after.park, after.claimant, after.admit, after.wake_s) == ((101,), "b", (), None)


def test_turns_that_are_short_so_far_are_let_finish() -> None:
    decision = decide(9, [("b", 1)], started_s=8, **LONG)
    assert (decision.park, decision.wake_s) == ((), 12.0)


def test_a_slice_lasts_at_least_eight_uploads_of_the_larger_model() -> None:
    decision = decide(9, [("b", 1)], upload_bytes_per_s=50.0, **LONG)
    assert (decision.park, decision.wake_s) == ((), 32.0)
    assert decide(32, [("b", 1)], upload_bytes_per_s=50.0, **LONG).park == (101,)


def test_higher_priority_waits_for_the_stay_only() -> None:
    assert decide(2, [("b", 1.9, 1)], started_s=1.9, **LONG).park == (101,)
    assert decide(1.5, [("b", 1, 1)], **LONG).wake_s == 2.0


def test_lower_priority_gets_a_slice_when_it_is_overdue() -> None:
    decision = decide(9, [("b", 1)], priority=1, **LONG)
    assert (decision.park, decision.wake_s) == ((), 11.0)
    assert decide(11, [("b", 1)], priority=1, **LONG).park == (101,)


def test_while_turns_make_way_nothing_starts_before_the_one_they_do_it_for() -> None:
    leaving = snapshot([("b", 0), ("a", 0, 5)], active={"a": 1}, claimant="b")
    leaving = replace(leaving, running=[Running(101, "a", 0, 0, leaving=True)])
    decision = plan(leaving, 5, POLICY)
    assert (decision.admit, decision.park, decision.claimant) == ((), (), "b")
    gone = snapshot([("b", 0), ("a", 0, 5)], residents={"a": 0}, claimant="b")
    decision = plan(gone, 5, POLICY)
    assert (decision.admit, decision.claimant) == ((1,), None)
    assert plan(replace(gone, waiting={"a": gone.waiting["a"]}), 5, POLICY).admit == (2,), "it gave up"


def test_the_model_that_was_resident_for_longest_makes_way() -> None:
    now = snapshot([("c", 0)], active={"a": 1, "b": 1}, arena=200, residents={"a": 3.0, "b": 1.0})
    assert plan(now, 20, POLICY).park == (102,)


def test_as_many_models_make_way_as_it_takes() -> None:
    now = snapshot([("c", 0)], active={"a": 1, "b": 1}, arena=200)
    prints = {**now.capacity.footprints, "c": footprint("c", 150, 1)}
    decision = plan(replace(now, capacity=replace(now.capacity, footprints=prints)), 20, POLICY)
    assert decision.park == (101, 102)


def test_turns_of_one_model_are_not_sliced() -> None:
    decision = decide(50, [("a", 0)], active={"a": 2})
    assert (decision.park, decision.wake_s) == ((), None)


def test_a_common_limit_of_slots_is_sliced_too() -> None:
    assert decide(50, [("b", 0)], arena=300, max_active_slots=1, **LONG).park == (101,)


def test_what_cannot_fit_any_more_is_refused() -> None:
    now = snapshot([("a", 0), ("b", 0)])
    prints = {**now.capacity.footprints, "a": replace(footprint("a", 500, 1), min_arena_bytes=400)}
    decision = plan(replace(now, capacity=replace(now.capacity, footprints=prints)), 1, POLICY)
    assert decision.admit == (2,)
    assert isinstance(decision.refuse[1], NeverFits)


def test_residents_keep_their_second_and_give_way_to_a_newcomer() -> None:
    assert residents_after({"a": 1, "b": 2}, {"a": 1}, "b", 9) == {"a": 1, "b": 2}
    assert residents_after({"a": 1, "b": 2}, {"a": 1}, "c", 9) == {"a": 1, "c": 9}
    assert residents_after({"a": 1, "b": 2}, {}, "c", 9) == {"c": 9}


@st.composite
def situations(draw: st.DrawFn) -> tuple[Snapshot, float]:
    models = "abcd"
    now_s = 100.0
    arena = draw(st.integers(50, 250))
    prints = {m: footprint(m, draw(st.integers(10, 150)), draw(st.integers(1, 3))) for m in models}
    capacity = admission.Snapshot(prints, {}, arena, 1000, max_active_slots=draw(st.none() | st.integers(1, 5)))
    residents: dict[str, float] = {}
    running: list[Running] = []
    # What runs got there by being admitted, so that no impossible situation is tried.
    for model in draw(st.lists(st.sampled_from(models), max_size=6)):
        if isinstance(admission.decide(capacity, Request(model, in_queue=True)), Admit):
            since_s = now_s - draw(st.floats(0, 30))
            residents = residents_after(residents, capacity.active, model, since_s)
            capacity = capacity.with_turn(model)
            since_s = max(since_s, residents[model])
            running.append(Running(100 + len(running), model, since_s, draw(st.integers(-1, 1))))
    entries = st.tuples(st.floats(60, 100), st.sampled_from(models), st.integers(-1, 1), st.sampled_from([0.0, 7.0]))
    queues: dict[str, list[Waiting]] = {}
    for turn, (since_s, model, priority, attained) in enumerate(sorted(draw(st.lists(entries, max_size=12))), start=1):
        queues.setdefault(model, []).append(Waiting(turn, turn, since_s, priority, attained))
    for queue in queues.values():
        queue.sort(key=lambda entry: (-entry.priority, entry.attained, entry.order))
    name = st.none() | st.sampled_from(models)
    speed = draw(st.sampled_from([0.0, 20.0, 500.0]))
    passed, hint = draw(st.booleans()), draw(name)
    return Snapshot(capacity, queues, residents, running, speed, None, passed, hint), now_s


def replay(now: Snapshot, decision: Decision) -> tuple[admission.Snapshot, dict[int, str], dict[int, Waiting]]:
    models = {entry.turn: model for model, queue in now.waiting.items() for entry in queue}
    entries = {entry.turn: entry for queue in now.waiting.values() for entry in queue}
    capacity = now.capacity
    for turn in decision.admit:
        assert isinstance(admission.decide(capacity, Request(models[turn], in_queue=True)), Admit)
        capacity = capacity.with_turn(models[turn])
    return capacity, models, entries


@given(situations())
def test_nothing_is_overcommitted(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    assert len(set(decision.admit)) == len(decision.admit)
    capacity, _, _ = replay(now, decision)
    for model, count in capacity.active.items():
        assert count <= capacity.footprints[model].slots
    weights = sum(capacity.footprints[model].weight_bytes for model in capacity.active)
    assert len(capacity.active) <= 1 or weights <= capacity.arena_bytes


@given(situations())
def test_overdue_turns_are_passed_only_as_the_bound_allows(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    _, models, entries = replay(now, decision)
    capacity, passed, residents = now.capacity, now.passed, dict(now.residents)
    left = dict(entries)
    for turn in decision.admit:
        model, entry = models[turn], left.pop(turn)
        since = residents.get(model)
        speed = now.upload_bytes_per_s
        protected = since is not None and now_s - since < stay_s(capacity, model, speed, POLICY)
        for other in left.values():
            if now_s - other.since_s <= POLICY.max_wait_s:
                continue
            if (other.since_s, other.order) > (entry.since_s, entry.order):
                continue
            own_slots = capacity.active.get(models[other.turn], 0) >= capacity.footprints[models[other.turn]].slots
            elsewhere = protected and models[other.turn] != model
            # What passes an overdue turn outranks the one that is overdue for longest, and no two do so in a row.
            assert elsewhere or own_slots or (not passed and outranks(entry, _longest(left, now_s))), (turn, other)
        late = [one for one in (entry, *left.values()) if now_s - one.since_s > POLICY.max_wait_s]
        if late and min(late, key=lambda one: (one.since_s, one.order)) is entry:
            passed = False
        elif late and outranks(entry, _longest(left, now_s)) and not protected:
            passed = True
        residents = residents_after(residents, capacity.active, model, now_s)
        capacity = capacity.with_turn(model)


def _longest(entries: dict[int, Waiting], now_s: float) -> Waiting:
    late = [one for one in entries.values() if now_s - one.since_s > POLICY.max_wait_s]
    return min(late, key=lambda one: (one.since_s, one.order))


@given(situations())
def test_without_overdue_turns_order_within_a_model_is_kept(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, replace(POLICY, max_wait_s=1000))
    for queue in now.waiting.values():
        turns = [entry.turn for entry in queue]
        admitted = [turn for turn in decision.admit if turn in turns]
        assert admitted == turns[: len(admitted)]


@given(situations())
def test_parking_is_earned_and_lets_the_contender_start(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    if not decision.park:
        assert decision.claimant is None
        return
    assert decision.claimant is not None
    assert decision.admit == (), "what makes way starts nothing, and nothing overtakes the one it is for"
    victims = {turn.model for turn in now.running if turn.turn in decision.park}
    assert {turn.turn for turn in now.running if turn.model in victims} == set(decision.park), "whole models"
    request = Request(decision.claimant, in_queue=True)
    assert isinstance(admission.decide(now.capacity, request), Wait)
    assert isinstance(admission.decide(now.capacity.without(victims), request), Admit)
    for model in {*victims, decision.claimant}:
        uploads_s = 8 * upload_s(now.capacity, model, now.upload_bytes_per_s)
        assert all(now_s - now.residents[victim] >= max(uploads_s, POLICY.min_residency_s) for victim in victims)
    head = now.waiting[decision.claimant][0]
    highest = max(turn.priority for turn in now.running if turn.model in victims)
    waited_s = now_s - min(entry.since_s for entry in now.waiting[decision.claimant])
    assert head.priority > highest or waited_s >= POLICY.min_residency_s
    assert head.priority >= highest or waited_s >= POLICY.max_wait_s


@given(situations())
def test_it_says_when_it_would_park(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    if decision.wake_s is None or decision.admit:
        return
    assert decision.wake_s > now_s
    assert plan(now, decision.wake_s, POLICY).park, "and nothing else has changed by then"


@given(situations())
def test_whoever_waits_for_bytes_has_a_time_to_look_forward_to(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    capacity, models, _ = replay(now, decision)
    waiting = {model for turn, model in models.items() if turn not in decision.admit} - capacity.active.keys()
    assert not waiting or decision.park or decision.wake_s is not None


@given(situations())
def test_what_could_start_on_an_idle_device_starts(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    if now.waiting and not now.capacity.active:
        assert decision.admit or all(
            not isinstance(admission.decide(now.capacity, Request(model, in_queue=True)), Admit)
            for model in now.waiting
        )


@given(situations())
def test_the_hint_is_of_no_running_model(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    capacity, models, _ = replay(now, decision)
    assert decision.prefetch is None or decision.prefetch not in capacity.active
    waiting = {models[turn] for turn in models if turn not in decision.admit} - capacity.active.keys()
    assert not waiting or decision.prefetch in waiting


@given(situations())
def test_a_hint_is_changed_only_for_a_more_urgent_turn(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    first = plan(now, now_s, replace(POLICY, max_wait_s=1000))
    again = replace(now, hint=first.prefetch)
    if first.prefetch and not first.admit:
        assert plan(again, now_s + 1, replace(POLICY, max_wait_s=1000)).prefetch == first.prefetch


@given(situations())
def test_same_situation_same_decision(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    assert plan(now, now_s, POLICY) == plan(now, now_s, POLICY)
