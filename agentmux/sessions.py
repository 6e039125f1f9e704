"""Conversations that go on: one question at a time in each, and none that would wait for itself.

An answer may take others: what the model calls as a tool may be an agent that asks in a conversation of its own. Then
the answer waits for that conversation too, if another question is under way there. Two such answers can each wait for
the conversation that the other one is in, and would do so for ever; so can three, in a circle. So whoever is about to
wait looks first whom it would wait for: each question under way knows for which conversations its parts wait, and each
conversation which question is under way in it. Only waiting can close a circle (who begins to ask waits for nothing
yet), so this is the one place to look.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from agentmux.errors import ConfigError, JournalError
from agentmux.journal import RecordedSession
from agentmux.messages import Message

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True, eq=False)
class Conversation:
    """What a session keeps."""

    engine_session: str
    model: str
    title: str
    """As messages of errors call it."""
    messages: tuple[Message, ...] = ()
    question: OpenQuestion | None = None
    """The question that is under way."""
    changed_by: str = ""
    """The run that changed it last."""
    before: tuple[Message, ...] = ()
    """What it held before that run."""
    ended: bool = False
    """Its session was ended: whoever still asks in it has to see to its KV cache."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def change(self, messages: tuple[Message, ...], run: str) -> None:
        """What a run makes of it."""
        if run != self.changed_by:
            self.changed_by, self.before = run, self.messages
        self.messages = messages

    @asynccontextmanager
    async def asking(self, asker: str, within: tuple[OpenQuestion, ...] = ()) -> AsyncIterator[OpenQuestion]:
        """Ask in it, once it is this question's turn.

        Args:
            asker: the agent's name.
            within: the questions that this one is part of the answer to.

        Raises ConfigError if that would never be, because the question under way waits for one of ``within``.
        """
        _refuse_circle(self, asker, within)
        for outer in within:
            outer.waits_for.append(self)
        try:
            await self.lock.acquire()
        finally:
            for outer in within:
                outer.waits_for.remove(self)
        self.question = here = OpenQuestion(self)
        try:
            yield here
        finally:
            self.question = None
            self.lock.release()


@dataclass(slots=True, eq=False)
class OpenQuestion:
    """A question that is under way in a conversation."""

    kept: Conversation
    waits_for: list[Conversation] = field(default_factory=list)
    """Conversations in which parts of its answer wait to ask, each as often as they do."""


def path(start: T, following: Callable[[T], Iterable[T]], ends: Collection[T]) -> list[T] | None:
    """A shortest way from ``start`` to any of ``ends``, both included; None if there is none."""
    came_from: dict[T, T | None] = {start: None}
    latest: T | None
    for latest in (reached := [start]):
        if latest in ends:
            way: list[T] = []
            while latest is not None:
                way.append(latest)
                latest = came_from[latest]
            return way[::-1]
        for one in following(latest):
            if one not in came_from:
                came_from[one] = latest
                reached.append(one)
    return None


def _waits_for(asked: OpenQuestion) -> list[OpenQuestion]:
    return [kept.question for kept in asked.waits_for if kept.question is not None]


def _refuse_circle(wanted: Conversation, asker: str, within: tuple[OpenQuestion, ...]) -> None:
    if wanted.question is None or (circle := path(wanted.question, _waits_for, within)) is None:
        return
    if len(circle) == 1:
        raise ConfigError(
            f"{asker} asks in its session while an answer in it is under way, which waits for that; "
            "what is run as a tool of the question has to use ctx.ask"
        )
    links = itertools.pairwise(circle)
    chain = ", and ".join(f"the answer in {one.kept.title} waits for {other.kept.title}" for one, other in links)
    raise ConfigError(
        f"{asker} would wait for ever: it asks in {wanted.title} within an answer in {circle[-1].kept.title}, while "
        f"{chain}; agents that call each other as tools have to use ctx.ask, or sessions that no other run uses"
    )


class NamedSessions:
    """Conversations that are kept from run to run, under sessions' names."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], Conversation] = {}  # [session's name, agent, model]

    def named(self, session: str, agent: str, model: str) -> Conversation:
        """The conversation of this agent with this model under a session's name; an empty one if it is new."""
        key = (session, agent, model)
        if key not in self._kept:
            self._kept[key] = Conversation(f"@{session}/{agent}", model, f"{agent}'s session {session!r}")
        return self._kept[key]

    def end(self, session: str) -> list[Conversation]:
        """Forget the conversations under this name. Those that were there."""
        ended = [self._kept.pop(key) for key in [key for key in self._kept if key[0] == session]]
        for kept in ended:
            kept.ended = True
        return ended

    def now(self, session: str) -> RecordedSession:
        """What the conversations under this name hold."""
        held = {key[1:]: kept.messages for key, kept in self._kept.items() if key[0] == session and kept.messages}
        return RecordedSession(session, held)

    def check_restorable(self, began: RecordedSession, run: str) -> None:
        """Raises JournalError if ``restore`` would lose what others than this run have said since it began."""
        for (session, agent, model), kept in self._kept.items():
            if session != began.name:
                continue
            then = began.messages.get((agent, model), ())
            unchanged = kept.messages == then or (kept.changed_by == run and kept.before == then)
            if kept.question is not None or not unchanged:
                raise JournalError(
                    f"run {run} began with other messages in its session than session {session!r} holds now; resume it "
                    "under a name that is not in use, session=..., where it goes on from what it knew"
                )

    def restore(self, began: RecordedSession, run: str) -> None:
        """Let the conversations under this name hold again what they held as a run began that is resumed now."""
        for (session, agent, model), kept in self._kept.items():
            if session == began.name:
                kept.change(began.messages.get((agent, model), ()), run)
        for (agent, model), messages in began.messages.items():
            self.named(began.name, agent, model).change(messages, run)
