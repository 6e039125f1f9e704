"""What the journal's rows say: summaries, details, and the past of a run that is resumed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentmux.journal.conversation import ROOT, Conversations, Placed
from agentmux.journal.past import InDoubt, Past
from agentmux.journal.record import RUN_SHIFT, Earlier, Totals
from agentmux.journal.records import (
    RecordedSession,
    RecordedTool,
    RecordedTurn,
    RunDetails,
    RunSummary,
    ShownTool,
    ShownTurn,
    Status,
)
from agentmux.journal.rows import (
    RAISED,
    restored,
    restored_messages,
    restored_numbers,
    restored_session,
    restored_tokens,
    stored,
)
from agentmux.messages import Completion, Message

if TYPE_CHECKING:
    from agentmux.journal.database import Database

_ATTEMPTS = """
SELECT run.number, run.id, run.target, run.at_s, attempt.n, attempt.owner, attempt.at_s,
    (SELECT count(*) FROM attempt WHERE run = run.number)
FROM run JOIN attempt ON attempt.run = run.number
    AND attempt.n = (SELECT max(n) FROM attempt WHERE run = run.number)
"""
RUN_TURNS = f"WHERE id BETWEEN ?1 << {RUN_SHIFT} AND (?1 + 1 << {RUN_SHIFT}) - 1"
"""The rows of table ``turn`` of the run with the number ``?1``."""
_TURNS = f"{RUN_TURNS} ORDER BY id"
_LAST_TURN = f"{_TURNS} DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run and its last attempt."""

    number: int
    id: str
    target: str
    began_s: float
    n: int
    owner: str
    at_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class State:
    """How an attempt stands."""

    status: Status
    ended_s: float | None = None
    output: str | None = None
    error: str | None = None


