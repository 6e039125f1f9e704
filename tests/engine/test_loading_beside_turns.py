"""A model is loaded while another one computes: to the bit the same answers, whatever room there is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmux import Event, Runtime, TurnCompleted
from agentmux.agents import Solution, builtin_tasks, solve
from agentmux.engine.base import EngineConfig, Footprint, LoadSpec, TurnFinished, TurnRequest, TurnStarted
from agentmux.engine.native import NativeEngine
from agentmux.models import bundled_models

from . import random_models
from .conftest import BATCH_TOKENS, CONTEXT_TOKENS, events, run

MakeEngine = Callable[..., NativeEngine]
ANSWER_TOKENS = 200


def _spec(path: Path, model: str) -> LoadSpec:
    return LoadSpec(model, str(path), CONTEXT_TOKENS, 1, BATCH_TOKENS)


def _turn(turn: int, model: str = "m", session: str | None = None) -> TurnRequest:
    prompt = random_models.prompt(40)
    return TurnRequest(turn, model, prompt, max_tokens=ANSWER_TOKENS, ignore_eos=True, session=session)


def _beside(engine: NativeEngine, spec: LoadSpec) -> Iterator[TurnFinished]:
    """Turns of ``m``, so many that there is one under way from before the load begins until after it has ended."""
    loading = threading.Thread(target=engine.load, args=(spec,))
    turns, ended = 2, 0
    for turn in (1, 2):
        engine.submit(_turn(turn))
    while ended < turns:
        for event in events(engine):
            if isinstance(event, TurnStarted) and not loading.ident:
                loading.start()
            if isinstance(event, TurnFinished):
                ended += 1
                yield event
                if loading.is_alive():
                    turns += 1
                    engine.submit(_turn(turns))
    loading.join()


@pytest.mark.parametrize("room", ["where it lies", "for both", "for one", "for as little as can be"])
@pytest.mark.parametrize("name", ["llama", "qwen3moe", "falcon-h1", "gemma3"])
def test_turns_go_on_to_the_bit(name: str, room: str, model_folder: Path, make_engine: MakeEngine) -> None:
    path, other = random_models.write(name, model_folder), random_models.write("qwen3", model_folder)
    alone = make_engine(None, threads=1)
    sizes = alone.load(_spec(path, "m")), alone.load(_spec(other, "other"))
    (expected,), (expected_other,) = run(alone, _turn(1)), run(alone, _turn(2, "other"))
    arena_bytes = {
        "where it lies": None,
        "for both": sum(size.weight_bytes for size in sizes),
        "for one": max(size.weight_bytes for size in sizes),
        "for as little as can be": max(size.min_arena_bytes for size in sizes),
    }[room]
    engine = make_engine(arena_bytes, threads=1)
    engine.load(_spec(path, "m"))
    ends = list(_beside(engine, _spec(other, "other")))
    assert len(ends) >= 2
    for end in ends:
        assert (end.tokens, end.stats.logits_crc32) == (expected.tokens, expected.stats.logits_crc32)
    (end,) = run(engine, _turn(1000, "other"))
    assert (end.tokens, end.stats.logits_crc32) == (expected_other.tokens, expected_other.stats.logits_crc32)


def test_a_conversation_is_found_again_after_a_load(model_folder: Path, make_engine: MakeEngine) -> None:
    path, other = random_models.write("llama", model_folder), random_models.write("qwen3", model_folder)
    ends = []
    for loads in (False, True):
        engine = make_engine(10**8, threads=1)
        engine.load(_spec(path, "m"))
        (first,) = run(engine, _turn(1, session="s"))
        if loads:
            engine.load(_spec(other, "other"))
        prompt = (*random_models.prompt(40), *first.tokens, 3)
        (second,) = run(engine, TurnRequest(2, "m", prompt, max_tokens=20, ignore_eos=True, session="s"))
        assert second.stats.reused_tokens >= 40 + ANSWER_TOKENS - 1
        ends.append((second.tokens, second.stats.logits_crc32))
    assert ends[0] == ends[1]


class Held(NativeEngine):
    """Loads each model but the first when it is let."""

    def __init__(self, vram: int) -> None:
        super().__init__(EngineConfig(device="cpu", device_bytes=vram, threads=1))
        self.may = {name: threading.Event() for name in ("coder", "critic")}
        self.loaded = list[str]()

    def load(self, spec: LoadSpec) -> Footprint:
        """See ``NativeEngine.load``."""
        if spec.model in self.may:
            assert self.may[spec.model].wait(60)
        footprint = super().load(spec)
        self.loaded.append(spec.model)
        return footprint


async def test_each_agent_answers_before_the_next_ones_model_is_there_and_the_program_is_the_same() -> None:
    task, programs = builtin_tasks()[0], []
    vram = int(0.4 * sum(os.stat(spec.path).st_size for spec in bundled_models().values()))
    seen: list[tuple[str, tuple[str, ...]]] = []
    for early in (False, True):
        engine = Held(vram)
        if not early:
            for may in engine.may.values():
                may.set()

        def see(event: Event, engine: Held = engine) -> None:
            if isinstance(event, TurnCompleted):
                seen.append((event.model, tuple(engine.loaded)))
                engine.may["coder" if event.model == "planner" else "critic"].set()

        wait = "first" if early else "all"
        async with Runtime(bundled_models(), engine=engine, wait_for_models=wait, observers=[see]) as mux:
            result = await mux.run(solve, task.description, task.examples, 3)
        assert isinstance(result.output, Solution)
        programs.append(result.output.code)
        if early:
            assert seen[0] == ("planner", ("planner",))
            assert seen[1] == ("coder", ("planner", "coder"))
        else:
            assert seen[0] == ("planner", ("planner", "coder", "critic"))
        seen.clear()
    assert programs[0] == programs[1]
