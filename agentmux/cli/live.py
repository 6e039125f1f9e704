"""What is to be seen while tasks run: who says what, who waits, what is resident. Pure: events in, lines out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from agentmux.cli.output import printable
from agentmux.cli.summary import size_text
from agentmux.engine.base import EngineStats
from agentmux.messages import (
    Event,
    TextStreamed,
    TurnAdmitted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnQueued,
)

RATE_WINDOW_S = 3.0
TAIL_CHARS = 4000
"""Of what a task's agents said, kept for its panel."""
QUEUE_ROWS = 3
PANEL_ROWS = 3
"""Least height of a task's panel, its title included."""
MAP_LABEL = 12
_COLOURS = {"planner": "cyan", "coder": "green", "critic": "magenta", "examples": "yellow"}


@dataclass(frozen=True, slots=True)
class Cells:
    """Signs of the map, and of the lines around panels."""

    resident: str = "█"
    partly: str = "▌"
    arriving: str = "▒"
    cpu: str = "c"
    host: str = "·"
    rule: str = "─"


ASCII = Cells("#", "=", "+", "c", ".", "-")


@dataclass(slots=True)
class Panel:
    """One task."""

    speaker: str = ""
    said: str = ""
    """Whole lines."""
    saying: dict[int, str] = field(default_factory=dict)
    """[span] what is being said now; several may speak at once."""
    ended: str = ""
    """How it ended; empty while it runs."""
    changed_s: float = 0.0

    def add(self, text: str) -> None:
        """More whole lines."""
        if text:
            self.said = (self.said + text.rstrip("\n") + "\n")[-TAIL_CHARS:]

    @property
    def text(self) -> str:
        """What was said, and is being said."""
        return self.said + "\n".join(self.saying.values())


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn that has not been admitted."""

    who: str
    reason: str
    since_s: float


@dataclass(slots=True)
class Board:
    """Everything that is to be seen. ``now_s`` is the time of a monotonic clock throughout."""

    title: str
    began_s: float
    cells: Cells = field(default_factory=Cells)
    panels: dict[int, Panel] = field(default_factory=dict)
    """[task, in the order of beginning]"""
    queue: dict[int, Waiting] = field(default_factory=dict)
    """[turn, oldest first]"""
    tokens: int = 0
    """Pieces of text, nearly all of which are one token."""
    _rates: deque[tuple[float, int]] = field(default_factory=deque)

    def event(self, task: int, event: Event, now_s: float) -> None:
        """An event of a task's run."""
        panel = self.panels.setdefault(task, Panel(changed_s=now_s))
        match event:
            case TextStreamed(agent=agent, span=span, text=text):
                self.tokens += 1
                panel.speaker, panel.changed_s = agent.lower(), now_s
                panel.saying[span] = panel.saying.get(span, "") + text
            case TurnQueued(agent=agent, turn=turn, reason=reason):
                self.queue[turn] = Waiting(f"task {task} {agent.lower()}", reason, now_s)
            case TurnAdmitted(turn=turn):
                self.queue.pop(turn, None)
            case (
                TurnCompleted(span=span, turn=turn)
                | TurnCancelled(span=span, turn=turn)
                | TurnErrored(span=span, turn=turn)
            ):
                self.queue.pop(turn, None)
                panel.add(panel.saying.pop(span, ""))
            case _:
                pass

    def say(self, task: int, speaker: str, text: str, now_s: float) -> None:
        """Somebody who is no model says whole lines within a task."""
        panel = self.panels.setdefault(task, Panel())
        panel.speaker, panel.changed_s = speaker, now_s
        panel.add(text)

    def end(self, task: int, how: str, now_s: float) -> None:
        """A task has ended."""
        panel = self.panels.setdefault(task, Panel())
        panel.ended, panel.changed_s = how, now_s

    def lines(self, stats: EngineStats, width: int, height: int, now_s: float) -> list[Text]:
        """The picture: at most ``height`` lines of ``width`` columns; where room is short, panels give way first."""
        above = [
            self._headline(now_s),
            *self._map(stats, width),
            self._traffic(stats, now_s),
            *self._queue_lines(now_s),
        ]
        above = above[:height]
        for line in above:
            line.truncate(width, overflow="ellipsis")
        return [*above, *self._panel_lines(width, height - len(above))]

    def _headline(self, now_s: float) -> Text:
        ended = sum(bool(panel.ended) for panel in self.panels.values())
        minutes, seconds = divmod(int(now_s - self.began_s), 60)
        under_way = len(self.panels) - ended
        return Text(f"{ended} done, {under_way} under way, {minutes}:{seconds:02}; {self.title}", "bold")

    def _map(self, stats: EngineStats, width: int) -> Iterator[Text]:
        for model in stats.models:
            name = f"{printable(model.model)[: MAP_LABEL - 1]:<{MAP_LABEL}}"
            busy = f" {size_text(model.resident_bytes):>9}  {model.slots_active} active"
            cells = unit_cells(model.unit_states, max(8, width - MAP_LABEL - len(busy)), self.cells)
            yield Text.assemble((name, _COLOURS.get(model.model, "bold")), *self._coloured(cells), busy)
        signs = self.cells
        yield Text(
            f"{'':<{MAP_LABEL}}{signs.resident} resident  {signs.arriving} arriving  {signs.cpu} by the CPU  "
            f"{signs.host} in host memory",
            "dim",
        )

    def _coloured(self, cells: str) -> Iterator[tuple[str, str]]:
        styles = {self.cells.arriving: "yellow", self.cells.cpu: "blue", self.cells.host: "dim"}
        for cell in cells:
            yield cell, styles.get(cell, "green")

    def _traffic(self, stats: EngineStats, now_s: float) -> Text:
        memory = f"{size_text(stats.arena_used_bytes)} of {size_text(stats.arena_bytes)}"
        paged = f"{size_text(stats.uploaded_bytes)} paged, {stats.switches} switches"
        return Text(f"{'memory':<{MAP_LABEL}}{memory}  {paged}  {self.rate(now_s):.0f} tokens/s")

    def rate(self, now_s: float) -> float:
        """Tokens per second of the last seconds; to be asked with each picture."""
        rates = self._rates
        rates.append((now_s, self.tokens))
        while len(rates) > 2 and now_s - rates[0][0] > RATE_WINDOW_S:
            rates.popleft()
        span_s = now_s - rates[0][0]
        return (self.tokens - rates[0][1]) / span_s if span_s > 0 else 0.0

    def _queue_lines(self, now_s: float) -> Iterator[Text]:
        waiting = list(self.queue.values())
        yield Text(f"{'queue':<{MAP_LABEL}}" + (f"{len(waiting)} waiting" if waiting else "nobody waits"))
        for one in waiting[:QUEUE_ROWS]:
            reason = printable(one.reason) or "is about to be admitted"
            yield Text(f"{'':<{MAP_LABEL}}{one.who}, {now_s - one.since_s:.1f} s: {reason}", "dim")
        for _ in range(QUEUE_ROWS - len(waiting)):  # so that what is below does not jump
            yield Text()

    def _panel_lines(self, width: int, room: int) -> Iterator[Text]:
        chosen = self._chosen(room // PANEL_ROWS)
        for index, task in enumerate(chosen):
            rows = room // len(chosen) + (index < room % len(chosen))
            yield from self._panel(task, width, rows)

    def _chosen(self, count: int) -> Sequence[int]:
        """The tasks with a panel: those under way, the oldest first, then those that ended last; in their order."""
        under_way = [task for task, panel in self.panels.items() if not panel.ended]
        ended = [task for task, panel in self.panels.items() if panel.ended]
        ended.sort(key=lambda task: -self.panels[task].changed_s)
        return sorted([*under_way, *ended][: max(0, count)])

    def _panel(self, task: int, width: int, rows: int) -> Iterator[Text]:
        panel = self.panels[task]
        title = printable(f"{self.cells.rule * 2} task {task} {panel.ended or panel.speaker} ")
        rule = self.cells.rule * max(0, width - cell_len(title))
        heading = set_cell_size(title, width - len(rule)) + rule
        yield Text(heading, "dim" if panel.ended else _COLOURS.get(panel.speaker, ""))
        tail = wrapped(panel.text, width, rows - 1)
        for line in tail:
            yield Text(line, "dim" if panel.ended else "")
        for _ in range(rows - 1 - len(tail)):
            yield Text()


def unit_cells(states: str, room: int, cells: Cells) -> str:
    """A cell a unit; where there are more units than room, a cell for several neighbours.

    Args:
        states: [unit] as ``ModelStats.unit_states`` has them.
        room: cells at most.
    """
    each = max(1, -(-len(states) // room))
    return "".join(_cell(states[start : start + each], cells) for start in range(0, len(states), each))


def _cell(states: str, cells: Cells) -> str:
    if "a" in states:
        return cells.arriving
    if states == "r" * len(states):
        return cells.resident
    if "r" in states:
        return cells.partly
    return cells.cpu if "h" in states else cells.host


def wrapped(text: str, width: int, rows: int) -> list[str]:
    """The last ``rows`` lines of a text, cut into lines of ``width`` columns, fit to be shown."""
    if rows <= 0:
        return []
    lines: list[str] = []
    for whole in reversed(text.rstrip("\n").split("\n")):
        shown = printable(whole)
        lines[:0] = chop_cells(shown, width) or [""]
        if len(lines) >= rows:
            break
    return lines[-rows:]
