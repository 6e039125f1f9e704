"""Whatever happens in whatever order: slices nest, end, and have times in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux.engine.base import EngineStats, ModelStats
from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Event,
    OutputRetried,
    PrefillProgressed,
    RunErrored,
    RunFinished,
    RunResult,
    RunStarted,
    TextStreamed,
    ToolCall,
    ToolCalled,
    ToolErrored,
    ToolReturned,
    TurnAdmitted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnNumbers,
    TurnQueued,
    Usage,
)
from agentmux.tracing.recorder import Recorder
from agentmux.tracing.records import head
from agentmux.tracing.sampler import Sampler
from tests.tracing.reading import Drawn, drawn, samples

CALLS = tuple(ToolCall(f"call{number}", "look", "{}") for number in range(2))
RUN_IDS = st.sampled_from(["r1", "r2"])
AGENT_NAMES = st.sampled_from(["planner", "coder"])
SPANS = st.integers(1, 3)
TURNS = st.integers(1, 4)
MODELS = st.sampled_from(["a", "b"])
SECONDS = st.floats(0, 5)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event, whether or not it makes sense at its place."""
    run, agent, span, turn, model = draw(RUN_IDS), draw(AGENT_NAMES), draw(SPANS), draw(TURNS), draw(MODELS)
    call = draw(st.sampled_from(CALLS))
    numbers = TurnNumbers(
        turn,
        agent,
        model,
        engine_wait_s=draw(SECONDS),
        prefill_s=draw(SECONDS),
        decode_s=draw(SECONDS),
        time_to_first_token_s=draw(SECONDS),
        replayed=draw(st.booleans()),
    )
    result: RunResult[None] = RunResult(run, None, Usage(), (), ())
    return draw(
        st.sampled_from(
            [
                RunStarted(run, agent, 0),
                RunFinished(run, agent, 0, result),
                RunErrored(run, agent, 0, "no", result),
                AgentStarted(run, agent, span, 0),
                AgentFinished(run, agent, span, None),
                AgentErrored(run, agent, span, "no"),
                OutputRetried(run, agent, span, 1, "no"),
                ToolCalled(run, agent, span, call),
                ToolReturned(run, agent, span, call, "x", 0.1),
                ToolErrored(run, agent, span, call, "no", 0.1),
                TurnQueued(run, agent, span, turn, model, 1, "busy"),
                TurnAdmitted(run, agent, span, turn, model, 0.1, "busy"),
                PrefillProgressed(run, agent, span, turn, 1, 2),
                TextStreamed(run, agent, span, turn, "x"),
                TurnCompleted(run, agent, span, turn, model, "x", numbers),
                TurnCancelled(run, agent, span, turn, model),
                TurnErrored(run, agent, span, turn, model, "no"),
            ]
        )
    )


@dataclass
class Bench:
    """A recorder, its time and its records."""

    now_us: int = 0
    records: list[dict[str, Any]] = field(default_factory=lambda: head("now"))
    busy: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.records.append, lambda: self.now_us, self.busy.append)

    def tell(self, event: Event, after_us: int = 1000) -> None:
        self.now_us += after_us
        self.recorder.observe(event)

    def slices(self) -> list[Drawn]:
        self.recorder.close()
        return drawn(self.records)


