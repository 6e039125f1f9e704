"""Traces that are read again, parts of them, and the picture of one: the one in README is such a picture."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux import ConfigError
from agentmux.cli.main import run
from agentmux.tracing import TraceFile, excerpt, picture, read, window
from agentmux.tracing.records import COMPUTE, DEVICE, UPLOADS, WAITS, begun, counted, ended, head, instant, track, whole
from tests.tracing.reading import Records, drawn, samples

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TRACE = DOCS / "demo-trace.json"
SVG = "{http://www.w3.org/2000/svg}"
OTHER = track(2, 1)


def written(path: Path, records: Records) -> Path:
    with TraceFile(path) as file:
        for record in records:
            file.write(record)
    return path


def shapes(svg: str, kind: str) -> list[ElementTree.Element]:
    """The picture's shapes of a kind, in order."""
    found = ElementTree.fromstring(svg).iter()
    return [one for one in found if one.get("class") == kind and one.tag in (f"{SVG}rect", f"{SVG}path")]


def said(svg: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_picture_in_readme_is_that_of_the_trace_in_the_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = re.findall(r"^agentmux (trace demo-trace\.json .*)$", (DOCS / "telemetry.md").read_text(), re.MULTILINE)
    command, file, *rest = shlex.split(line)
    assert run([command, str(DOCS / file), *rest, "--output", str(tmp_path / "a.svg")]) == 0
    assert (tmp_path / "a.svg").read_text() == (DOCS / "demo-trace.svg").read_text()
    readme = (ROOT / "README.md").read_text()
    assert 'src="docs/demo-trace.svg"' in readme
    (waited,) = [one for one in said((DOCS / "demo-trace.svg").read_text()) if " ms of " in one]
    assert waited in readme


def test_what_readme_says_of_the_picture() -> None:
    slices = drawn(read(TRACE))
    assert [one.name for one in slices if one.track == "compute"][:3] == ["planner", "coder", "critic"]
    (coder, *_) = [one for one in slices if one.track == "compute" and one.name == "coder"]
    uploads = [(one.from_us, one.to_us) for one in slices if one.track == "uploads"]
    overlap = sum(max(0, min(coder.to_us, to) - max(coder.from_us, begin)) for begin, to in uploads)
    assert overlap > (coder.to_us - coder.from_us) / 2
    waits = sum(one.to_us - one.from_us for one in slices if one.track == "waits for uploads")
    assert waits < 0.02 * sum(one.to_us - one.from_us for one in slices if one.track == "compute")
    begin_us, end_us = window(read(TRACE))
    assert end_us - begin_us < 2_000_000
    sizes = {
        name: (ROOT / "agents" / "models" / f"{name}.gguf").stat().st_size for name in ("planner", "coder", "critic")
    }
    together, budget = sum(sizes.values()), 0.4 * sum(sizes.values())
    title = ElementTree.parse(DOCS / "demo-trace.svg").findtext(f"{SVG}title") or ""
    assert f"{together / 2**20:.1f} MiB together, in a budget of {budget / 2**20:.1f} MiB" in title
    assert sizes["coder"] > budget


def test_lanes_are_where_their_times_are() -> None:
    records = [
        *head("now"),
        whole(COMPUTE, "coder", 0, 600, {}),
        whole(COMPUTE, "critic", 600, 1000, {}),
        whole(UPLOADS, "uploads", 500, 700, {"bytes": 2**20}),
        whole(WAITS, "waits for uploads", 690, 700, {}),
        counted("upload (GB/s)", 500, {"GB/s": 5.0}),
        counted("upload (GB/s)", 700, {"GB/s": 0.0}),
        counted("resident weights (bytes)", 0, {"coder": 2048, "critic": 0}),
        counted("resident weights (bytes)", 700, {"coder": 1024, "critic": 1024}),
        counted("turns", 0, {"waiting": 1, "in the engine": 2}),
    ]
    svg = picture(records, "A <title> & more")
    (coder,), (critic,) = shapes(svg, "m0")[:1], shapes(svg, "m1")[:1]
    (upload,), (wait,) = shapes(svg, "upload"), shapes(svg, "wait")
    at = {one: (float(one.get("x", "")), float(one.get("width", ""))) for one in (coder, critic, upload, wait)}
    scale = at[coder][1] / 600
    zero = at[coder][0]
    for one, from_us, to_us in ((critic, 600, 1000), (upload, 500, 700), (wait, 690, 700)):
        assert at[one] == pytest.approx((zero + from_us * scale, (to_us - from_us) * scale), abs=0.11)
    assert {"A <title> & more", "computing", "coder", "critic", "976.6 KiB", "0 ms of 1 ms", "at most 2.0 KiB"} <= set(
        said(svg)
    )
    assert len(shapes(svg, "m0")) == 2
    assert len(shapes(svg, "m1")) == 2
    assert len(shapes(svg, "engine")) == len(shapes(svg, "queue")) == 1


def test_a_long_trace_has_a_picture_no_larger_than_its_columns() -> None:
    records = list[dict[str, Any]](head("now"))
    for i in range(50_000):
        records.append(whole(COMPUTE, ("coder", "critic")[i % 2], 10 * i, 10 * i + 10, {}))
        records.append(counted("turns", 10 * i, {"waiting": i % 7, "in the engine": 1}))
    assert len(picture(records)) < 400_000
    assert len(shapes(picture(records), "m0")) > 100


def test_names_that_xml_cannot_have() -> None:
    svg = picture([*head("now"), whole(COMPUTE, "\x00\ud800<b>", 0, 10, {})])
    assert "\ufffd\ufffd<b>" in said(svg)


def test_without_the_device_there_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "t.json", [*head("now", (2,)), whole(OTHER, "x", 0, 10, {})])
    assert run(["trace", str(path)]) == 1
    assert "nothing of the device" in capsys.readouterr().err
    assert run(["trace", str(path), "--output", str(tmp_path / "part.html")]) == 0
    for records in (read(path), []):
        assert not shapes(picture(records), "ground")
    assert ElementTree.fromstring(picture([whole(OTHER, "x", 0, 10, {})])).tag == f"{SVG}svg"
    assert ElementTree.fromstring(picture([])).tag == f"{SVG}svg"


