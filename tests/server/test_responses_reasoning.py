"""What a model reasons is an item of its own in Responses, and is there before the answer's first word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openai.types.responses import ResponseReasoningItem

from agentmux import Runtime
from agentmux.engine.base import Footprint, LoadSpec
from agentmux.testing import Answer, ScriptedEngine
from tests.server.live import Live
from tests.server.test_clients_openai_responses import events_in, kinds_of
from tests.unit.chat_templates import QWEN3

PIECES = ("<think>", "\nHm", "m.\n</think>", "\n\n", "Y", "es.")


class Reasoner(ScriptedEngine):
    """Its models have the chat template of one that reasons."""

    def load(self, spec: LoadSpec) -> Footprint:
        loaded = replace(super().load(spec), chat_template=QWEN3.source, eos_text=QWEN3.eos)
        self._models[spec.model].footprint = loaded
        return loaded


def reasoner(pieces: tuple[str, ...], **more: Any) -> Live:
    engine = Reasoner({"m": lambda _: Answer("".join(pieces), chunks=pieces, **more)}, strict=False)
    return Live(lambda observers: Runtime(models=engine.models, engine=engine, config=False, observers=observers))


def test_reasoning_comes_first_plain_and_streamed() -> None:
    with reasoner(PIECES) as live:
        done = live.openai().responses.create(model="m", input="x")
        events = events_in(live.post("/v1/responses", {"model": "m", "input": "x", "stream": True}))
        with live.openai().responses.stream(model="m", input="x") as stream:
            final = stream.get_final_response()
        again: Any = [{"role": "user", "content": "x"}, *(item.model_dump() for item in done.output)]
        again.append({"role": "user", "content": "y"})
        assert live.openai().responses.create(model="m", input=again).output_text == done.output_text
    for response in (done, events[-1].response, final):
        reasoning, message = response.output
        assert isinstance(reasoning, ResponseReasoningItem)
        assert [part.text for part in reasoning.content or []] == ["Hmm."]
        assert message.type == "message"
        assert response.output_text.strip() == "Yes."
    assert kinds_of(events)[2:8] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]
    indices = [event.output_index for event in events if hasattr(event, "output_index")]
    assert indices == sorted(indices)
    assert set(indices) == {0, 1}


def test_what_was_cut_within_its_reasoning_has_no_text() -> None:
    with reasoner(PIECES[:2], reason="length") as live:
        done = live.openai().responses.create(model="m", input="x")
        assert (done.status, done.output_text) == ("incomplete", "")
