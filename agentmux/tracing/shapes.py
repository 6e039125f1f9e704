"""What the picture of a trace is made of: text, bars, areas, and the style that they share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

STYLE = """
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; } .dim { font-size: 11px; fill: #57606a; } .mid { text-anchor: middle; }
  .on { font-size: 12px; fill: #ffffff; text-anchor: middle; } .axis { stroke: #8c959f; stroke-opacity: .35; }
  .ground { fill: #8c959f; fill-opacity: .12; } .upload { fill: #bf8700; } .wait { fill: #cf222e; }
  .engine { fill: #57606a; } .queue { fill: #afb8c1; }
  .m0 { fill: #0a7ea4; } .m1 { fill: #1a7f37; } .m2 { fill: #9a4fb5; } .m3 { fill: #b35900; } .m4 { fill: #0550ae; }
  .m5 { fill: #a40e26; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .dim { fill: #9da7b3; } .on { fill: #0d1117; } .axis { stroke: #9da7b3; }
    .upload { fill: #e3b341; } .wait { fill: #ff7b72; } .engine { fill: #9da7b3; } .queue { fill: #484f58; }
    .m0 { fill: #39b5e0; } .m1 { fill: #3fb950; } .m2 { fill: #c78be0; } .m3 { fill: #f0883e; } .m4 { fill: #79c0ff; }
    .m5 { fill: #ffa198; }
  }
"""
COLOURS = 6
"""How many colours there are for models: ``m0``, ``m1`` and so on."""
_COLUMN = 0.5
"""Width of what is drawn as one, in pixels."""
_LETTER = 6.2
"""Width of a letter, about."""

Bar = tuple[float, float, str, str]
"""Left and right edge, kind, text."""


def text(x: float, y: float, said: str, kind: str = "") -> str:
    """A line of text that begins at ``x``, or has its middle there, as its kind says."""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{clean(said)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def bars(found: Sequence[Bar], y: float, height: float) -> Iterator[str]:
    """Bars beside each other, in order. One that would be too narrow to be seen is as wide as can be seen, and hides
    what begins under it; neighbours of one kind with nothing to see between them are one."""
    merged: list[Bar] = []
    for left, right, kind, said in found:
        edge = merged[-1][1] if merged else 0.0
        if right <= edge:
            continue
        left, right = max(left, edge), max(right, left + _COLUMN, edge + _COLUMN)
        if merged and merged[-1][2] == kind and left - edge < _COLUMN:
            left = merged.pop()[0]
        merged.append((left, right, kind, said))
    for left, right, kind, said in merged:
        yield box(left, y, right - left, height, kind)
        if said and right - left > _LETTER * len(said) + 2:
            yield text((left + right) / 2, y + height / 2 + 4, said, "on")


def area(steps: Sequence[tuple[float, float, float]], kind: str) -> str:
    """What lies between two lines of steps: from each ``x`` on, between two ``y``. The last step only ends it."""
    columns: dict[int, tuple[float, float, float]] = {}
    for step in steps:
        columns[int(step[0] / _COLUMN)] = step
    kept = list(columns.values())
    upper = [f"{x:.1f} {high:.1f}H{after[0]:.1f}" for (x, high, _), after in pairwise(kept)]
    lower = [f"{after[0]:.1f} {low:.1f}H{x:.1f}" for (x, _, low), after in reversed(list(pairwise(kept)))]
    return f'<path class="{kind}" d="M{"L".join([*upper, *lower])}Z"/>' if upper else ""


def clean(said: str) -> str:
    """Text as XML can have it."""
    return escape(re.sub(r"[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", said))