class Reader:
    """Reads an open journal. Raises JournalError, for damaged rows too.

    Args:
        database: the file.
        is_alive: whether an owner's process still runs.
    """

    def __init__(self, database: Database, is_alive: Callable[[str], bool]) -> None:
        self._database = database
        self._is_alive = is_alive

    def attempts(self) -> list[Attempt]:
        """All runs, the newest first."""
        return [Attempt(*row) for row in self._database.rows(f"{_ATTEMPTS} ORDER BY run.number DESC")]

    def attempt(self, run: str) -> Attempt | None:
        """The run with exactly this id."""
        rows = self._database.rows(f"{_ATTEMPTS} WHERE run.id = ?", (stored(run),))
        return Attempt(*rows[0]) if rows else None

    def state(self, attempt: Attempt) -> State:
        """How it stands now."""
        if (ended := self._ending(attempt)) is not None:
            return ended
        if self._is_alive(attempt.owner):
            return State("running")
        # It may have written its end and gone since the first look.
        return self._ending(attempt) or State("interrupted")

    def _ending(self, attempt: Attempt) -> State | None:
        sql = "SELECT status, at_s, output, error FROM ending WHERE run = ? AND attempt = ?"
        rows = self._database.rows(sql, (attempt.number, attempt.n))
        if not rows:
            return None
        status, at_s, output, error = rows[0]
        return State(status, at_s, *(None if text is None else restored(text) for text in (output, error)))

    def last_s(self, attempt: Attempt, state: State) -> float:
        """When it last wrote something."""
        if state.ended_s is not None:
            return state.ended_s
        turns = self._database.rows(f"SELECT at_s FROM turn {_LAST_TURN}", (attempt.number,))
        tools = self._database.rows("SELECT max(at_s) FROM tool WHERE run = ?", (attempt.number,))
        return max(attempt.at_s, *(float(at_s or 0.0) for (at_s,) in (*turns, *tools)))

    def totals(self, number: int) -> Totals:
        """Of the turns of the run with this number."""
        sql = f"SELECT turns, prompt_tokens, generated_tokens FROM turn {_LAST_TURN}"
        rows = self._database.rows(sql, (number,))
        return Totals(*rows[0]) if rows else Totals()

    def summary(self, attempt: Attempt, state: State) -> RunSummary:
        """The run with its totals."""
        totals = self.totals(attempt.number)
        ((tools,),) = self._database.rows("SELECT count(*) FROM tool WHERE run = ?", (attempt.number,))
        return RunSummary(
            id=attempt.id,
            target=restored(attempt.target),
            status=state.status,
            began_s=attempt.began_s,
            ended_s=state.ended_s,
            attempts=attempt.attempts,
            turns=totals.turns,
            prompt_tokens=totals.prompt_tokens,
            generated_tokens=totals.generated_tokens,
            tool_calls=tools,
            error=state.error,
        )

    def given(self, attempt: Attempt) -> tuple[str, str, str, str]:
        """Target, arguments, settings and limits."""
        sql = "SELECT target, arguments, settings, limits FROM run WHERE number = ?"
        target, arguments, settings, limits = (
            restored(text) for text in self._database.rows(sql, (attempt.number,))[0]
        )
        return target, arguments, settings, limits

    def details(self, attempt: Attempt) -> RunDetails:
        """Everything about a run."""
        state = self.state(attempt)
        with self._damage(attempt):
            placed = self._placed(attempt.number)
            given = self.given(attempt)
            return RunDetails(
                summary=self.summary(attempt, state),
                arguments=given[1],
                settings=given[2],
                limits=given[3],
                output=state.output,
                turns=tuple(self._turns(attempt.number, {row.place: row for row in placed})),
                tools=tuple(self._tools(attempt, state)),
                messages=tuple(row.message for row in placed),
                session=self._session(attempt.number),
            )

    def _session(self, number: int) -> RecordedSession | None:
        rows = self._database.rows("SELECT name, messages FROM session WHERE run = ?", (number,))
        return restored_session(*rows[0]) if rows else None

    def _placed(self, number: int) -> list[Placed]:
        rows = self._database.rows(f"SELECT messages FROM turn {_TURNS}", (number,))
        return restored_messages(messages for (messages,) in rows)

    def _turns(self, number: int, placed: dict[int, Placed]) -> Iterator[ShownTurn]:
        sql = f"SELECT id, at_s, agent, prompt, answer, finish_reason, numbers FROM turn {_TURNS}"
        shown: set[int] = set()
        for id, at_s, agent, prompt, answer, finish_reason, numbers in self._database.rows(sql, (number,)):
            new = list[Message]()
            place = prompt
            while place != ROOT and place not in shown:
                new.append(placed[place].message)
                shown.add(place)
                place = placed[place].parent
            shown.add(answer)
            text = placed[answer].message.content
            yield ShownTurn(
                id & (1 << RUN_SHIFT) - 1,
                at_s,
                agent,
                tuple(reversed(new)),
                text,
                finish_reason,
                restored_numbers(numbers),
            )

    def _tools(self, attempt: Attempt, state: State) -> Iterator[ShownTool]:
        for row in self._tool_rows(attempt.number):
            n, at_s, agent, call, name, arguments, ok, text, ended_s, replaced = row
            yield ShownTool(
                order=n,
                at_s=at_s,
                agent=agent,
                id=restored(call),
                name=restored(name),
                arguments=restored(arguments),
                state=_tool_state(ok, replaced, running=state.status == "running" and n > attempt.n),
                text=None if text is None else restored(text),
                ended_s=ended_s,
            )

    def _tool_rows(self, number: int) -> list[Any]:
        sql = """SELECT tool.n, tool.at_s, agent, call, name, arguments, ok, text, outcome.at_s,
                tool.n IN (SELECT reruns FROM tool WHERE run = ?1 AND reruns IS NOT NULL)
            FROM tool LEFT JOIN outcome ON outcome.run = ?1 AND outcome.tool = tool.n
            WHERE tool.run = ?1 ORDER BY tool.n"""
        return self._database.rows(sql, (number,))

    def earlier(self, attempt: Attempt) -> Earlier:
        """What earlier attempts have done."""
        with self._damage(attempt):
            conversations, texts, past = Conversations(), dict[int, str](), Past()
            for placed in self._placed(attempt.number):
                conversations.keep(placed)
                texts[placed.place] = placed.message.content
            sql = f"SELECT key, agent, answer, tokens, finish_reason, numbers FROM turn {_TURNS}"
            for key, agent, answer, tokens, reason, numbers in self._database.rows(sql, (attempt.number,)):
                completion = Completion(texts[answer], restored_tokens(tokens), reason, restored_numbers(numbers))
                past.turns[key].append(RecordedTurn(agent, completion))
            keys = dict(self._database.rows("SELECT n, key FROM tool WHERE run = ?", (attempt.number,)))
            for n, _, _, _, name, arguments, ok, text, _, replaced in self._tool_rows(attempt.number):
                if ok is not None:
                    if ok != RAISED:
                        past.tools[keys[n]].append(RecordedTool(bool(ok), restored(text)))
                elif not replaced:
                    past.in_doubt[keys[n]].append(InDoubt(n, restored(name), restored(arguments)))
            return Earlier(past, conversations, self.totals(attempt.number))

    def next_n(self, attempt: Attempt) -> int:
        """The first number after all that the run has."""
        turns = self._database.rows(f"SELECT id FROM turn {_LAST_TURN}", (attempt.number,))
        tools = self._database.rows("SELECT max(n) FROM tool WHERE run = ?", (attempt.number,))
        last = turns[0][0] & (1 << RUN_SHIFT) - 1 if turns else 0
        return 1 + max(attempt.n, last, tools[0][0] or 0)

    @contextmanager
    def _damage(self, attempt: Attempt) -> Iterator[None]:
        try:
            yield
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, struct.error) as error:
            raise self._database.damaged(f"a row of run {attempt.id} makes no sense ({error!r})") from error


def _tool_state(
    ok: int | None, replaced: int, *, running: bool
) -> Literal["running", "returned", "errored", "in doubt", "run again"]:
    if ok is not None:
        return "returned" if ok == 1 else "errored"
    if replaced:
        return "run again"
    return "running" if running else "in doubt"
