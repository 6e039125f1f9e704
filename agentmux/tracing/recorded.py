"""A run of the journal as a trace: less than ``Trace`` sees, and it says what is missing.

The journal has the moment at which a turn was recorded, which is its end, and what each of its parts took. So a turn is
drawn as if its parts had followed each other without a pause before that moment. One that was parked meanwhile, or
whose record had to wait, began earlier than it is drawn. Uploads, agents and what was computing are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from agentmux.journal import RunDetails, ShownTool, ShownTurn
from agentmux.tracing.lanes import Lanes, Slice
from agentmux.tracing.numbers import said_of
from agentmux.tracing.records import AGENTS, RUNS, Record, head, micros

MISSING = "computing, uploads, agents' own times, turns that did not complete; turns' begins are derived"


@dataclass(frozen=True, slots=True)
class _Step:
    """A turn or a tool's call."""

    of: ShownTurn | ShownTool
    from_us: int
    to_us: int


def recorded(details: RunDetails) -> Iterator[Record]:
    """The records of a run's trace; its beginning is their zero."""
    records: list[Record] = []
    run, began_s = details.summary, details.summary.began_s
    known: list[ShownTurn | ShownTool] = [*details.turns, *details.tools]
    steps = [_step(one, began_s) for one in known]
    last_us = max([0, *(step.to_us for step in steps)])
    ended_us = last_us if run.ended_s is None else max(last_us, micros(run.ended_s - began_s))
    began = datetime.fromtimestamp(began_s, UTC).isoformat(timespec="milliseconds")
    yield from head(began, (AGENTS, RUNS))
    runs, agents = Lanes(RUNS, records.append), Lanes(AGENTS, records.append)
    said = {"run": run.id, "status": run.status, "attempts": run.attempts, "missing": MISSING}
    whole = runs.begin("runs", run.target, 0, said)
    _draw(agents, steps)
    runs.end(whole, ended_us, {} if run.ended_s is not None else {"cut": "no end was recorded"})
    yield from records


def _step(one: ShownTurn | ShownTool, began_s: float) -> _Step:
    if isinstance(one, ShownTool):
        # Clocks that were set back must not make it end before it began.
        from_us = max(0, micros(one.at_s - began_s))
        to_us = from_us if one.ended_s is None else max(from_us, micros(one.ended_s - began_s))
        return _Step(one, from_us, to_us)
    numbers = one.numbers
    took_s = numbers.queue_wait_s + numbers.engine_wait_s + numbers.prefill_s + numbers.decode_s
    to_us = max(0, micros(one.at_s - began_s))
    return _Step(one, max(0, to_us - micros(took_s)), to_us)


def _draw(lanes: Lanes, steps: list[_Step]) -> None:
    """Begins and ends in order of time. A step that takes no time is drawn at once: it ends where it begins."""
    opened: list[tuple[int, int, _Step, Slice]] = []
    for number, step in enumerate(sorted(steps, key=lambda step: (step.from_us, step.of.order))):
        opened = _end_those_until(lanes, opened, step.from_us)
        name = f"turn {step.of.numbers.model}" if isinstance(step.of, ShownTurn) else f"tool {step.of.name}"
        begun = lanes.begin(step.of.agent, name, step.from_us, {})
        opened.append((step.to_us, number, step, begun))
    _end_those_until(lanes, opened, None)


def _end_those_until(
    lanes: Lanes, opened: list[tuple[int, int, _Step, Slice]], until_us: int | None
) -> list[tuple[int, int, _Step, Slice]]:
    """Those that go on. All end if there is no bound."""
    left = []
    for entry in sorted(opened, key=lambda entry: entry[:2]):
        to_us, _, step, begun = entry
        if until_us is not None and to_us > until_us:
            left.append(entry)
            continue
        if isinstance(step.of, ShownTurn):
            _parts(lanes, begun, step, step.of)
        lanes.end(begun, to_us, _said(step.of))
    return left


def _parts(lanes: Lanes, begun: Slice, step: _Step, turn: ShownTurn) -> None:
    numbers, at_us = turn.numbers, step.from_us
    for name, seconds in (
        ("waits in queue", numbers.queue_wait_s),
        ("waits in engine", numbers.engine_wait_s),
        ("prefill", numbers.prefill_s),
        ("decode", numbers.decode_s),
    ):
        end_us = min(step.to_us, at_us + micros(seconds))
        if end_us > at_us:
            lanes.within(begun, name, at_us, end_us, {})
        at_us = end_us


def _said(of: ShownTurn | ShownTool) -> dict[str, object]:
    if isinstance(of, ShownTurn):
        return said_of(of.numbers)
    said: dict[str, object] = {"call": of.id, "state": of.state}
    return said if of.ended_s is not None else {**said, "cut": "no end was recorded"}
