"""Files that can be read whole, cut anywhere, and when they could not be written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agentmux import AgentmuxError, ConfigError
from agentmux.tracing import TraceFile
from tests.tracing.reading import lenient

RECORDS = [
    {"ph": "B", "pid": 1, "tid": 2, "ts": 0, "name": "</script><b>", "args": {"text": "a\nb \ud800 \u2028 ü"}},
    {"ph": "E", "pid": 1, "tid": 2, "ts": 5, "args": {}},
    {"ph": "X", "pid": 1, "tid": 2, "ts": 7, "dur": 1, "name": "x", "args": {"n": 1.5}},
]


class Embedded(HTMLParser):
    """The records of a page, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.loads: list[str] = []
        self._is_in = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._is_in = given.get("id") == "trace"
        self.loads += [value for name, value in given.items() if name in ("src", "href") and value]

    def handle_endtag(self, tag: str) -> None:
        self._is_in = False

    def handle_data(self, data: str) -> None:
        if self._is_in:
            self.text += data


def written(path: Path, **how: bool) -> str:
    with TraceFile(path, **how) as file:
        for record in RECORDS:
            file.write(record)
    return path.read_text()


def test_json_is_one_array(tmp_path: Path) -> None:
    assert json.loads(written(tmp_path / "t.json")) == RECORDS


def test_an_empty_trace_is_one_too(tmp_path: Path) -> None:
    with TraceFile(tmp_path / "t.json"):
        pass
    assert json.loads((tmp_path / "t.json").read_text()) == []


def test_cut_anywhere_it_has_what_was_written_before(tmp_path: Path) -> None:
    text = written(tmp_path / "t.json")
    lines = text.split("\n")
    for end in range(len(text)):
        cut = text[:end]
        found = lenient(cut)
        assert found == RECORDS[: len(found)]
        assert len(found) >= min(len(RECORDS), cut.count("\n") - 1), lines


def test_what_is_written_is_in_the_file_at_once(tmp_path: Path) -> None:
    with TraceFile(tmp_path / "t.json") as file:
        for record in RECORDS:
            file.write(record)
        # Only the last line may still be on its way: it has no end yet.
        assert len(lenient((tmp_path / "t.json").read_text() + "\n")) >= len(RECORDS) - 1


def test_a_page_has_its_records_and_loads_nothing(tmp_path: Path) -> None:
    page = Embedded()
    page.feed(written(tmp_path / "t.HTML"))
    assert json.loads(page.text) == RECORDS
    assert page.loads == []
    assert "http" not in written(tmp_path / "t.html").replace("http-equiv", "")


def test_the_pages_program_reads_whole_and_cut_records(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    page = written(tmp_path / "t.html")
    program = page.partition("<script>")[2].partition("</script>")[0]
    records = page.partition('application/json">')[2].partition("</script>")[0]
    asked = f"""{program}
        const all = {json.dumps(records)};
        const traces = [all, all.slice(0, -8), all.slice(0, all.indexOf('"E"'))].map((text) => build(parse(text)));
        console.log(JSON.stringify(traces.map((trace) => trace.tracks.flatMap((t) => t.slices.map((s) => s[3])))));"""
    done = subprocess.run([node, "-"], input=asked, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["</script><b>", "x"], ["</script><b>"], ["</script><b>"]]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the trace"), TraceFile(tmp_path / "no" / "t.json"):
        pass


def test_a_full_disk_is_told_at_the_end() -> None:
    with pytest.raises(AgentmuxError, match="/dev/full is not complete: No space"):
        written(Path("/dev/full"))


def test_a_full_disk_does_not_hide_what_went_wrong_before() -> None:
    with pytest.raises(ValueError, match="before"), TraceFile(Path("/dev/full")):
        raise ValueError("before")


@pytest.mark.parametrize("cut", [0, 60], ids=["whole", "cut"])
def test_a_browser_shows_the_page(tmp_path: Path, cut: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    text = written(tmp_path / "t.html")
    (tmp_path / "t.html").write_text(text[: len(text) - cut])
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", profile, "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "t.html").as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    (shown,) = re.findall(r'<span id="facts">([^<]*)</span>', done.stdout)
    assert shown.endswith(" slices")
    assert (" 2 slices" in shown) == (cut == 0)
