"""The scheduler's decision: order, bounds and hints, each as a property of ``plan``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentmux import admission
from agentmux.admission import Admit, Request
from agentmux.engine.base import Footprint
from agentmux.scheduler import Decision, Policy, Snapshot, Waiting, plan, residents_after

POLICY = Policy(max_wait_s=10.0, min_residency_s=2.0)


def footprint(model: str, weight: int, slots: int) -> Footprint:
    return Footprint(model, "test", (weight,), 1, 0, 0, 1, weight, 64, slots, 64, 10, None)


def snapshot(
    waiting: list[tuple[str, float]],
    *,
    active: dict[str, int] | None = None,
    residents: dict[str, float] | None = None,
    slots: int = 2,
    arena: int = 100,
    current: str | None = None,
    successors: dict[str, str] | None = None,
    max_active_slots: int | None = None,
) -> Snapshot:
    """``waiting`` is (model, second of arrival) in order of arrival; turns are numbered from 1; weights are 100."""
    capacity = admission.Snapshot(
        {model: footprint(model, 100, slots) for model in "abc"},
        active or {},
        arena,
        1000,
        max_active_slots=max_active_slots,
    )
    queues: dict[str, list[Waiting]] = {}
    for turn, (model, arrived_s) in enumerate(waiting, start=1):
        queues.setdefault(model, []).append(Waiting(turn, turn, arrived_s))
    return Snapshot(capacity, queues, residents or {}, current, successors or {})


def decide(now_s: float, *args: object, **kwargs: object) -> Decision:
    return plan(snapshot(*args, **kwargs), now_s, POLICY)  # type: ignore[arg-type]


def test_nothing_waits() -> None:
    assert decide(0, []) == Decision((), None, {})


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


def test_running_models_keep_out_what_does_not_fit() -> None:
    decision = decide(5, [("b", 0)], active={"a": 1}, residents={"a": 0})
    assert decision.admit == ()
    assert decision.prefetch == "b"


def test_models_that_fit_together_start_together() -> None:
    assert decide(0, [("a", 0), ("b", 0), ("c", 0)], arena=200).admit == (1, 2)


def test_an_overdue_turn_goes_before_the_resident_model() -> None:
    assert decide(11, [("b", 0), ("a", 1)], residents={"a": 0}).admit == (1,)


def test_an_overdue_turn_that_is_blocked_holds_the_others_back() -> None:
    assert decide(11, [("b", 0), ("a", 10)], active={"a": 1}, residents={"a": 0}).admit == ()


def test_a_model_that_just_arrived_is_protected_from_overdue_turns() -> None:
    assert decide(11, [("b", 0), ("a", 10)], active={"a": 1}, residents={"a": 10}).admit == (2,)


def test_an_overdue_turn_that_waits_for_its_own_slots_holds_nobody_back() -> None:
    decision = decide(11, [("a", 0), ("b", 10)], active={"a": 2}, residents={"a": 0}, arena=200)
    assert decision.admit == (2,)


def test_without_waiting_turns_the_successor_is_the_learned_one() -> None:
    assert decide(0, [], active={"a": 1}, residents={"a": 0}, current="a", successors={"a": "c"}).prefetch == "c"
    assert decide(0, [], residents={"a": 0}, current="a", successors={"a": "c"}).prefetch == "c"
    assert decide(0, [], active={"a": 1}, residents={"a": 0}, current="a").prefetch is None


def test_a_running_model_is_never_hinted() -> None:
    decision = decide(0, [], active={"a": 1, "c": 1}, residents={"a": 0}, current="a", successors={"a": "c"}, arena=200)
    assert decision.prefetch is None


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
    # What runs got there by being admitted, so that no impossible situation is tried.
    for model in draw(st.lists(st.sampled_from(models), max_size=6)):
        if isinstance(admission.decide(capacity, Request(model, in_queue=True)), Admit):
            residents = residents_after(residents, capacity.active, model, now_s - draw(st.floats(0, 30)))
            capacity = capacity.with_turn(model)
    arrivals = sorted(draw(st.lists(st.tuples(st.floats(60, 100), st.sampled_from(models)), max_size=12)))
    queues: dict[str, list[Waiting]] = {}
    for turn, (arrived_s, model) in enumerate(arrivals, start=1):
        queues.setdefault(model, []).append(Waiting(turn, turn, arrived_s))
    current = draw(st.none() | st.sampled_from(models))
    successors = draw(st.dictionaries(st.sampled_from(models), st.sampled_from(models)))
    return Snapshot(capacity, queues, residents, current, successors), now_s


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
def test_within_a_model_order_is_by_arrival(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    for queue in now.waiting.values():
        turns = [entry.turn for entry in queue]
        admitted = [turn for turn in decision.admit if turn in turns]
        assert admitted == turns[: len(admitted)]


@given(situations())
def test_no_turn_is_overtaken_beyond_the_bound(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    decision = plan(now, now_s, POLICY)
    capacity, models, entries = replay(now, decision)
    left = [entry for turn, entry in entries.items() if turn not in decision.admit]
    for turn in decision.admit:
        for entry in left:
            if entry.order > entries[turn].order or now_s - entry.arrived_s <= POLICY.max_wait_s:
                continue
            since = now.residents.get(models[turn])
            protected = since is not None and now_s - since < POLICY.min_residency_s
            newly_resident = since is None and models[turn] in capacity.active
            older = [t for t in decision.admit if models[t] == models[turn] and entries[t].order < entry.order]
            own_slots = capacity.active.get(models[entry.turn], 0) >= capacity.footprints[models[entry.turn]].slots
            # Its model either was protected, or became so in this decision by a turn that had come even earlier.
            assert protected or own_slots or (newly_resident and older), (turn, entry)


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
def test_same_situation_same_decision(situation: tuple[Snapshot, float]) -> None:
    now, now_s = situation
    assert plan(now, now_s, POLICY) == plan(now, now_s, POLICY)
