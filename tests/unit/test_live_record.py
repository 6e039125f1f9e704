"""What is shown of turns and runs, and the patches by which it is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentmux.messages import (
    AgentErrored,
    AgentStarted,
    RunStarted,
    TextStreamed,
    TurnAdmitted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnNumbers,
    TurnQueued,
)
from agentmux.server.live_merge import changes
from agentmux.server.live_record import BUCKET_S, BUCKETS, KEPT_CHARACTERS, KEPT_SPANS, KEPT_TURNS, Record

RUN = ("r", "Coder", 1)
values = st.recursive(
    st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=4),
)
documents = st.dictionaries(st.text(max_size=3), values, max_size=6)


def merged(target: Any, patch: Any) -> Any:
    """As RFC 7396 has it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(documents, documents)
def test_a_patch_makes_the_new_document_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = changes(old, new)
    assert merged(old, patch) == new
    assert bool(patch) == (old != new)


def queued(turn: int, prompt: str | tuple[int, ...] = "say") -> TurnQueued:
    return TurnQueued(*RUN, turn, "coder", 2, "no room", max_tokens=9, prompt=prompt)


def completed(turn: int, generated: int, **more: Any) -> TurnCompleted:
    numbers = TurnNumbers(turn, "Coder", "coder", "stop", generated_tokens=generated, uploaded_bytes=7, **more)
    return TurnCompleted(*RUN, turn, "coder", "ab", numbers)


def test_a_turn_from_its_queue_to_its_answer() -> None:
    record = Record()
    record.add(queued(1), 1.0)
    assert record.turns["1"]["state"] == "queued"
    assert record.turns["1"]["reason"] == "no room"
    record.add(TurnAdmitted(*RUN, 1, "coder", 1.0, ""), 2.0)
    first = record.turns["1"]
    for number, text in enumerate("ab"):
        record.add(TextStreamed(*RUN, 1, text), 3.0 + number)
    assert first["tokens"] == 0, "documents that were given away do not change"
    assert (record.turns["1"]["first_s"], record.turns["1"]["tokens"]) == (3.0, 2)
    record.add(completed(1, 5, queue_wait_s=1.0, time_to_first_token_s=0.5), 6.0)
    shown = record.turn("1")
    assert shown is not None
    assert shown["ttft_s"] == 1.5, "whoever asked waits in the queue, too"
    assert (shown["state"], shown["ended_s"], shown["tokens"]) == ("finished", 6.0, 5)
    assert (shown["prompt"], shown["output"], shown["numbers"]["uploaded_bytes"]) == ("say", "ab", 7)
    assert record.tokens == 5, "those without text count, too"
    assert sum(tokens for tokens, _ in record.rates.values()) == 5


def test_an_answer_that_was_replayed_is_no_generated_token() -> None:
    record = Record()
    record.add(queued(1), 1.0)
    record.add(completed(1, 5, replayed=True), 1.0)
    assert record.tokens == 0
    assert record.turns["1"]["tokens"] == 5


def test_turns_that_did_not_finish_say_how_they_ended() -> None:
    record = Record()
    record.add(queued(1, (1, 2)), 1.0)
    record.add(queued(2), 1.0)
    record.add(TurnCancelled(*RUN, 1, "coder"), 2.0)
    record.add(TurnErrored(*RUN, 2, "coder", "no"), 2.0)
    assert record.turns["1"]["state"] == "cancelled"
    assert (record.turns["2"]["state"], record.turns["2"]["error"]) == ("failed", "no")
    shown = record.turn("1")
    assert shown is not None
    assert shown["prompt"] == "1 2"
    assert record.turn("3") is None


def test_it_stays_small_whatever_happens() -> None:
    record = Record()
    for turn in range(KEPT_TURNS + 10):
        record.add(queued(turn, "x" * (KEPT_CHARACTERS + 1)), float(turn))
        record.add(TextStreamed(*RUN, turn, "y" * (KEPT_CHARACTERS - 1)), float(turn))
        record.add(TextStreamed(*RUN, turn, "zz"), float(turn))
        record.add(completed(turn, 2), float(turn))
    for span in range(KEPT_SPANS + 10):
        record.add(AgentStarted("r", "Coder", span, 0), 0.0)
        record.add(AgentErrored("r", "Coder", span, "no"), 1.0)
    record.add(TextStreamed(*RUN, KEPT_TURNS + 9, "w"), 10_000.0)
    assert next(iter(record.turns)) == "10"
    assert len(record.turns) == KEPT_TURNS
    assert len(record.spans) == KEPT_SPANS
    assert len(record.rates) == 1, "the older ones are past"
    shown = record.turn("10")
    assert shown is not None
    assert len(shown["prompt"]) == len(shown["output"]) == KEPT_CHARACTERS
    assert shown["prompt_characters"] == shown["output_characters"] == KEPT_CHARACTERS + 1
    assert shown["output"].endswith("yz")


def test_turns_that_are_not_over_are_never_dropped() -> None:
    record = Record()
    record.add(queued(0), 0.0)
    for turn in range(1, KEPT_TURNS + 10):
        record.add(queued(turn), 0.0)
        record.add(TurnCancelled(*RUN, turn, "coder"), 0.0)
    assert record.turns["0"]["state"] == "queued"


def test_rates_are_of_slices_of_time() -> None:
    record = Record()
    record.uploaded(5, 0.0)
    record.uploaded(6, BUCKET_S - 0.1)
    record.uploaded(0, BUCKET_S * 1.0)
    record.uploaded(7, BUCKET_S * 2.0)
    assert record.rates == {"0": (0, 11), "2": (0, 7)}
    record.uploaded(1, BUCKET_S * (BUCKETS + 1.0))
    assert list(record.rates) == ["2", str(BUCKETS + 1)]


def test_a_run_and_its_agents() -> None:
    record = Record()
    record.add(RunStarted("r", "write", 0), 1.0)
    record.add(AgentStarted("r", "Coder", 1, 0), 2.0)
    record.add(AgentErrored("r", "Coder", 1, "no"), 3.0)
    assert record.spans["r/0"] == {"run": "r", "span": 0, "agent": "write", "started_s": 1.0}
    assert record.spans["r/1"]["parent"] == 0
    assert (record.spans["r/1"]["ended_s"], record.spans["r/1"]["error"]) == (3.0, "no")