@pytest.mark.parametrize("name", ["t.json", "t.html"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    records = [*head("now"), begun(OTHER, "</script>", 1, {"a": "\n"}), ended(OTHER, 3, {}), instant(OTHER, "i", 4, {})]
    path = written(tmp_path / name, records)
    assert read(path) == records
    text = path.read_text()
    path.write_text(text[: text.rindex('"ph":"i"')])
    assert read(path) == records[:-1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begin"),
        ("{}", "begin"),
        ("[\n7,\n8\n]", "line 2"),
        ('[\n{"ph":"Z","pid":1,"tid":1,"ts":1},\n{}\n]', "line 2"),
        ('[\n{"ph":"X","pid":1,"tid":1,"ts":1,"name":"x","dur":-1},\n{}\n]', "line 2"),
        ('[\n{"ph":"E","pid":1,"tid":1,"ts":0.5},\n{}\n]', "line 2"),
        ('[\n{"ph":"C","pid":1,"tid":1,"ts":1,"name":"x","args":{"a":"b"}},\n{}\n]', "line 2"),
        ("[\n" + "[" * 100_000 + ",\n{}\n]", "line 2"),
    ],
)
def test_what_is_no_trace_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read(tmp_path / "t.json")


MOMENTS = st.integers(0, 100)


@st.composite
def nested(draw: st.DrawFn) -> Records:
    """Slices within slices on one track, not all of which have ended, and a counter."""
    records, at_us, depth = list[dict[str, Any]](head("now")), 0, 0
    for step in draw(st.lists(st.sampled_from("BEC"), max_size=20)):
        at_us += draw(st.integers(0, 20))
        if step == "C":
            records.append(counted("turns", at_us, {"waiting": at_us}))
        elif step == "B":
            records.append(begun(COMPUTE, "x", at_us, {}))
            depth += 1
        elif depth:
            records.append(ended(COMPUTE, at_us, {}))
            depth -= 1
    return records


@given(nested(), MOMENTS, MOMENTS)
@settings(max_examples=200, deadline=None)
def test_a_part_has_what_is_in_it(records: Records, one_us: int, other_us: int) -> None:
    from_us, to_us = sorted((one_us, other_us))
    whole_trace, part = excerpt(records, *window(records)), excerpt(records, from_us, to_us)
    assert [one["ts"] for one in part if one["ph"] != "M"] == sorted(one["ts"] for one in part if one["ph"] != "M")
    slices = drawn(part)
    assert all(from_us <= one.from_us <= one.to_us <= to_us for one in slices)
    assert excerpt(part, from_us, to_us) == part
    if from_us < to_us:
        begins = [max(one.from_us, from_us) for one in drawn(whole_trace)]
        ends = [min(one.to_us, to_us) for one in drawn(whole_trace)]
        covered = sum(max(0, end - begin) for begin, end in zip(begins, ends, strict=True))
        assert sum(one.to_us - one.from_us for one in slices) == covered
    before = [value for at_us, value in samples(records, "turns") if at_us <= from_us]
    inside = [value for at_us, value in samples(records, "turns") if from_us < at_us <= to_us]
    assert [value for _, value in samples(part, "turns")] == before[-1:] + inside


def test_the_command_takes_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "part.json"
    assert run(["trace", str(TRACE), "--from", "0.5", "--to", "0.75", "--output", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert window(json.loads(target.read_text())) == (500_000, 750_000)
    assert {one["pid"] for one in read(target)} >= {DEVICE}
    assert run(["trace", str(target)]) == 0
    assert ElementTree.parse(tmp_path / "part.svg").getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["--from", "99"], 1, "it lasts from"),
        (["--from", "x"], 2, "seconds since it began"),
        (["--from", "nan"], 2, "seconds since it began"),
        (["--from", "2", "--to", "1"], 2, "--from must be before --to"),
        (["--output", "picture.png"], 2, "a picture ends in .svg"),
        (["--output", "part.json", "--title", "x"], 2, "--title is for a picture"),
        (["--output", "{file}"], 1, "is the trace itself"),
        (["--output", "/dev/null/x.svg"], 1, "cannot write"),
    ],
)
def test_what_the_command_complains_of(
    arguments: list[str], status: int, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "t.json", [*head("now"), whole(COMPUTE, "x", 0, 10, {})])
    assert run(["trace", str(file), *(one.replace("{file}", str(file)) for one in arguments)]) == status
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["t.json"]
