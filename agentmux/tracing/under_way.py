"""What a trace's records say of now: names, slices that have not ended, values of counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from agentmux.tracing.records import Record


class UnderWay:
    """Follows the records of a trace. It holds as much as goes on at the same time, whatever the trace's length."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int, int], Record] = {}
        self._counters: dict[str, Record] = {}
        self._begun: defaultdict[int, list[Record]] = defaultdict(list)

    def note(self, record: Record) -> None:
        """One more record of the trace."""
        phase = record["ph"]
        if phase == "M":
            self._names[record["name"], record["pid"], record["tid"]] = record
        elif phase == "C":
            self._counters[record["name"]] = record
        elif phase == "B":
            self._begun[record["tid"]].append(record)
        elif phase == "E" and (begun := self._begun[record["tid"]]):
            begun.pop()

    def records(self) -> Iterator[Record]:
        """What a file must begin with that goes on with this trace; slices and values in the order of their times."""
        yield from self._names.values()
        begun = [record for records in self._begun.values() for record in records]
        yield from sorted([*begun, *self._counters.values()], key=lambda record: record["ts"])
