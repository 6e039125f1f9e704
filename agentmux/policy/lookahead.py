"""Which model a run asks for next: what it declared, else what followed what in the runs before.

Counts, not only the last one: agents that take turns in a fixed round are learned in one round, and an exception does
not undo it. Counts decay, so that a habit that has changed is unlearned in a few turns. Only what followed *within a
run* counts: that a turn of another run happened to come next says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

Use: TypeAlias = tuple[str, str | None]
"""A turn's model, and the model that its run declared to use next."""

_DECAY = 0.8
"""Of a model's counts at each further turn that follows it: the last five weigh about as much as all before them."""
_BETTER = 1.25
"""A hint is changed for one that is so many times as likely; one that is a little likelier now may not be in a moment,
and the upload under way would be thrown away."""


class Successors:
    """What followed what. At most as many counts as pairs of models."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, float]] = {}

    def learn(self, model: str, follower: str) -> None:
        """In some run, a turn of ``follower`` came after one of ``model``. The same model again is no successor."""
        if model == follower:
            return
        row = self._counts.setdefault(model, {})
        for name in row:
            row[name] *= _DECAY
        row[follower] = row.get(follower, 0.0) + 1.0

    def forget(self, model: str) -> None:
        """The model is gone."""
        self._counts.pop(model, None)
        for row in self._counts.values():
            row.pop(model, None)

    def after(self, model: str) -> Mapping[str, float]:
        """[model] how likely it is the next other one; empty where nothing is known."""
        row = self._counts.get(model, {})
        total = sum(row.values())
        return {name: count / total for name, count in row.items()} if total else {}

    def expected(self, turns: Iterable[Use]) -> dict[str, float]:
        """[model] how many of these turns it is expected to follow. What was declared counts in full."""
        likely: dict[str, float] = {}
        for model, then in turns:
            following = self.after(model) if then is None else {then: 1.0}
            for name, share in following.items():
                likely[name] = likely.get(name, 0.0) + share
        return likely


def successor(
    expected: Mapping[str, float], active: Collection[str], known: Collection[str], hint: str | None
) -> str | None:
    """The model to upload ahead where none waits: the likeliest that is loaded and not running; the present ``hint``
    unless another is clearly likelier. None where nothing is expected."""
    likely = {name: share for name, share in expected.items() if name in known and name not in active}
    if not likely:
        return None
    best = min(likely, key=lambda name: (-likely[name], name))
    return hint if hint in likely and likely[best] <= _BETTER * likely[hint] else best


class LookAhead:
    """What is known of what comes next, and the hint that was given of it."""

    def __init__(self) -> None:
        self.successors = Successors()
        self.hint: str | None = None
        """The model that is being uploaded ahead."""
        self._last: Use | None = None

    def ended(self, use: Use) -> None:
        """A turn has ended."""
        self._last = use

    def started(self, model: str) -> None:
        """A turn of this model has started: if it was hinted, the hint has done its work."""
        if self.hint == model:
            self.hint = None

    def hinted(self, waiting: str | None, running: Sequence[Use], known: Collection[str]) -> str | None:
        """The model that is to be hinted now, if that is another than before. ``waiting`` is the one that waits to run
        next; where none does, what is likely to follow the running turns counts, or that of the last one."""
        model = waiting
        if model is None:
            uses = running or ([self._last] if self._last else [])
            active = {name for name, _ in running}
            model = successor(self.successors.expected(uses), active, known, self.hint)
        if model is None or model == self.hint:
            return None
        self.hint = model
        return model
