"""A run's limit on tokens: what its turns under way may still come to use is set aside for them, so that all of them
together never pass it.

How long an answer may be is known when a turn is submitted; how long its prompt is, the engine says once it has read
it. So a turn is submitted if its longest answer fits beside what is set aside for the others. If its prompt then does
not fit as well, it is withdrawn before it has answered, and submitted again when it does: by then its prompt is known.
A turn gets less than it asks for only where no other is under way, for only then nothing more can come back.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agentmux.errors import LimitExceeded
from agentmux.messages import Completion, Event, PrefillProgressed, TextStreamed
from agentmux.turn import Turn

T = TypeVar("T", bound=Hashable)


class TokenBudget(Generic[T]):
    """What of a limit on tokens (None: there is none) is used, and what is set aside. Pure."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.used = 0
        """Prompts and answers of turns that are complete."""
        self._aside: dict[T, int] = {}
        self._known: set[T] = set()

    def room(self, asked: int, prompt_tokens: int | None = None) -> int | None:
        """Tokens that the answer of a turn may have which asks for so many and is to be submitted now; None: it has to
        wait until another one ends. ``prompt_tokens``: of its prompt, where that is known.

        Raises LimitExceeded if there is no room for it, whatever the turns under way come to.
        """
        if self.limit is None:
            return asked
        left = self.limit - self.used - (prompt_tokens or 0)
        if left <= 0:
            raise self._exceeded(prompt_tokens)
        free = left - sum(self._aside.values())
        if free >= asked:
            return asked
        return None if self._aside else free

    def set_aside(self, turn: T, answer_tokens: int, prompt_tokens: int | None = None) -> None:
        """A turn is submitted that got so much room."""
        self._aside[turn] = answer_tokens + (prompt_tokens or 0)
        if prompt_tokens is not None:
            self._known.add(turn)

    def fits(self, turn: T, prompt_tokens: int) -> bool:
        """The engine has read a turn's prompt. False: it does not fit, so the turn must be withdrawn."""
        if self.limit is None or turn in self._known or turn not in self._aside:
            return True
        if self.used + sum(self._aside.values()) + prompt_tokens > self.limit:
            return False
        self._aside[turn] += prompt_tokens
        self._known.add(turn)
        return True

    def take(self, turn: T, tokens: int) -> bool:
        """A turn has used so many. False, and nothing is taken, if that does not fit: it must not count as complete."""
        if self.limit is not None:
            others = sum(self._aside.values()) - self._aside.get(turn, 0)
            if self.used + others + tokens > self.limit:
                return False
        self.used += tokens
        self.let_go(turn)
        return True

    def let_go(self, turn: T) -> None:
        """A turn has ended: nothing is set aside for it any more."""
        self._aside.pop(turn, None)
        self._known.discard(turn)

    def _exceeded(self, prompt_tokens: int | None) -> LimitExceeded:
        used, limit = self.used, self.limit or 0
        if prompt_tokens is None or used >= limit:
            return LimitExceeded(f"the run has used {used} of its {limit} tokens", used=used, limit=limit)
        return LimitExceeded(
            f"a prompt of {prompt_tokens} tokens leaves nothing of the run's limit of {limit} tokens, "
            f"{used} of which are used",
            used=used + prompt_tokens,
            limit=limit,
        )


@dataclass(slots=True)
class Attempts:
    """One answer on its way: a turn that is submitted, perhaps withdrawn for want of room, and submitted again."""

    tokens: TokenBudget[Turn]
    tell: Callable[[Event], None]
    """Given the events."""
    cancel: Callable[[Turn], None]
    completion: Completion | None = None
    prompt_tokens: int | None = None
    """Of its prompt, once the engine has read it and it was withdrawn."""
    withdrawn: bool = False
    turns: int = 0
    """How often it was submitted."""
    _held: list[Event] = field(default_factory=list)

    def submitted(self, turn: Turn) -> None:
        """Another turn is submitted for it."""
        self.tokens.set_aside(turn, turn.spec.max_tokens, self.prompt_tokens)
        self.withdrawn = False
        self.turns += 1
        self._held.clear()

    def watch(self, turn: Turn, event: Event) -> None:
        """Tell what the turn reports. What it says when it is withdrawn is held back: only if it ends all the same, and
        in time, was there an answer."""
        if not isinstance(event, PrefillProgressed | TextStreamed):
            self.tell(event)
            return
        if isinstance(event, PrefillProgressed) and not self.withdrawn:
            self.withdrawn = not self.tokens.fits(turn, event.total_tokens)
            if self.withdrawn:
                self.prompt_tokens = event.total_tokens
                self.cancel(turn)
        if self.withdrawn:
            self._held.append(event)
        else:
            self.tell(event)

    def take(self, turn: Turn, completion: Completion) -> None:
        """The turn has an answer. Raises LimitExceeded if there is no room for that: then it counts as withdrawn."""
        numbers = completion.stats
        if not self.tokens.take(turn, numbers.prompt_tokens + numbers.generated_tokens):
            self.withdrawn = self.turns == 1  # the second time its prompt was known, and there was room
            self.prompt_tokens = numbers.prompt_tokens
            raise LimitExceeded(f"the run's limit of {self.tokens.limit} tokens has no room for it beside other turns")

    def told(self) -> None:
        """The answer counts: tell what was held back of it."""
        for event in self._held:
            self.tell(event)
