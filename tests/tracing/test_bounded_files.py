"""A trace of which only the newest part is kept, in two files; each can be read by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux import AgentmuxError
from agentmux.tracing import TraceFile
from agentmux.tracing.files import before
from agentmux.tracing.records import Record, Track, begun, counted, ended, named, whole
from agentmux.tracing.under_way import UnderWay

MOST_BYTES = 20_000
TURN, LONG = Track(2, 200_001), Track(4, 400_001)


def records(count: int) -> list[Record]:
    """Names, one slice that never ends, a counter, and many short slices."""
    made = [*named(TURN, "slot"), *named(LONG, "runs"), begun(LONG, "run", 0, {}), counted("bytes", 1, {"used": 7})]
    for number in range(count):
        at_us = 10 * number + 10
        made += [begun(TURN, f"turn {number}", at_us, {}), ended(TURN, at_us + 5, {})]
    return made


def write(path: Path, count: int) -> None:
    with TraceFile(path, most_bytes=MOST_BYTES) as file:
        for record in records(count):
            file.write(record)


def read(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text())
    assert isinstance(found, list)
    return found


def test_before_is_beside_it_and_of_the_same_kind() -> None:
    assert before(Path("a/serve.json")) == Path("a/serve.1.json")
    assert before(Path("serve.html")).suffix == ".html"


def test_a_short_trace_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "t.json", 3)
    assert read(tmp_path / "t.json") == records(3)
    assert not before(tmp_path / "t.json").exists()


def test_the_newest_is_kept_and_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write(path, 2000)
    sizes = [file.stat().st_size for file in (path, before(path))]
    assert sum(sizes) < 1.1 * MOST_BYTES
    assert before(path).stat().st_size > MOST_BYTES / 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t.1.json", "t.json"]
    turns = [
        one["name"] for file in (before(path), path) for one in read(file) if one.get("name", "").startswith("turn")
    ]
    kept = list(dict.fromkeys(turns))
    assert kept == [f"turn {number}" for number in range(2000 - len(kept), 2000)]


def test_what_goes_on_in_another_file_has_its_names_and_what_is_under_way(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write(path, 2000)
    for file in (path, before(path)):
        first = read(file)[:6]
        assert [one["args"]["name"] for one in first if one["name"] == "thread_name"] == ["slot", "runs"]
        assert begun(LONG, "run", 0, {}) in first
        assert counted("bytes", 1, {"used": 7}) in first


def test_pages_are_pages(tmp_path: Path) -> None:
    path = tmp_path / "t.html"
    with TraceFile(path, most_bytes=400_000) as file:
        for record in records(6000):
            file.write(record)
    for one in (path, before(path)):
        text = one.read_text()
        assert text.startswith("<!DOCTYPE html>")
        assert text.rstrip().endswith("</html>")


def test_a_file_that_cannot_go_on_is_told_of_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    before(path).mkdir()
    with pytest.raises(AgentmuxError, match="not complete"):
        write(path, 2000)
    assert read(path)[:2] == records(0)[:2], "what there was can be read"


_TRACKS = [Track(2, 200_000 + number) for number in (1, 2)]


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "whole", "name"]), st.sampled_from(_TRACKS))))
def test_under_way_is_what_has_not_ended(steps: list[tuple[str, Track]]) -> None:
    under_way = UnderWay()
    open_slices: dict[int, list[str]] = {track.thread: [] for track in _TRACKS}
    names: dict[int, str] = {}
    for at_us, (what, track) in enumerate(steps):
        said = f"{what} {at_us}"
        if what == "begin":
            under_way.note(begun(track, said, at_us, {}))
            open_slices[track.thread].append(said)
        elif what == "end" and open_slices[track.thread]:
            under_way.note(ended(track, at_us, {}))
            open_slices[track.thread].pop()
        elif what == "whole":
            under_way.note(whole(track, said, at_us, at_us + 1, {}))
        elif what == "name":
            names[track.thread] = said
            for record in named(track, said):
                under_way.note(record)
    found = list(under_way.records())
    slices = [one for one in found if one["ph"] == "B"]
    for track in _TRACKS:
        assert [one["name"] for one in slices if one["tid"] == track.thread] == open_slices[track.thread]
    assert [one["ts"] for one in slices] == sorted(one["ts"] for one in slices)
    assert {one["tid"]: one["args"]["name"] for one in found if one["name"] == "thread_name"} == names
