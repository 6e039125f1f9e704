"""Admission: the order of its questions, the numbers in its refusals, and leases that balance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentmux.admission import Admit, Ledger, Refuse, Request, Snapshot, Wait, decide
from agentmux.engine.base import Footprint
from agentmux.errors import ContextOverflow, NeverFits, QueueFull


def footprint(
    model: str,
    weight: int = 100,
    *,
    slots: int = 1,
    least: int | None = None,
    static: int = 0,
    context: int = 0,
    context_tokens: int = 64,
) -> Footprint:
    return Footprint(
        model=model,
        architecture="test",
        unit_bytes=(weight,),
        min_arena_bytes=weight // 2 if least is None else least,
        static_bytes=static,
        context_bytes=context,
        kv_bytes_per_token=1,
        host_bytes=weight,
        context_tokens=context_tokens,
        slots=slots,
        training_context_tokens=context_tokens,
        vocabulary_tokens=10,
        chat_template=None,
    )


def snapshot(*footprints: Footprint, arena: int = 150, budget: int | None = 200, **rest: Any) -> Snapshot:
    by_model = {print.model: print for print in footprints}
    return replace(Snapshot(by_model, {}, arena, budget), **rest)


def test_an_empty_device_admits() -> None:
    assert decide(snapshot(footprint("a")), Request("a")) == Admit()


def test_a_model_larger_than_the_arena_runs_alone() -> None:
    assert decide(snapshot(footprint("a", 1000, least=100)), Request("a")) == Admit()


def test_what_can_never_fit_is_refused_with_the_numbers() -> None:
    verdict = decide(snapshot(footprint("a", least=100, static=60, context=50)), Request("a"))
    assert isinstance(verdict, Refuse)
    assert isinstance(verdict.error, NeverFits)
    assert (verdict.error.needed_bytes, verdict.error.available_bytes, verdict.error.budget_bytes) == (210, 200, 200)


def test_the_arena_bounds_too() -> None:
    verdict = decide(snapshot(footprint("a", 400, least=160)), Request("a"))
    assert isinstance(verdict, Refuse)
    assert isinstance(verdict.error, NeverFits)
    assert (verdict.error.needed_bytes, verdict.error.available_bytes) == (160, 150)


def test_without_a_budget_only_the_arena_counts() -> None:
    assert decide(snapshot(footprint("a", static=1000, context=1000), budget=None), Request("a")) == Admit()
    assert isinstance(decide(snapshot(footprint("a", least=1000), budget=None), Request("a")), Refuse)


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    full = decide(snapshot(footprint("a")), Request("a", prompt_tokens=64))
    assert isinstance(full, Refuse)
    assert isinstance(full.error, ContextOverflow)
    assert (full.error.prompt_tokens, full.error.context_tokens) == (64, 64)
    assert decide(snapshot(footprint("a")), Request("a", prompt_tokens=63)) == Admit()


def test_hopeless_comes_before_a_full_queue() -> None:
    hopeless = snapshot(footprint("a", least=1000), queued=5, queue_limit=5)
    verdict = decide(hopeless, Request("a"))
    assert isinstance(verdict, Refuse)
    assert isinstance(verdict.error, NeverFits)


def test_a_full_queue_is_refused_with_the_numbers() -> None:
    busy = snapshot(footprint("a"), active={"a": 1}, queued=5, queue_limit=5)
    verdict = decide(busy, Request("a"))
    assert isinstance(verdict, Refuse)
    assert isinstance(verdict.error, QueueFull)
    assert (verdict.error.queued, verdict.error.queue_limit) == (5, 5)
    assert verdict.error.numbers["retry_after_s"] == 0
    assert "try again later" in str(verdict.error)
    assert isinstance(decide(busy, Request("a", in_queue=True)), Wait)
    soon = decide(replace(busy, retry_after_s=2.5), Request("a"))
    assert isinstance(soon, Refuse)
    assert soon.error.numbers["retry_after_s"] == 2.5
    assert "try again in about 2.5 s" in str(soon.error)


def test_no_queue_at_all_still_admits_what_need_not_wait() -> None:
    assert decide(snapshot(footprint("a"), queue_limit=0), Request("a")) == Admit()
    busy = decide(snapshot(footprint("a"), queue_limit=0, active={"a": 1}), Request("a"))
    assert isinstance(busy, Refuse)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"active": {"a": 1}}, "model a is busy: 1 of 1 slots"),
        ({"active": {"b": 2}, "max_active_slots": 2}, "all slots are busy: 2 of 2"),
        ({"active": {"b": 1}}, "waiting for b to finish"),
    ],
)
def test_reasons_to_wait_can_be_read(now: dict[str, Any], reason: str) -> None:
    verdict = decide(snapshot(footprint("a"), footprint("b", slots=4), **now), Request("a"))
    assert isinstance(verdict, Wait)
    assert verdict.reason == reason


def test_models_that_fit_together_run_together() -> None:
    both = snapshot(footprint("a", 70), footprint("b", 80), active={"b": 1})
    assert decide(both, Request("a")) == Admit()


MODELS = ("a", "b", "c")


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    arena = draw(st.integers(1, 300))
    prints = {
        model: footprint(
            model,
            weight := draw(st.integers(1, 300)),
            slots=draw(st.integers(1, 4)),
            least=draw(st.integers(1, weight)),
            static=draw(st.integers(0, 50)),
            context=draw(st.integers(0, 50)),
        )
        for model in MODELS
    }
    active = {model: draw(st.integers(1, prints[model].slots)) for model in draw(st.sets(st.sampled_from(MODELS)))}
    return Snapshot(
        prints,
        active,
        arena,
        draw(st.none() | st.integers(arena, 500)),
        queued=draw(st.integers(0, 5)),
        queue_limit=draw(st.integers(0, 5)),
        max_active_slots=draw(st.none() | st.integers(1, 8)),
    )


@given(snapshots(), st.sampled_from(MODELS), st.booleans(), st.none() | st.integers(0, 100))
def test_every_verdict_is_earned(now: Snapshot, model: str, in_queue: bool, prompt_tokens: int | None) -> None:
    verdict = decide(now, Request(model, prompt_tokens, in_queue))
    wanted = now.footprints[model]
    least = wanted.min_arena_bytes + wanted.static_bytes + wanted.context_bytes
    over = now.budget_bytes is not None and least > now.budget_bytes
    hopeless = over or wanted.min_arena_bytes > now.arena_bytes
    too_long = prompt_tokens is not None and prompt_tokens >= wanted.context_tokens
    alone = decide(replace(now, active={}, queued=0), Request(model, prompt_tokens, in_queue))
    if isinstance(verdict, Admit):
        after = now.with_turn(model)
        assert not hopeless
        assert not too_long
        assert after.active[model] <= wanted.slots
        assert now.max_active_slots is None or sum(after.active.values()) <= now.max_active_slots
        others = [name for name in now.active if name != model]
        weights = sum(now.footprints[name].weight_bytes for name in after.active)
        assert not others or weights <= now.arena_bytes
    elif isinstance(verdict, Wait):
        assert alone == Admit(), "nothing may wait for what an empty device would not give"
        assert in_queue or now.queued < now.queue_limit
        assert verdict.reason
    elif isinstance(verdict.error, QueueFull):
        assert not in_queue
        assert now.queued >= now.queue_limit
        assert alone == Admit()
    else:
        assert hopeless or too_long
        assert isinstance(alone, Refuse)


class Leases(RuleBasedStateMachine):
    """Grants and returns in any order; the ledger agrees with a plain list."""

    def __init__(self) -> None:
        super().__init__()
        prints = {"a": footprint("a", 60, slots=2), "b": footprint("b", 60, slots=1), "c": footprint("c", 150, slots=3)}
        self.ledger = Ledger(prints, arena_bytes=150, budget_bytes=150, max_active_slots=3)
        self.out: list[object] = []
        self.turn = 0

    @rule(model=st.sampled_from(MODELS))
    def grant(self, model: str) -> None:
        self.turn += 1
        verdict = decide(self.ledger.snapshot(0), Request(model, in_queue=True))
        if isinstance(verdict, Admit):
            self.out.append(self.ledger.grant(self.turn, model))
        else:
            with pytest.raises(ValueError, match="cannot be granted"):
                self.ledger.grant(self.turn, model)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.out))
        self.out.remove(lease)
        self.ledger.give_back(lease)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="given back already"):
            self.ledger.give_back(lease)  # type: ignore[arg-type]

    @invariant()
    def balanced(self) -> None:
        counted: dict[str, int] = {}
        for lease in self.out:
            counted[lease.model] = counted.get(lease.model, 0) + 1  # type: ignore[attr-defined]
        assert dict(self.ledger.snapshot(0).active) == counted
        assert self.ledger.active == len(self.out)


TestLeases = Leases.TestCase


def test_a_turn_gets_one_lease() -> None:
    ledger = Ledger({"a": footprint("a", slots=2)}, arena_bytes=150, budget_bytes=150)
    ledger.grant(1, "a")
    with pytest.raises(ValueError, match="cannot be granted"):
        ledger.grant(1, "a")


def test_models_come_and_go() -> None:
    ledger = Ledger({"a": footprint("a", 100)}, arena_bytes=150, budget_bytes=200)
    lease = ledger.grant(1, "a")
    ledger.add(footprint("b", 100), arena_bytes=120, budget_bytes=None)
    now = ledger.snapshot(0)
    assert (now.arena_bytes, now.budget_bytes, set(now.footprints)) == (120, None, {"a", "b"})
    with pytest.raises(ValueError, match="there already"):
        ledger.add(footprint("b"), arena_bytes=1, budget_bytes=1)
    ledger.remove("a")
    assert set(ledger.models) == {"b"}
    assert isinstance(decide(ledger.snapshot(0), Request("b")), Wait), "its bytes count until its lease is back"
    with pytest.raises(ValueError, match="cannot be granted"):
        ledger.grant(2, "a")
    with pytest.raises(ValueError, match="not there"):
        ledger.remove("a")
    ledger.give_back(lease)
    assert set(ledger.snapshot(0).footprints) == {"b"}
    assert decide(ledger.snapshot(0), Request("b")) == Admit()


def test_a_model_may_come_again_before_its_old_leases_are_back() -> None:
    ledger = Ledger({"a": footprint("a", 100)}, arena_bytes=150, budget_bytes=200)
    lease = ledger.grant(1, "a")
    ledger.remove("a")
    ledger.add(footprint("a", 70, slots=2), arena_bytes=150, budget_bytes=200)
    again = ledger.grant(2, "a")
    assert isinstance(decide(ledger.snapshot(0), Request("a")), Wait)
    ledger.give_back(lease)
    ledger.give_back(again)
    assert ledger.snapshot(0).footprints["a"].weight_bytes == 70


@given(snapshots(), st.sets(st.sampled_from(MODELS)))
def test_without_a_model_is_as_if_it_had_no_turns(now: Snapshot, gone: set[str]) -> None:
    after = now.without(gone)
    assert after == replace(now, active={name: count for name, count in now.active.items() if name not in gone})
