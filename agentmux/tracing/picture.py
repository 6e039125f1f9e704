"""A trace as a picture that stands still: what computed, what was uploaded meanwhile, and how long that was waited for.

The picture is for documents, where nobody can zoom. So what is narrower than it can show is drawn together: it has as
many shapes as it has columns of pixels, however long the trace is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentmux.tracing import shapes
from agentmux.tracing.excerpt import excerpt, window
from agentmux.tracing.records import COMPUTE, UPLOADS, WAITS, Record, Track

_WIDTH, _LEFT, _RIGHT, _MARGIN = 760, 164, 742, 18
_GAP = 14
_MARKS = 9
"""Moments that are marked below the picture, at most."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """A row of the picture: what it shows, in a word and in numbers."""

    name: str
    said: str
    height: int
    drawn: tuple[str, ...]
    """As if its upper edge were at 0."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is drawn, and where its moments are."""

    records: Sequence[Record]
    from_us: int
    to_us: int

    def x(self, at_us: float) -> float:
        """Where a moment is."""
        return _LEFT + (at_us - self.from_us) * (_RIGHT - _LEFT) / max(1, self.to_us - self.from_us)

    def on(self, track: Track) -> list[Record]:
        """The slices of a track."""
        place = track.process, track.thread
        return [one for one in self.records if one["ph"] == "X" and (one["pid"], one["tid"]) == place]

    def bars(self, slices: Sequence[Record], kind: str) -> list[shapes.Bar]:
        """Slices of one kind without text."""
        return [(self.x(one["ts"]), self.x(one["ts"] + one["dur"]), kind, "") for one in slices]

    def counter(self, name: str) -> list[tuple[int, Mapping[str, float]]]:
        """The moments from which on a counter has its values; after the last one, the window's end."""
        found = [(one["ts"], one["args"]) for one in self.records if one["ph"] == "C" and one["name"] == name]
        return [*found, (self.to_us, found[-1][1])] if found else []


def picture(records: Sequence[Record], title: str = "") -> str:
    """An SVG document of all that the records have, readable on light and dark ground.

    Args:
        records: a trace, or an excerpt of one.
        title: a line above the picture.
    """
    from_us, to_us = window(records)
    shown = _Shown(excerpt(records, from_us, to_us), from_us, to_us)
    kinds = _kinds(shown)
    found = (_computing(shown, kinds), _uploading(shown), _waiting(shown), _memory(shown, kinds), _turns(shown))
    lanes = [lane for lane in found if lane is not None]
    top = 40 if title else 12
    body = [shapes.text(_MARGIN, 24, title, "title")] if title else []
    begin = top
    for lane in lanes:
        middle = top + lane.height / 2
        body += [
            shapes.text(_MARGIN, middle - 3, lane.name),
            shapes.text(_MARGIN, middle + 11, lane.said, "dim"),
            shapes.box(_LEFT, top, _RIGHT - _LEFT, lane.height, "ground"),
            f'<g transform="translate(0 {top})">{"".join(lane.drawn)}</g>',
        ]
        top += lane.height + _GAP
    body += _axis(shown, begin - 4, top - _GAP + 4)
    said = "; ".join(f"{lane.name}: {lane.said}" for lane in lanes)
    return _document(title or "A trace", said, top + 16, body)


