"""What any engine must do, as checks that take a way to make one.

::

    @pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
    def test_engine(check):
        check(make_engine, LoadSpec("tiny", "tiny.gguf", context_tokens=256))

``make_engine`` gives a new engine each time. The model must have a vocabulary, room for 64 tokens of context at least,
and a turn with ``ignore_eos`` must go on until ``max_tokens`` or its context is reached. Checks fail by AssertionError.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from agentmux.engine.base import (
    Engine,
    EngineEvent,
    LoadProgress,
    LoadSpec,
    PrefillProgress,
    TextDelta,
    TurnEvent,
    TurnFailed,
    TurnFinished,
    TurnParked,
    TurnRequest,
    TurnResumed,
    TurnStarted,
)
from agentmux.errors import AgentmuxError, ConfigError, EngineError, ModelNotFound, RequestInvalid
from agentmux.sampling import SamplingParams

MakeEngine = Callable[[], Engine]
PATIENCE_S = 120.0
"""Seconds without any event after which a check gives up."""


def check_a_turn_finishes(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """One turn: its events in order, one end, and numbers that agree with the events."""
    with _loaded(make_engine, spec) as engine:
        engine.submit(TurnRequest(1, spec.model, "Hello", max_tokens=8))
        events = _until_ended(engine, {1})
        _check_order(events, 1)
        end = events[-1]
        assert isinstance(end, TurnFinished), end
        assert end.reason in ("stop", "length"), end
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == end.text
        assert len(end.tokens) <= 8
        assert end.stats.prompt_tokens > 0


def check_many_turns_end_once_each(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """More turns than slots: all end, each once, each with its events in order."""
    with _loaded(make_engine, replace(spec, slots=2)) as engine:
        for turn in range(1, 8):
            engine.submit(TurnRequest(turn, spec.model, f"Number {turn}", max_tokens=4))
        events = _until_ended(engine, set(range(1, 8)))
        for turn in range(1, 8):
            _check_order([event for event in events if event.turn == turn], turn)


def check_greedy_turns_repeat(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """The same greedy turn twice, one after the other, gives the same tokens."""
    with _loaded(make_engine, spec) as engine:
        ends = []
        for turn in (1, 2):
            engine.submit(TurnRequest(turn, spec.model, "Hello", max_tokens=8))
            ends.append(_until_ended(engine, {turn})[-1])
        first, second = ends
        assert isinstance(first, TurnFinished)
        assert isinstance(second, TurnFinished)
        assert (first.text, first.tokens) == (second.text, second.tokens)


def check_logprobs(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """Asked for, they stand beside each token, at the end and with each delta; else there are none."""
    with _loaded(make_engine, spec) as engine:
        for turn, wanted in ((1, None), (2, 0), (3, 3)):
            engine.submit(TurnRequest(turn, spec.model, "Hello", max_tokens=8, logprobs=wanted))
            events = _until_ended(engine, {turn})
            end = events[-1]
            assert isinstance(end, TurnFinished), end
            _check_logprobs(end, wanted)
            for event in events:
                if isinstance(event, TextDelta):
                    _check_logprobs(event, wanted)


def check_bias_outside_the_vocabulary(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """A token id that the model lacks is RequestInvalid, says which, and no turn begins."""
    with _loaded(make_engine, spec) as engine:
        sampling = SamplingParams(logit_bias={2**31 - 1: 1.0})
        _must_raise(RequestInvalid, lambda: engine.submit(TurnRequest(1, spec.model, "Hello", sampling=sampling)))
        assert engine.poll() == []
        _check_still_works(engine, spec)


def check_cancel_while_running(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """A long turn, cancelled after its first event, ends as cancelled; cancelling again has no effect."""
    with _loaded(make_engine, spec) as engine:
        engine.submit(_long_turn(1, spec))
        first = _next_events(engine)
        assert not any(isinstance(event, TurnFinished | TurnFailed) for event in first), "the long turn was too short"
        engine.cancel(1)
        events = [*first, *_until_ended(engine, {1})]
        _check_order(events, 1)
        end = events[-1]
        assert isinstance(end, TurnFinished)
        assert end.reason == "cancelled", end
        engine.cancel(1)
        _check_still_works(engine, spec)


def check_cancel_while_waiting(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """A turn without a slot, cancelled, ends as cancelled, and the one that has the slot goes on."""
    with _loaded(make_engine, replace(spec, slots=1)) as engine:
        engine.submit(_long_turn(1, spec))
        _next_events(engine)
        engine.submit(_long_turn(2, spec))
        engine.cancel(2)
        (end,) = [event for event in _until_ended(engine, {2}) if event.turn == 2 and isinstance(event, TurnFinished)]
        assert end.reason == "cancelled"
        engine.cancel(1)
        _until_ended(engine, {1})


def check_park_and_resume(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """A parked turn gives up its slot to another, which can end before it; resumed, it goes on. Parking and resuming
    what is not there, or is parked already, has no effect; a parked turn can be cancelled."""
    with _loaded(make_engine, replace(spec, slots=1)) as engine:
        engine.park(4711)
        engine.resume(4711)
        engine.submit(_long_turn(1, spec))
        events = _next_events(engine)
        engine.park(1)
        engine.park(1)
        while not any(isinstance(event, TurnParked) for event in events):
            events += _next_events(engine)
        assert not any(isinstance(event, TurnFinished | TurnFailed) for event in events), "the long turn was too short"
        _check_still_works(engine, spec)
        engine.resume(1)
        engine.resume(1)
        events = []
        while not any(isinstance(event, TurnResumed) for event in events):
            events += _next_events(engine)
        engine.park(1)
        engine.cancel(1)
        if not any(isinstance(event, TurnFinished) for event in events):
            events += _until_ended(engine, {1})
        assert sum(isinstance(event, TurnResumed) for event in events) == 1, "a resumed turn was resumed again"
        _check_cancelled(events, 1)


def check_cancel_of_unknown_turn(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """Cancelling what does not exist has no effect."""
    with _loaded(make_engine, spec) as engine:
        engine.cancel(12345)
        _check_still_works(engine, spec)


def check_unknown_model(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """Whatever names a model that is not loaded raises ModelNotFound, and no turn begins."""
    with _loaded(make_engine, spec) as engine:
        _must_raise(ModelNotFound, lambda: engine.submit(TurnRequest(1, "no such model", "Hello")))
        _must_raise(ModelNotFound, lambda: engine.prefetch("no such model"))
        _must_raise(ModelNotFound, lambda: engine.unload("no such model"))
        _must_raise(ModelNotFound, lambda: engine.forget("no such model", "session"))
        assert engine.poll() == []


def check_loading_twice(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """A second model of the same name is ConfigError, and the first one still works."""
    with _loaded(make_engine, spec) as engine:
        _must_raise(ConfigError, lambda: engine.load(spec))
        _check_still_works(engine, spec)


def check_footprint_and_stats(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """Sizes are there, agree with what was asked, and the counters move."""
    engine = make_engine()
    try:
        footprint = engine.load(spec)
        assert (footprint.model, footprint.slots) == (spec.model, spec.slots)
        assert footprint.context_tokens >= (spec.context_tokens or 1)
        assert footprint.weight_bytes >= max(footprint.unit_bytes) > 0
        assert 0 < footprint.min_arena_bytes <= engine.stats().arena_bytes
        engine.prefetch(spec.model)
        _check_still_works(engine, spec)
        stats = engine.stats()
        assert stats.steps > 0
        assert [model.model for model in stats.models] == [spec.model]
        assert stats.models[0].slots_active == stats.models[0].slots_waiting == 0
        assert len(stats.models[0].unit_states) == len(footprint.unit_bytes)
    finally:
        engine.close()


def check_unload_ends_turns(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """Unloading a model ends its turns as cancelled and makes its name unknown."""
    with _loaded(make_engine, spec) as engine:
        engine.submit(_long_turn(1, spec))
        engine.unload(spec.model)
        _check_cancelled(_until_ended(engine, {1}), 1)
        _must_raise(ModelNotFound, lambda: engine.submit(TurnRequest(2, spec.model, "Hello")))


def check_close_ends_turns(make_engine: MakeEngine, spec: LoadSpec) -> None:
    """Closing ends turns as cancelled, with events that can still be polled; twice is fine, and nothing works after."""
    engine = make_engine()
    engine.load(replace(spec, slots=1))
    for turn in (1, 2):
        engine.submit(_long_turn(turn, spec))
    engine.close()
    events = [event for event in engine.poll() if not isinstance(event, LoadProgress)]
    for turn in (1, 2):
        _check_cancelled(events, turn)
    engine.close()
    _must_raise(EngineError, lambda: engine.submit(TurnRequest(3, spec.model, "Hello")))


CHECKS = (
    check_a_turn_finishes,
    check_many_turns_end_once_each,
    check_greedy_turns_repeat,
    check_logprobs,
    check_bias_outside_the_vocabulary,
    check_cancel_while_running,
    check_cancel_while_waiting,
    check_park_and_resume,
    check_cancel_of_unknown_turn,
    check_unknown_model,
    check_loading_twice,
    check_footprint_and_stats,
    check_unload_ends_turns,
    check_close_ends_turns,
)


@contextmanager
def _loaded(make_engine: MakeEngine, spec: LoadSpec) -> Iterator[Engine]:
    engine = make_engine()
    try:
        engine.load(spec)
        _check_loaded(engine.poll(), spec.model)
        yield engine
    finally:
        engine.close()


def _long_turn(turn: int, spec: LoadSpec) -> TurnRequest:
    return TurnRequest(turn, spec.model, "Hello", max_tokens=(spec.context_tokens or 64) // 2, ignore_eos=True)


def _check_loaded(events: list[EngineEvent], model: str) -> None:
    """Loading may report its progress, and nothing else."""
    for event in events:
        assert isinstance(event, LoadProgress), event
        assert event.model == model
        assert 0 <= event.done_bytes <= event.total_bytes


def _next_events(engine: Engine) -> list[TurnEvent]:
    """What ``poll`` gives once ``fileno`` says that something waits."""
    readable, _, _ = select.select([engine.fileno()], [], [], PATIENCE_S)
    assert readable, f"no event within {PATIENCE_S} s"
    return [event for event in engine.poll() if not isinstance(event, LoadProgress)]


def _until_ended(engine: Engine, turns: set[int]) -> list[TurnEvent]:
    events: list[TurnEvent] = []
    while turns - {event.turn for event in events if isinstance(event, TurnFinished | TurnFailed)}:
        events += _next_events(engine)
    return events


def _check_order(events: list[TurnEvent], turn: int) -> None:
    assert all(event.turn == turn for event in events)
    order = (TurnStarted, PrefillProgress, TextDelta, TurnFinished | TurnFailed)
    moving = [event for event in events if not isinstance(event, TurnParked | TurnResumed)]
    stages = [next(i for i, kind in enumerate(order) if isinstance(event, kind)) for event in moving]
    assert stages == sorted(stages), f"events out of order: {events}"
    assert stages.count(0) <= 1, f"more than one start: {events}"
    assert stages.count(3) == 1, f"not exactly one end: {events}"


def _check_logprobs(event: TextDelta | TurnFinished, wanted: int | None) -> None:
    if wanted is None:
        assert event.logprobs == (), event
        return
    assert tuple(one.token for one in event.logprobs) == event.tokens, event
    for one in event.logprobs:
        assert one.logprob <= 0, one
        assert len(one.top) <= wanted, one
        assert list(one.top) == sorted(one.top, key=lambda entry: -entry[1]), one


def _check_cancelled(events: list[TurnEvent], turn: int) -> None:
    ends = [event for event in events if event.turn == turn and isinstance(event, TurnFinished | TurnFailed)]
    assert len(ends) == 1, ends
    assert isinstance(ends[0], TurnFinished), ends
    assert ends[0].reason == "cancelled", ends


def _check_still_works(engine: Engine, spec: LoadSpec) -> None:
    engine.submit(TurnRequest(999, spec.model, "Hello", max_tokens=2))
    assert isinstance(_until_ended(engine, {999})[-1], TurnFinished)


def _must_raise(kind: type[AgentmuxError], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
