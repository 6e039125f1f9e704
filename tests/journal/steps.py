"""Shared by the journal's tests: steps that are quickly made."""

from __future__ import annotations

from agentmux.journal import Journal, RecordedTurn, RunRecord
from agentmux.messages import Completion, ToolCall, TurnNumbers


def turn(text: str, agent: str = "A", tokens: tuple[int, ...] = (1, 2)) -> RecordedTurn:
    numbers = TurnNumbers(
        turn=1, agent=agent, model="m", prompt_tokens=3, generated_tokens=len(tokens), prefill_s=0.25, switched=True
    )
    return RecordedTurn(agent, Completion(text, tokens, "stop", numbers))


def begin(journal: Journal, run: str = "run") -> RunRecord:
    return journal.begin(run, "module:name", '["x"]', '{"a": 1}', '{"turns": 3}')


def call(name: str = "pay", arguments: str = '{"to": "a"}') -> ToolCall:
    return ToolCall("call-1", name, arguments)
