"""What the live page shows of turns and runs: events in, plain documents out. Bounded, whatever happens.

Documents are replaced, never changed: whoever has one may keep it, and two that are the same object are equal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Event,
    PrefillProgressed,
    RunErrored,
    RunFinished,
    RunStarted,
    TextStreamed,
    TurnAdmitted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnNumbers,
    TurnQueued,
)

Document: TypeAlias = Mapping[str, Any]

KEPT_TURNS = 200
"""Of those that have ended."""
KEPT_SPANS = 200
KEPT_CHARACTERS = 20_000
"""Of a prompt, and of an answer."""
BUCKET_S = 2
BUCKETS = 150
_NUMBERS = tuple(one.name for one in fields(TurnNumbers))


@dataclass(slots=True)
class Texts:
    """What a turn was asked and what it said, as far as it is kept."""

    prompt: str
    prompt_characters: int
    answer: list[str] = field(default_factory=list)
    answer_characters: int = 0
    pieces: int = 0
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """New text of the answer."""
        room = KEPT_CHARACTERS - self.answer_characters
        if room > 0:
            self.answer.append(text[:room])
        self.answer_characters += len(text)
        self.pieces += 1


class Record:
    """Turns, spans and rates of the last minutes. ``now_s`` is any clock's that does not go back."""

    def __init__(self) -> None:
        self._turns: dict[str, Document] = {}
        self._grown: set[str] = set()
        """Turns whose documents do not say yet how many tokens there are."""
        self.spans: dict[str, Document] = {}
        """[run/span, oldest first] an execution of an agent or pipeline; span 0 is the run itself."""
        self.rates: dict[str, tuple[int, int]] = {}
        """[number of the time slice of BUCKET_S seconds] tokens generated, bytes uploaded."""
        self.tokens = 0
        self._last_bucket = -1
        self._texts: dict[str, Texts] = {}
        self._ended_turns: deque[str] = deque()
        self._ended_spans: deque[str] = deque()

    @property
    def turns(self) -> dict[str, Document]:
        """[turn, oldest first]"""
        for turn in self._grown:
            self._turns[turn] = {**self._turns[turn], "tokens": self._texts[turn].pieces}
        self._grown.clear()
        return self._turns

    def add(self, event: Event, now_s: float) -> None:
        """Take notice of an event."""
        now_s = round(now_s, 3)
        match event:
            case TextStreamed(turn=turn, text=text):
                self._stream(str(turn), text, now_s)
            case TurnQueued():
                self._queue(event, now_s)
            case TurnAdmitted(turn=turn, reason=reason):
                self._change(str(turn), state="running", admitted_s=now_s, **({"reason": reason} if reason else {}))
            case PrefillProgressed(turn=turn, done_tokens=done, total_tokens=total):
                self._change(str(turn), prefilled=done, prompt_tokens=total)
            case TurnCompleted():
                self._complete(event, now_s)
            case TurnCancelled(turn=turn):
                self._end(str(turn), state="cancelled", ended_s=now_s)
            case TurnErrored(turn=turn, error=error):
                self._end(str(turn), state="failed", ended_s=now_s, error=error[:1000])
            case _:
                self._span(event, now_s)

    def _queue(self, event: TurnQueued, now_s: float) -> None:
        turn = str(event.turn)
        prompt = event.prompt if isinstance(event.prompt, str) else " ".join(map(str, event.prompt[:KEPT_CHARACTERS]))
        self._texts[turn] = Texts(prompt[:KEPT_CHARACTERS], len(prompt))
        self._turns[turn] = {
            "run": event.run,
            "span": event.span,
            "agent": event.agent,
            "model": event.model,
            "state": "queued",
            "position": event.position,
            "reason": event.reason,
            "queued_s": now_s,
            "max_tokens": event.max_tokens,
            "tokens": 0,
        }

    def _change(self, turn: str, **changed: Any) -> None:
        if turn in self._turns:
            self._turns[turn] = {**self._turns[turn], **changed}

    def _stream(self, turn: str, text: str, now_s: float) -> None:
        """Nearly all events are this: as little is done as can be."""
        texts = self._texts.get(turn)
        if texts is None:
            return
        if not texts.pieces:
            self._change(turn, first_s=now_s)
        texts.add(text)
        self._grown.add(turn)
        self._generated(1, now_s)

    def _complete(self, event: TurnCompleted, now_s: float) -> None:
        turn, numbers = str(event.turn), event.numbers
        if turn not in self._turns:
            return
        texts = self._texts[turn]
        texts.numbers = {name: getattr(numbers, name) for name in _NUMBERS}
        if not numbers.replayed:  # some tokens have no text, some pieces have several
            self._generated(numbers.generated_tokens - texts.pieces, now_s)
        self._end(
            turn,
            state="finished",
            ended_s=now_s,
            tokens=numbers.generated_tokens,
            finish_reason=numbers.finish_reason,
            prompt_tokens=numbers.prompt_tokens,
            reused_tokens=numbers.reused_tokens,
            ttft_s=round(numbers.queue_wait_s + numbers.time_to_first_token_s, 4),
            upload_wait_s=round(numbers.upload_wait_s, 4),
            uploaded_bytes=numbers.uploaded_bytes,
        )

    def _end(self, turn: str, **changed: Any) -> None:
        if turn not in self._turns:
            return
        self._grown.discard(turn)
        self._change(turn, **{"tokens": self._texts[turn].pieces, **changed})
        self._ended_turns.append(turn)
        while len(self._ended_turns) > KEPT_TURNS:
            gone = self._ended_turns.popleft()
            del self._turns[gone], self._texts[gone]

    def _span(self, event: Event, now_s: float) -> None:
        key = f"{event.run}/{event.span}"
        match event:
            case RunStarted(run=run, agent=agent, span=span):
                self.spans[key] = {"run": run, "span": span, "agent": agent, "started_s": now_s}
            case AgentStarted(run=run, agent=agent, span=span, parent=parent):
                self.spans[key] = {"run": run, "span": span, "parent": parent, "agent": agent, "started_s": now_s}
            case AgentFinished() | RunFinished():
                self._end_span(key, ended_s=now_s)
            case AgentErrored(error=error) | RunErrored(error=error):
                self._end_span(key, ended_s=now_s, error=error[:1000])
            case _:
                pass

    def _end_span(self, key: str, **changed: Any) -> None:
        if key not in self.spans:
            return
        self.spans[key] = {**self.spans[key], **changed}
        self._ended_spans.append(key)
        while len(self._ended_spans) > KEPT_SPANS:
            self.spans.pop(self._ended_spans.popleft(), None)

    def _generated(self, tokens: int, now_s: float) -> None:
        self.tokens += tokens
        self._count(tokens, 0, now_s)

    def uploaded(self, count_bytes: int, now_s: float) -> None:
        """So many bytes of weights were uploaded since this was last said."""
        if count_bytes > 0:
            self._count(0, count_bytes, now_s)

    def _count(self, tokens: int, count_bytes: int, now_s: float) -> None:
        bucket = int(now_s // BUCKET_S)
        before = self.rates.get(str(bucket), (0, 0))
        self.rates[str(bucket)] = (before[0] + tokens, before[1] + count_bytes)
        if bucket != self._last_bucket:
            self._last_bucket = bucket
            for key in [key for key in self.rates if int(key) <= bucket - BUCKETS]:
                del self.rates[key]

    def turn(self, turn: str) -> Document | None:
        """A turn with its prompt, answer and numbers; None for one that is not known, or not any more."""
        if turn not in self.turns:
            return None
        texts = self._texts[turn]
        return {
            "turn": int(turn),
            **self.turns[turn],
            "prompt": texts.prompt,
            "prompt_characters": texts.prompt_characters,
            "output": "".join(texts.answer),
            "output_characters": texts.answer_characters,
            "numbers": dict(texts.numbers),
        }
