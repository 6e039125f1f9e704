"""Which messages are stored: each once for its place in a conversation, so that a conversation which is sent again and
again, each time a little longer, takes space in proportion to its length and not to its square.

A place is a message and the place before it, so all conversations of a run form a tree. A turn refers to the place of
its prompt's last message and to the place of its answer, which is where the conversation goes on if the answer is then
sent back as it was. A long text that comes again at another place (a document that three agents are shown) is stored as
a reference to its first place.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentmux.messages import Message

ROOT = 0
"""The place before any conversation's first message."""
_COPY_CHARACTERS = 200
"""Texts from this length on are not stored twice."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A message that is stored, or is to be."""

    place: int
    parent: int
    """The place before it."""
    message: Message
    copy_of: int | None
    """The place where its text is stored already."""


class Conversations:
    """The places of one run's messages, numbered from 1 in the order in which they are stored."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, Message], int] = {}
        self._texts: dict[str, int] = {}

    def grown(self, messages: tuple[Message, ...]) -> tuple[list[int], list[Placed]]:
        """The place of each message of a conversation, and those of them that are not stored yet.

        Nothing changes by it: they have their places once they are given to ``keep``.
        """
        known, kept = self._places, len(self._places)
        places, new = list[int](), list[Placed]()
        place = ROOT
        for message in messages:
            # After a new message all places are new.
            found = None if new else known.get((place, message))
            if found is None:
                found = kept + len(new) + 1
                copy_of = self._texts.get(message.content) if len(message.content) >= _COPY_CHARACTERS else None
                new.append(Placed(found, place, message, copy_of))
            places.append(found)
            place = found
        return places, new

    def keep(self, placed: Placed) -> None:
        """It is stored."""
        self._places[placed.parent, placed.message] = placed.place
        if placed.copy_of is None and len(placed.message.content) >= _COPY_CHARACTERS:
            self._texts.setdefault(placed.message.content, placed.place)
