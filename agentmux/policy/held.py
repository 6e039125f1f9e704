"""The turns that the engine has, running or parked, and what it is told of a turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentmux.admission import Lease
from agentmux.engine.base import TurnRequest
from agentmux.policy.accounts import Account
from agentmux.policy.lookahead import Use
from agentmux.policy.situation import Running, Waiting
from agentmux.turn import Turn


@dataclass(slots=True, eq=False)
class Held:
    """A turn that the engine has."""

    turn: Turn
    order: int
    account: Account
    lease: Lease | None
    """None: it is parked."""
    leaving: bool = False
    """It was asked to park, and the engine has not said yet that it has."""


class HeldTurns:
    """All of them. Which of them are parked follows from their leases."""

    def __init__(self) -> None:
        self._turns: dict[int, Held] = {}
        self._parked: dict[str, dict[int, Held]] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._turns.values()))

    def get(self, turn: int) -> Held | None:
        """The turn of this id, if the engine has it."""
        return self._turns.get(turn)

    def add(self, held: Held) -> None:
        """The engine is about to get a turn."""
        self._turns[held.turn.id] = held

    def pop(self, turn: int) -> Held | None:
        """Take out a turn that has ended; None if the engine does not have it."""
        held = self._turns.pop(turn, None)
        if held is not None and held.lease is None:
            self._unpark(held)
        return held

    def park(self, held: Held) -> None:
        """The engine has taken it off its slot; its lease was given back."""
        held.lease, held.leaving = None, False
        self._parked.setdefault(held.turn.spec.model, {})[held.turn.id] = held

    def resume(self, held: Held, lease: Lease) -> None:
        """It goes on."""
        self._unpark(held)
        held.lease = lease

    def _unpark(self, held: Held) -> None:
        model = held.turn.spec.model
        del self._parked[model][held.turn.id]
        if not self._parked[model]:
            del self._parked[model]

    @property
    def parked(self) -> int:
        """How many are parked."""
        return sum(len(turns) for turns in self._parked.values())

    @property
    def parked_models(self) -> set[str]:
        """The models of those that are parked."""
        return set(self._parked)

    def waiting(self, model: str) -> list[Waiting]:
        """Those of a model that are parked, oldest first."""
        parked = sorted(self._parked.get(model, {}).values(), key=lambda held: held.order)
        return [
            Waiting(h.turn.id, h.order, h.turn.since_s, h.turn.spec.priority, h.account.attained, True) for h in parked
        ]

    def running(self) -> list[Running]:
        """Those that are not parked."""
        return [
            Running(h.turn.id, h.turn.spec.model, h.turn.since_s, h.turn.spec.priority, h.leaving)
            for h in self._turns.values()
            if h.lease is not None
        ]

    def uses(self) -> list[Use]:
        """What they use, and declared to use next."""
        return [(held.turn.spec.model, held.turn.spec.then) for held in self._turns.values()]


def request_of(turn: Turn) -> TurnRequest:
    """What the engine is told."""
    spec = turn.spec
    return TurnRequest(
        turn=turn.id,
        model=spec.model,
        prompt=spec.prompt,
        max_tokens=spec.max_tokens,
        sampling=spec.sampling,
        grammar=spec.grammar,
        stop=spec.stop,
        ignore_eos=spec.ignore_eos,
        session=spec.session,
        fork=spec.fork,
        grammar_after=spec.grammar_after,
        logprobs=spec.logprobs,
    )
