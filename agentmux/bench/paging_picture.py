"""The paging bench as a picture: what device and link did over two rounds, and how fast each contender was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.sax.saxutils import escape

from agentmux.bench.paging_report import PagingReport, Sample

_WIDTH, _LEFT, _RIGHT = 760, 110, 30
_LANE, _BAR, _GAP = 26, 18, 8
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f; } .dim { fill: #57606a; font-size: 11px; }
  .prefill { fill: #0a7ea4; } .decode { fill: #1a7f37; } .upload { fill: #9a4fb5; } .wait { fill: #cf222e; }
  .bar { fill: #0a7ea4; } .base { fill: #8c959f; }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .dim { fill: #9da7b3; } }
"""


def picture(report: PagingReport) -> str:
    """An SVG document, readable on light and dark ground."""
    bars_at = 60 + 4 * _LANE + 40
    height = bars_at + 30 + len(report.summaries) * (_BAR + _GAP) + 10
    body = [*_timeline(report), *_bars(report, bars_at)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img"><title>Turns over {len(report.models)} models</title><style>{_STYLE}</style>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _timeline(report: PagingReport) -> Iterator[str]:
    turns = report.timeline_turns
    if not turns:
        return
    end_s = turns[-1].begin_s + turns[-1].whole_s
    scale = (_WIDTH - _LEFT - _RIGHT) / end_s
    yield _text(_LEFT, 20, f"The paged engine, {len(turns)} turns in {end_s:.2f} s")
    for lane, name in enumerate(("turn", "computing", "uploading", "waiting")):
        yield _text(0, 58 + lane * _LANE, name)
    for turn in turns:
        x = _LEFT + turn.begin_s * scale
        first, rest = turn.first_token_s * scale, (turn.whole_s - turn.first_token_s) * scale
        yield _text(x + 2, 58, turn.model, "dim")
        yield _box(x, 44 + _LANE, first, "prefill")
        yield _box(x + first, 44 + _LANE, rest, "decode")
    for begin_s, until_s in _spans(report.timeline, "uploaded_bytes"):
        yield _box(_LEFT + begin_s * scale, 44 + 2 * _LANE, (until_s - begin_s) * scale, "upload")
    for begin_s, until_s in _spans(report.timeline, "waited_s"):
        yield _box(_LEFT + begin_s * scale, 44 + 3 * _LANE, (until_s - begin_s) * scale, "wait")


def _spans(samples: tuple[Sample, ...], counter: str) -> Iterator[tuple[float, float]]:
    """Stretches of time in which a counter grew; looks that follow each other at once are one stretch."""
    begin_s: float | None = None
    for before, after in pairwise(samples):
        grew = getattr(after, counter) > getattr(before, counter)
        if grew and begin_s is None:
            begin_s = before.at_s
        elif not grew and begin_s is not None:
            yield begin_s, before.at_s
            begin_s = None
    if begin_s is not None:
        yield begin_s, samples[-1].at_s


def _bars(report: PagingReport, top: int) -> Iterator[str]:
    most = max((one.tokens_per_s for one in report.summaries), default=1.0)
    yield _text(_LEFT, top, "tokens per second, and the device memory at its peak")
    for i, one in enumerate(report.summaries):
        y = top + 12 + i * (_BAR + _GAP)
        width = one.tokens_per_s / most * (_WIDTH - _LEFT - _RIGHT - 170)
        peak = "" if one.peak_device_bytes is None else f", {one.peak_device_bytes / 2**30:.2f} GiB"
        yield _text(0, y + 13, one.contender)
        yield _box(_LEFT, y, width, "bar" if one.contender == "paged" else "base")
        yield _text(_LEFT + width + 6, y + 13, f"{one.tokens_per_s:.1f}{peak}")


def _box(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{max(width, 0.5):.1f}" height="{_BAR}"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}"{named}>{escape(text)}</text>'