@given(st.lists(st.tuples(events(), st.integers(0, 3_000_000)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_events_make_a_trace_that_can_be_read(steps: list[tuple[Event, int]]) -> None:
    bench = Bench()
    for event, after_us in steps:
        bench.tell(event, after_us)
    slices = bench.slices()
    assert sum(one.name.startswith("turn ") for one in slices) == sum(
        one["ph"] == "B" and one["name"].startswith("turn ") for one in bench.records
    )
    assert all(one.to_us <= bench.now_us for one in slices)
    assert bench.busy == [number % 2 == 0 for number in range(len(bench.busy))]
    samples(bench.records, "turns")


def turn(bench: Bench, number: int, model: str, run: str = "r", span: int = 1, agent: str = "coder") -> None:
    bench.tell(TurnQueued(run, agent, span, number, model, 1, "busy"))
    bench.tell(TurnAdmitted(run, agent, span, number, model, 0.001, "busy"))


def test_a_turns_parts_are_where_the_engine_says() -> None:
    bench = Bench()
    bench.tell(RunStarted("r", "coder", 0))
    bench.tell(AgentStarted("r", "coder", 1, 0))
    turn(bench, 7, "a")
    numbers = TurnNumbers(7, "coder", "a", engine_wait_s=0.1, prefill_s=0.2, decode_s=0.5, time_to_first_token_s=0.4)
    bench.tell(TurnCompleted("r", "coder", 1, 7, "a", "x", numbers), 1_000_000)
    bench.tell(AgentFinished("r", "coder", 1, None))
    slices = {one.name: (one.from_us, one.to_us) for one in bench.slices() if one.track == "coder"}
    assert slices == {
        "coder": (2000, 1_005_000),
        "turn a": (3000, 1_004_000),
        "waits in queue": (3000, 4000),
        "waits in engine": (4000, 104_000),
        "prefill": (104_000, 404_000),
        "decode": (404_000, 1_004_000),
    }


def test_parts_that_take_longer_than_we_saw_end_with_the_turn() -> None:
    bench = Bench()
    turn(bench, 7, "a")
    numbers = TurnNumbers(7, "coder", "a", engine_wait_s=0.1, prefill_s=0.2, decode_s=0.5, time_to_first_token_s=0.4)
    bench.tell(TurnCompleted("r", "coder", 1, 7, "a", "x", numbers), 600_000)
    slices = {one.name: (one.from_us, one.to_us) for one in bench.slices() if one.name in ("prefill", "decode")}
    assert slices == {"prefill": (2000, 102_000), "decode": (102_000, 602_000)}


def test_what_runs_at_the_same_time_is_on_tracks_of_its_own() -> None:
    bench = Bench()
    bench.tell(RunStarted("r", "coder", 0))
    bench.tell(AgentStarted("r", "coder", 1, 0))
    turn(bench, 1, "a")
    turn(bench, 2, "a")
    bench.tell(TurnCancelled("r", "coder", 1, 1, "a"))
    bench.tell(TurnErrored("r", "coder", 1, 2, "a", "lost"))
    turns = [one for one in bench.slices() if one.name == "turn a"]
    assert {one.track for one in turns} == {"coder", "coder (2)"}
    assert [one.said["ended"] for one in sorted(turns, key=lambda one: one.from_us)] == ["cancelled", "failed"]


def test_models_compute_one_after_the_other() -> None:
    bench = Bench()
    turn(bench, 1, "a")
    turn(bench, 2, "b", agent="planner")
    for number in (1, 2, 2, 1):
        bench.tell(TextStreamed("r", "x", 1, number, "x"))
    found = [(one.name, one.from_us, one.to_us) for one in bench.slices() if one.track == "compute"]
    assert found == [("a", 2000, 5000), ("b", 5000, 7000), ("a", 7000, 8000)]


def test_no_text_of_prompts_answers_and_arguments() -> None:
    bench = Bench()
    call = ToolCall("call-1", "look", '{"x": "secret"}')
    bench.tell(RunStarted("r", "coder", 0))
    bench.tell(AgentStarted("r", "coder", 1, 0))
    bench.tell(TurnQueued("r", "coder", 1, 1, "a", 1, "", prompt="secret"))
    bench.tell(TextStreamed("r", "coder", 1, 1, "secret"))
    bench.tell(TurnCompleted("r", "coder", 1, 1, "a", "secret", TurnNumbers(1, "coder", "a")))
    bench.tell(ToolCalled("r", "coder", 1, call))
    bench.tell(ToolReturned("r", "coder", 1, call, "secret", 0.1))
    bench.tell(AgentFinished("r", "coder", 1, "secret"))
    assert bench.slices()
    assert "secret" not in str(bench.records)


def stats(uploaded_bytes: int, waited_s: float, switches: int) -> EngineStats:
    return EngineStats(
        device="cpu",
        device_budget_bytes=0,
        arena_bytes=100,
        arena_used_bytes=0,
        device_used_bytes=0,
        uploaded_bytes=uploaded_bytes,
        evicted_units=0,
        switches=switches,
        steps=0,
        upload_wait_s=waited_s,
        upload_bytes_per_s=0.0,
        prefetched_bytes=0,
        repeated_passes=0,
        models=(ModelStats("a", "r", uploaded_bytes % 7, 0, 0),),
    )


def test_a_wait_that_was_long_is_drawn_as_long_as_it_was() -> None:
    records: list[dict[str, Any]] = []
    sampler = Sampler(records.append)
    for at_us, waited_s in ((0, 0.0), (5_000, 0.001), (10_000, 0.001), (60_000, 0.041), (65_000, 0.061)):
        sampler.sample(stats(0, waited_s, 0), at_us)
    waits = [(one.from_us, one.to_us) for one in drawn(head("now") + records) if one.track == "waits for uploads"]
    assert waits == [(4_000, 5_000), (20_000, 60_000), (60_000, 65_000)]


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.floats(0, 0.1), st.integers(0, 2), st.integers(0, 50_000), st.booleans()),
        max_size=30,
    )
)
@settings(max_examples=200, deadline=None)
def test_samples_add_up_whatever_they_are(steps: list[tuple[int, float, int, int, bool]]) -> None:
    records: list[dict[str, Any]] = []
    sampler, at_us, uploaded, waited, switches = Sampler(records.append), 0, 0, 0.0, 0
    sampler.sample(stats(0, 0.0, 0), 0)
    for more_bytes, more_s, more_switches, after_us, pauses in steps:
        at_us += after_us + 1
        uploaded, waited, switches = uploaded + more_bytes, waited + more_s, switches + more_switches
        sampler.sample(stats(uploaded, waited, switches), at_us)
        if pauses:
            sampler.pause(at_us)
            sampler.sample(stats(uploaded, waited, switches), at_us)
    sampler.pause(at_us)
    slices = drawn(head("now") + records)
    assert sum(one.said["bytes"] for one in slices if one.name == "uploads") == uploaded
    assert sum(one.to_us - one.from_us for one in slices if one.name.startswith("waits")) <= waited * 1e6 + len(steps)
    assert all(one.to_us <= at_us for one in slices)
    for counter in ("upload (GB/s)", "resident weights (bytes)"):
        samples(records, counter)
