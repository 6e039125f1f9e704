"""One run in the journal: what it did before is handed out, what it does now is written down."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentmux.errors import JournalError
from agentmux.journal.conversation import ROOT, Conversations
from agentmux.journal.past import Past
from agentmux.journal.records import Ending, RecordedSession, RecordedTool, RecordedTurn
from agentmux.journal.rows import (
    RAISED,
    stored,
    stored_messages,
    stored_numbers,
    stored_session,
    stored_tokens,
)
from agentmux.messages import Message, ToolCall, TurnNumbers

RUN_SHIFT = 32
"""Row ids of table ``turn``: the run's number, shifted by this, and ``n``."""
_BEGIN = "INSERT OR IGNORE INTO run(id, target, arguments, settings, limits, owner, at_s) VALUES(?,?,?,?,?,?,?)"
_SESSION = "INSERT INTO session VALUES(?,?,?)"
_TURN = "INSERT INTO turn VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)"
_TOOL = "INSERT INTO tool VALUES(?,?,?,?,?,?,?,?,?)"
# Tried again if it failed: by then the row may be there after all, or the run gone.
_ENDING = """INSERT OR IGNORE INTO ending SELECT ?1, ?2, ?3, ?4, ?5, ?6
    WHERE EXISTS(SELECT 1 FROM attempt WHERE run = ?1 AND n = ?2)"""
_OUTCOME = "INSERT INTO outcome VALUES(?,?,?,?,?)"