def _document(title: str, said: str, height: int, body: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="t d">\n<title id="t">{shapes.clean(title)}</title>\n'
        f'<desc id="d">{shapes.clean(said)}</desc>\n<style>{shapes.STYLE}</style>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _kinds(shown: _Shown) -> dict[str, str]:
    """A colour for each model, in the order in which they computed; those that did not come last."""
    names = [one["name"] for one in shown.on(COMPUTE)]
    names += [model for _, values in shown.counter("resident weights (bytes)") for model in values]
    return {name: f"m{i % shapes.COLOURS}" for i, name in enumerate(dict.fromkeys(names))}


def _computing(shown: _Shown, kinds: Mapping[str, str]) -> _Lane | None:
    slices = shown.on(COMPUTE)
    bars = [(*bar[:2], kinds[one["name"]], one["name"]) for one in slices for bar in shown.bars([one], "")]
    computed_us = sum(one["dur"] for one in slices)
    models = len({one["name"] for one in slices})
    said = f"{models} {'model' if models == 1 else 'models'}, {_milliseconds(computed_us)}"
    return _Lane("computing", said, 36, tuple(shapes.bars(bars, 0, 36))) if slices else None


def _uploading(shown: _Shown) -> _Lane | None:
    slices = shown.on(UPLOADS)
    rates = shown.counter("upload (GB/s)")
    # The slices' own numbers are those of whole slices, also where the window cuts them.
    sent = sum(values.get("GB/s", 0) * 1e3 * (to_us - from_us) for (from_us, values), (to_us, _) in pairwise(rates))
    drawn = tuple(shapes.bars(shown.bars(slices, "upload"), 0, 26))
    return _Lane("uploading weights", _bytes(sent), 26, drawn) if slices else None


def _waiting(shown: _Shown) -> _Lane | None:
    slices = shown.on(WAITS)
    if not slices and not shown.on(UPLOADS):
        return None
    waited_us, window_us = sum(one["dur"] for one in slices), shown.to_us - shown.from_us
    drawn = tuple(shapes.bars(shown.bars(slices, "wait"), 0, 26))
    return _Lane("waiting for weights", f"{_milliseconds(waited_us)} of {_milliseconds(window_us)}", 26, drawn)


def _memory(shown: _Shown, kinds: Mapping[str, str]) -> _Lane | None:
    steps = shown.counter("resident weights (bytes)")
    most = max((sum(values.values()) for _, values in steps), default=0)
    if most <= 0:
        return None
    drawn = tuple(_areas(shown, steps, kinds, most, 64))
    return _Lane("weights in memory", f"at most {_bytes(most)}", 64, drawn)


def _turns(shown: _Shown) -> _Lane | None:
    steps = shown.counter("turns")
    most = max((sum(values.values()) for _, values in steps), default=0)
    if most <= 0:
        return None
    drawn = tuple(_areas(shown, steps, {"in the engine": "engine", "waiting": "queue"}, most, 44))
    return _Lane("turns", f"up to {most:.0f}, queued on top", 44, drawn)


def _areas(
    shown: _Shown,
    steps: Sequence[tuple[int, Mapping[str, float]]],
    kinds: Mapping[str, str],
    most: float,
    height: int,
) -> Iterator[str]:
    """Values on top of each other, the first kind at the bottom."""
    below = [0.0] * len(steps)
    for name, kind in kinds.items():
        above = [low + values.get(name, 0) for low, (_, values) in zip(below, steps, strict=True)]
        edges = [
            (shown.x(at_us), height * (1 - high / most), height * (1 - low / most))
            for (at_us, _), high, low in zip(steps, above, below, strict=True)
        ]
        if above != below:
            yield shapes.area(edges, kind)
        below = above


def _axis(shown: _Shown, top: int, bottom: int) -> Iterator[str]:
    step_us = _step(shown.to_us - shown.from_us)
    at_us = -(-shown.from_us // step_us) * step_us
    while at_us <= shown.to_us:
        x = shown.x(at_us)
        yield f'<path class="axis" d="M{x:.1f} {top}V{bottom}"/>'
        yield shapes.text(x, bottom + 13, f"{at_us / 1e6:g} s", "dim mid")
        at_us += step_us


def _step(span_us: int) -> int:
    """A round number of microseconds that goes into a span a few times."""
    step_us = 1
    while span_us > step_us * _MARKS:
        for factor in (2, 5, 10):
            if span_us <= step_us * factor * _MARKS:
                return step_us * factor
        step_us *= 10
    return step_us


def _milliseconds(us: float) -> str:
    return f"{us / 1e3:.0f} ms" if us < 10_000_000 else f"{us / 1e6:.0f} s"


def _bytes(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
