"""The parts of the policy that keep something: the queue in two orders, accounts, look-ahead, service times."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentmux.policy.accounts import Account, Accounts, ServiceTimes
from agentmux.policy.lookahead import LookAhead, Successors, successor
from agentmux.policy.queues import Backlog, ModelQueue, Queued


@dataclass(eq=False)
class Computed:
    computed_tokens: int = 0


class Queues(RuleBasedStateMachine):
    """A model's queue gives what sorting everything anew would give, whatever is computed for whom meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: ModelQueue[None] = ModelQueue()
        self.accounts = [Account() for _ in range(4)]
        self.plain: list[Queued[None]] = []
        self.order = self.served = 0

    @rule(run=st.integers(0, 3), priority=st.integers(-1, 1))
    def add(self, run: int, priority: int) -> None:
        self.order += 1
        entry = Queued(self.order, self.order, float(self.order), priority, self.accounts[run], None)
        self.plain.append(entry)
        self.queue.add(entry)

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.plain))
        self.plain.remove(entry)
        self.queue.remove(entry.turn)

    @rule(run=st.integers(0, 3), tokens=st.integers(1, 3))
    def compute(self, run: int, tokens: int) -> None:
        self.accounts[run].ended_tokens += tokens

    @rule(run=st.integers(0, 3))
    def serve(self, run: int) -> None:
        self.served += 1
        self.accounts[run].served = self.served

    @invariant()
    def the_first_is_first(self) -> None:
        assert len(self.queue) == len(self.plain)
        assert sum(account.queued for account in self.accounts) == len(self.plain)
        best = min(self.plain, key=self.key, default=None)
        found = self.queue.first(1, overdue_before_s=0)
        assert [entry.turn for entry in found[:1]] == ([best.turn] if best else [])
        oldest = min((entry.order for entry in self.plain), default=None)
        assert oldest is None or oldest in [entry.order for entry in found]

    @invariant()
    def several_are_as_if_each_were_served(self) -> None:
        left, served, expected = list(self.plain), {id(account): account.served for account in self.accounts}, []
        while left and len(expected) < 3:
            one = min(left, key=lambda e: (-e.priority, e.account.attained, served[id(e.account)], e.order))
            served[id(one.account)] = 1_000_000
            left.remove(one)
            expected.append(one)
        found = [entry.turn for entry in self.queue.first(3, overdue_before_s=0)]
        # Runs of several priorities are not followed from one to the next: the higher one goes first anyway.
        if len({entry.priority for entry in expected}) <= 1:
            assert found[: len(expected)] == [entry.turn for entry in expected]

    @invariant()
    def overdue_ones_are_among_them(self) -> None:
        found = {entry.turn for entry in self.queue.first(2, overdue_before_s=1e9)}
        assert {entry.turn for entry in sorted(self.plain, key=lambda entry: entry.order)[:2]} <= found

    @staticmethod
    def key(entry: Queued[None]) -> tuple[float, ...]:
        return -entry.priority, entry.account.attained, entry.account.served, entry.order


TestQueues = Queues.TestCase


def test_a_queue_keeps_nothing_of_what_has_left() -> None:
    queue: ModelQueue[None] = ModelQueue()
    queue.add(Queued(0, 0, 0.0, 0, Account(), None))
    for turn in range(1, 5000):
        queue.add(Queued(turn, turn, 0.0, 0, Account(ended_tokens=turn), None))
        queue.remove(turn)
    assert len(queue._levels[0]._heap) < 100


def test_deadlines_come_in_order_and_once() -> None:
    backlog: Backlog[str] = Backlog()
    for turn, deadline_s in enumerate([5.0, 3.0, None, 4.0]):
        backlog.add("m", Queued(turn, turn, 0.0, 0, Account(), str(turn)), deadline_s)
    backlog.remove(3)
    assert backlog.next_deadline_s() == 3.0
    expired = []
    for entry in backlog.expired(10):
        expired.append(entry.what)
        backlog.remove(entry.turn)
    assert expired == ["1", "0"]
    assert backlog.next_deadline_s() is None
    assert [entry.what for entry in backlog.of("m")] == ["2"]


def test_an_account_only_grows() -> None:
    account, turn = Account(), Computed(7)
    account.under_way.add(turn)
    assert account.attained == 7
    account.end(turn, 5)
    assert account.attained == 7, "less than was seen cannot have been computed"
    account.under_way.add(again := Computed(1))
    account.end(again, 10)
    assert account.attained == 17


def test_accounts_of_idle_runs_are_forgotten_beyond_a_bound() -> None:
    accounts = Accounts(keep=10)
    busy = accounts.of("busy")
    busy.queued = 1
    for run in range(100):
        accounts.of(str(run))
    assert len(accounts) <= 11
    assert accounts.of("busy") is busy
    accounts.forget("busy")
    assert accounts.of("busy") is not busy
    assert accounts.of("") is not accounts.of("")


def test_habits_are_learned_and_unlearned() -> None:
    learned = Successors()
    for _ in range(10):
        learned.learn("a", "b")
    learned.learn("a", "c")
    assert max(learned.after("a"), key=learned.after("a").__getitem__) == "b", "an exception changes nothing"
    for _ in range(4):
        learned.learn("a", "c")
    assert max(learned.after("a"), key=learned.after("a").__getitem__) == "c"
    learned.learn("a", "a")
    assert "a" not in learned.after("a")
    learned.forget("c")
    assert set(learned.after("a")) == {"b"}
    assert learned.after("z") == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=30))
def test_likelihoods_add_up(pairs: list[tuple[str, str]]) -> None:
    learned = Successors()
    for model, follower in pairs:
        learned.learn(model, follower)
    for model in "abc":
        shares = learned.after(model)
        assert model not in shares
        assert not shares or sum(shares.values()) == pytest.approx(1)


def test_what_was_declared_counts_in_full() -> None:
    learned = Successors()
    learned.learn("a", "b")
    assert learned.expected([("a", None), ("a", "c"), ("x", "c")]) == {"b": 1.0, "c": 2.0}


def test_a_hint_is_kept_unless_another_is_clearly_likelier() -> None:
    assert successor({"b": 1.0, "c": 1.2}, (), "abc", "b") == "b"
    assert successor({"b": 1.0, "c": 1.3}, (), "abc", "b") == "c"
    assert successor({"b": 1.0, "c": 1.2}, (), "abc", None) == "c"
    assert successor({"b": 1.0, "c": 2.0}, {"c"}, "abc", None) == "b", "c is running"
    assert successor({"z": 1.0}, (), "abc", None) is None


def test_a_hint_is_given_once() -> None:
    ahead = LookAhead()
    assert ahead.hinted("b", [("a", None)], "abc") == "b"
    assert ahead.hinted("b", [("a", None)], "abc") is None
    ahead.started("b")
    assert ahead.hinted("b", [("a", None)], "abc") == "b"
    ahead.ended(("a", "c"))
    assert ahead.hinted(None, [], "abc") == "c"


def test_service_times_follow_what_was_seen() -> None:
    times = ServiceTimes()
    assert times.retry_after_s(1) == 0
    times.took(4)
    assert times.retry_after_s(2) == 2
    for _ in range(50):
        times.took(10)
    assert times.retry_after_s(1) == pytest.approx(10, rel=0.01)
    for _ in range(5):
        times.refused(most=3)
    assert times.retry_after_s(1) == pytest.approx(40, rel=0.01)
    times.made_room()
    assert times.retry_after_s(1) == pytest.approx(30, rel=0.01)
