"""Messages come back as they were, and take space once for each place in a conversation."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux.journal import Journal, RecordedTurn
from agentmux.journal.conversation import Conversations
from agentmux.messages import Completion, Message, ToolCall, TurnNumbers

from .steps import begin, turn

texts = st.text(st.characters(), max_size=300)
calls = st.builds(ToolCall, texts, texts, texts)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    texts,
    texts,
    st.lists(calls, max_size=2).map(tuple),
    st.none() | calls,
)


@settings(max_examples=30)
@given(conversations=st.lists(st.lists(messages, max_size=4), max_size=5), answer=texts)
def test_any_text_comes_back(conversations: list[list[Message]], answer: str) -> None:
    given_turns = [
        RecordedTurn(
            "A", Completion(answer + str(i), (i, 2**31 - 1), "length", TurnNumbers(i, "A", "m", wait_reason="w"))
        )
        for i in range(len(conversations))
    ]
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder) / "j.db") as journal:
        record = begin(journal)
        for given_turn, conversation in zip(given_turns, conversations, strict=True):
            record.record_turn("k", given_turn, tuple(conversation))
        shown = journal.show("run")
        said = [message for conversation in conversations for message in conversation]
        answers = [Message("assistant", given_turn.completion.text, "A") for given_turn in given_turns]
        assert set(shown.messages) == {*said, *answers}
        assert [shown_turn.answer for shown_turn in shown.turns] == [message.content for message in answers]
        record.end("failed", None, answer)
        record = journal.resume("run")
        assert [record.turn("k") for _ in given_turns] == given_turns
        assert journal.show("run").summary.error is None


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=8))
def test_a_message_is_stored_once_for_its_place(drawn: list[list[int]]) -> None:
    conversations = [tuple(Message("user", str(n)) for n in numbers) for numbers in drawn]
    kept = Conversations()
    stored: dict[int, tuple[int, Message]] = {}
    for conversation in conversations:
        places, new = kept.grown(conversation)
        for placed in new:
            kept.keep(placed)
            stored[placed.place] = (placed.parent, placed.message)
        back, place = list[Message](), places[-1] if places else 0
        while place:
            place, message = stored[place]
            back.append(message)
        assert tuple(reversed(back)) == conversation
    prefixes = {conversation[: n + 1] for conversation in conversations for n in range(len(conversation))}
    assert len(stored) == len(prefixes)


def loop(path: Path, rounds: int) -> int:
    """The journal's size after a conversation that is sent again in each round, a little longer; stopped half-way."""
    conversation: tuple[Message, ...] = (Message("system", "s" * 1000),)
    with Journal.open(path) as journal:
        record = begin(journal)
        for number in range(rounds):
            if number == rounds // 2:
                record.end("cancelled", None, None)
                record = journal.resume("run")
            conversation = (*conversation, Message("user", f"{number}" + "u" * 1000))
            record.record_turn(str(number), turn(f"{number}" + "a" * 1000), conversation)
            conversation = (*conversation, Message("assistant", f"{number}" + "a" * 1000, "A"))
        assert journal.show("run").messages == conversation
    return path.stat().st_size


def test_a_loop_takes_space_in_proportion_to_its_length(tmp_path: Path) -> None:
    short, long = (loop(tmp_path / str(rounds), rounds) for rounds in (40, 160))
    assert long < 4 * short
    assert long < 160 * 2 * 1000 * 2.5


def test_a_document_that_three_agents_are_shown_is_stored_once(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j.db")
    record, document = begin(journal), "d" * 1_000_000
    for agent in "ABC":
        record.record_turn(
            agent, turn("ok", agent), (Message("system", agent, agent), Message("user", document, agent))
        )
    shown = journal.show("run")
    assert [shown_turn.prompt[1].content == document for shown_turn in shown.turns] == [True] * 3
    path = journal.path
    journal.close()
    assert path.stat().st_size < 1_500_000