@dataclass(slots=True)
class RunKey:
    """Which run, and which attempt at it."""

    id: str
    number: int
    """Of the row in table ``run``; 0 until that is written."""
    attempt: int
    """``n`` of the row in table ``attempt``."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a run's recorded turns."""

    turns: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def plus(self, numbers: TurnNumbers) -> Totals:
        """With one turn more."""
        return Totals(
            self.turns + 1,
            self.prompt_tokens + numbers.prompt_tokens,
            self.generated_tokens + numbers.generated_tokens,
        )


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier attempts have left."""

    past: Past = field(default_factory=Past)
    conversations: Conversations = field(default_factory=Conversations)
    totals: Totals = Totals()


class RunRecord:
    """A run that this process has under way. Made by ``Journal.begin`` and ``Journal.resume``.

    ``key`` of a step is a digest of everything that determines it; see ``Past`` for what that is used for. Every method
    that writes returns once the step is committed, and raises JournalError if it could not be: then nothing of it was
    written, and the run must fail rather than go on unrecorded. All raise JournalError once the run has ended.
    """

    id: str
    target: str
    """``module:name`` or ``/path/file.py:name``."""
    arguments: str
    """JSON, as are ``settings`` and ``limits``."""

    def __init__(
        self,
        write: Callable[[Callable[[], tuple[str, tuple[Any, ...]]]], None],
        key: RunKey,
        given: tuple[str, str, str, str],
        on_end: Callable[[EndedRun], None],
        earlier: Earlier | None = None,
        rerun_in_doubt: bool = False,
    ) -> None:
        self.id = key.id
        self.target, self.arguments, self.settings, self.limits = given
        self.resumed = earlier is not None
        """Whether there was an attempt before this one."""
        self._write = write
        self._key = key
        self._n = key.attempt + 1
        self._on_end = on_end
        self._past = earlier.past if earlier else None
        self._conversations = earlier.conversations if earlier else Conversations()
        self._totals = earlier.totals if earlier else Totals()
        self._rerun_in_doubt = rerun_in_doubt
        self._under_way: defaultdict[str, deque[int]] = defaultdict(deque)
        self._ended = False

    def turn(self, key: str) -> RecordedTurn | None:
        """The next recorded turn with this key, each of which is handed out once; None: it is to be computed."""
        self._check()
        return self._past.turn(key) if self._past else None

    def record_turn(self, key: str, turn: RecordedTurn, messages: tuple[Message, ...] = ()) -> None:
        """Write down a turn that is complete.

        ``messages`` is the whole conversation that the model was shown, for ``show``; only those messages are written
        that are not there yet.
        """
        self._check()
        completion, numbers = turn.completion, turn.completion.stats
        places, new = self._conversations.grown((*messages, Message("assistant", completion.text, turn.agent)))
        totals = self._totals.plus(numbers)
        columns = (
            totals.turns,
            totals.prompt_tokens,
            totals.generated_tokens,
            time.time(),
            key,
            turn.agent,
            completion.finish_reason,
            places[-2] if messages else ROOT,
            places[-1],
            stored_tokens(completion.tokens),
            stored_numbers(numbers),
            stored_messages(new),
        )
        self._write(lambda: (_TURN, (self._number() << RUN_SHIFT | self._n, *columns)))
        for placed in new:
            self._conversations.keep(placed)
        self._totals = totals
        self._n += 1

    def tool(self, key: str, idempotent: bool) -> RecordedTool | None:
        """The next recorded outcome with this key, each of which is handed out once; None: the tool is to be run.

        Raises ToolInDoubt if the next call with this key was started and its end is not recorded, unless the tool is
        ``idempotent`` or the run was resumed with ``rerun_in_doubt``.
        """
        self._check()
        return None if self._past is None else self._past.tool(self.id, key, idempotent or self._rerun_in_doubt)

    def tool_started(self, key: str, agent: str, call: ToolCall) -> None:
        """Write down that a tool is about to run; to be called before it does."""
        self._check()
        n, replaced = self._n, self._past.replaces(key) if self._past else None
        columns = (n, key, agent, *_columns(call), replaced, time.time())
        self._write(lambda: (_TOOL, (self._number(), *columns)))
        self._n += 1
        self._under_way[key].append(n)

    def tool_ended(self, key: str, outcome: RecordedTool) -> None:
        """Write down how the oldest call with this key that is under way ended. JournalError if there is none."""
        self._check()
        under_way = self._under_way.get(key)
        if not under_way:
            raise JournalError(f"run {self.id}: the end of a tool's call was recorded without its start")
        ok = RAISED if outcome.raised else int(outcome.ok)
        columns = (under_way[0], ok, stored(outcome.text), time.time())
        self._write(lambda: (_OUTCOME, (self._number(), *columns)))
        under_way.popleft()
        if not under_way:
            del self._under_way[key]

    def end(self, status: Ending, output: str | None, error: str | None) -> None:
        """Write down the attempt's end; ``output`` is JSON. Nothing may be recorded after it.

        If the journal cannot be written, JournalError is raised, and the journal tries again at its next ``begin`` and
        when it is closed. Until then the run reads as running, and as interrupted if that fails too.
        """
        self._check()
        self._ended = True
        self._on_end(EndedRun(self._key, status, output, error, time.time()))

    def _number(self) -> int:
        if not self._key.number:
            raise JournalError(f"run {self.id} could not be begun in the journal")
        return self._key.number

    def _check(self) -> None:
        if self._ended:
            raise JournalError(f"run {self.id} has ended; nothing more can be recorded for it")


def _columns(call: ToolCall) -> tuple[str | bytes, ...]:
    return tuple(stored(text) for text in (call.id, call.name, call.arguments))


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run's beginning. Its first attempt is written with it, by a trigger."""

    key: RunKey
    given: tuple[str, str, str, str]
    """Target, arguments, settings, limits."""
    owner: str
    at_s: float
    session: RecordedSession | None = None

    def session_statements(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What writes down the session that it runs in, if it does, once the run has its number."""
        return [(_SESSION, (self.key.number, *stored_session(self.session)))] if self.session else []

    def statement(self) -> tuple[str, tuple[Any, ...]]:
        """The statement that writes it down, and its row."""
        return _BEGIN, (self.key.id, *map(stored, self.given), self.owner, self.at_s)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """An attempt's end."""

    key: RunKey
    status: Ending
    output: str | None
    error: str | None
    at_s: float

    def statement(self) -> tuple[str, tuple[Any, ...]]:
        """The statement that writes it down, and its row."""
        output, error = (None if text is None else stored(text) for text in (self.output, self.error))
        return _ENDING, (self.key.number, self.key.attempt, self.status, output, error, self.at_s)
