"""The live view: what its lines say, that they fit, what it costs, and how it looks and ends at a real terminal."""

from __future__ import annotations

import asyncio
import io
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from agentmux.cli.live import ASCII, Board, Cells, unit_cells, wrapped
from agentmux.cli.live_screen import CPU_SHARE, Screen, cells_for, wants_live
from agentmux.cli.output import Output
from agentmux.engine.base import EngineStats, ModelStats
from agentmux.messages import TextStreamed, TurnAdmitted, TurnCancelled, TurnCompleted, TurnNumbers, TurnQueued
from tests.cli.processes import Terminal, environment

STATS = EngineStats(
    device="CPU",
    device_budget_bytes=0,
    arena_bytes=8 * 2**20,
    arena_used_bytes=5 * 2**20,
    device_used_bytes=0,
    uploaded_bytes=3 * 2**30,
    evicted_units=0,
    switches=7,
    steps=0,
    upload_wait_s=0.0,
    upload_bytes_per_s=0.0,
    prefetched_bytes=0,
    repeated_passes=0,
    models=(ModelStats("planner", "rrr.", 2**20, 1, 0), ModelStats("coder", "ra.h", 2**20, 2, 0)),
)
NUMBERS = TurnNumbers(1, "Coder", "coder")


def streamed(text: str, span: int = 1) -> TextStreamed:
    return TextStreamed("r", "Coder", span, 1, text)


def completed(span: int = 1) -> TurnCompleted:
    return TurnCompleted("r", "Coder", span, 1, "coder", "", NUMBERS)


def picture(board: Board, width: int = 80, height: int = 24, now_s: float = 10.0) -> list[str]:
    return [line.plain.rstrip() for line in board.lines(STATS, width, height, now_s)]


def test_map_has_a_cell_a_unit() -> None:
    lines = picture(Board("twelve tasks", 0.0))
    assert lines[0] == "0 done, 0 under way, 0:10; twelve tasks"
    assert lines[1].split()[:2] == ["planner", "███·"]
    assert lines[2].split()[:2] == ["coder", "█▒·c"]
    assert lines[2].endswith("2 active")
    assert lines[4].startswith("memory      5.0 MiB of 8.0 MiB  3.0 GiB paged, 7 switches")


def test_queue_says_who_waits_why_and_how_long() -> None:
    board = Board("", 0.0)
    for turn in range(1, 6):
        board.event(turn, TurnQueued("r", "Coder", 1, turn, "coder", turn, "the model is busy"), 4.0)
    lines = picture(board)
    assert "queue       5 waiting" in lines
    assert "            task 1 coder, 6.0 s: the model is busy" in lines
    for turn in (1, 2):
        board.event(turn, TurnAdmitted("r", "Coder", 1, turn, "coder", 0.0, ""), 5.0)
    board.event(3, TurnCancelled("r", "Coder", 1, 3, "coder"), 5.0)
    assert "queue       2 waiting" in picture(board)


def test_panels_show_the_end_of_what_was_said() -> None:
    board = Board("", 0.0)
    board.event(1, streamed("def f(xs):\n    return 1"), 1.0)
    board.event(2, streamed("other"), 1.0)
    lines = picture(board)
    assert any(line.startswith("── task 1 coder ─") for line in lines)
    assert lines.index("def f(xs):") + 1 == lines.index("    return 1")
    board.event(1, completed(), 2.0)
    board.say(1, "examples", "ok f([1]) == 1\n", 2.0)
    board.end(1, "passed", 3.0)
    lines = picture(board)
    assert any(line.startswith("── task 1 passed ─") for line in lines)
    assert "ok f([1]) == 1" in lines
    assert lines[0].startswith("1 done, 1 under way")


def test_several_voices_in_one_task_stay_apart() -> None:
    board = Board("", 0.0)
    for text in ("a", "b", "c"):
        for span in (1, 2):
            board.event(1, streamed(f"{text}{span}", span), 1.0)
    assert {"a1b1c1", "a2b2c2"} <= set(picture(board))
    board.event(1, completed(2), 2.0)
    assert {"a1b1c1", "a2b2c2"} <= set(picture(board))


def test_what_models_say_cannot_drive_the_terminal() -> None:
    board = Board("", 0.0)
    board.event(1, streamed("\x1b[2J\x07[bold]x[/bold]"), 1.0)
    assert "\ufffd[2J\ufffd[bold]x[/bold]" in picture(board)


@given(
    width=st.integers(2, 200),
    height=st.integers(1, 60),
    texts=st.lists(st.text(max_size=200), max_size=15),
    ended=st.sets(st.integers(0, 14)),
)
def test_picture_fits_any_terminal(width: int, height: int, texts: list[str], ended: set[int]) -> None:
    board = Board("title " * 20, 0.0)
    for task, text in enumerate(texts):
        board.event(task, TurnQueued("r", "Coder", task, task, "coder", 1, text), 1.0)
        board.event(task, streamed(text, task), 1.0)
        if task in ended:
            board.end(task, text, 2.0)
    lines = board.lines(STATS, width, height, 10.0)
    assert len(lines) <= height
    assert all(cell_len(line.plain) <= width for line in lines)
    assert all("\n" not in line.plain for line in lines)


@given(st.text("ra.h", max_size=300), st.integers(1, 100))
def test_cells_fit_and_hide_nothing(states: str, room: int) -> None:
    cells = unit_cells(states, room, ASCII)
    assert len(cells) <= room
    if len(states) <= room:
        assert cells == states.translate(str.maketrans("rah.", "#+c."))
    assert ("a" in states) == ("+" in cells)


@given(st.text(max_size=300), st.integers(1, 50), st.integers(0, 10))
def test_wrapped_is_the_end_of_the_text(text: str, width: int, rows: int) -> None:
    lines = wrapped(text, width, rows)
    assert len(lines) <= rows
    if text.isascii() and text.isprintable() and rows:
        assert text.endswith("".join(lines))


def test_rate_is_that_of_the_last_seconds() -> None:
    board = Board("", 0.0)
    for second in range(20):
        assert board.rate(float(second)) == pytest.approx(0 if second in (0, 1) and not board.tokens else 10, abs=10)
        board.tokens += 10
    assert board.rate(20.0) == pytest.approx(10)


async def test_drawing_keeps_to_its_share() -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80, height=24)
    board = Board("title", 0.0)
    screen = Screen(board, lambda: STATS, console)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with screen.open():
        while screen.frames < 4:  # noqa: ASYNC110  # there is nothing to wait for but pictures
            await asyncio.sleep(0.01)
    drawn = terminal.getvalue()
    assert drawn.startswith("\x1b[?1049h")
    assert drawn.index("\x1b[?25l") < drawn.index("\x1b[?25h")
    assert drawn.endswith("\x1b[?1049l")
    assert "\x1b[2J" not in drawn.replace("\x1b[2J", "", 1), "cleared once at most: no flicker"
    assert (screen.frames - 1) * max(0.1, screen.cpu_s / screen.frames / CPU_SHARE / 4) <= loop.time() - began_s


async def test_terminal_is_restored_when_the_body_raises() -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80, height=24)

    async def broken() -> None:
        async with Screen(Board("", 0.0), lambda: STATS, console).open():
            await asyncio.sleep(0)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await broken()
    assert "\x1b[?1049l" in terminal.getvalue()


async def test_error_while_drawing_is_not_lost() -> None:
    def stats() -> EngineStats:
        raise ValueError("no stats")

    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with pytest.raises(ValueError, match="no stats"):
        async with Screen(Board("", 0.0), stats, console).open():
            await asyncio.sleep(0.01)


def test_signs_that_the_terminal_can_show() -> None:
    assert cells_for("utf-8") == Cells()
    assert cells_for("latin-1") == cells_for(None) == cells_for("nonsense") == ASCII


@pytest.mark.parametrize(
    ("environ", "live"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_when_it_is_wanted(environ: dict[str, str], live: bool) -> None:
    output = Output()
    output.is_terminal = True
    assert wants_live(output, environ) is live
    output.is_terminal = False
    assert not wants_live(output, environ)


def test_demo_at_a_terminal_that_changes_its_size() -> None:
    with Terminal("demo", "--rounds", "1") as terminal:
        terminal.until(lambda screen: "── task 1 " in screen and "resident" in screen and "under way" in screen)
        terminal.resize(60, 16)
        terminal.end()
        assert b"\x1b[?1049h" in terminal.raw
        assert terminal.raw.index(b"\x1b[?1049l") > terminal.raw.index(b"\x1b[?1049h")
        assert "waited for a switch" in terminal.text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_the_terminal_as_it_was(number: signal.Signals, status: int) -> None:
    with Terminal("demo") as terminal:
        terminal.until(lambda screen: "── task 1 " in screen)
        terminal.signal(number)
        assert terminal.end() == status
        after = terminal.raw[terminal.raw.rindex(b"\x1b[?1049l") :]
        assert b"agentmux: " in after
        assert terminal.raw.rindex(b"\x1b[?25h") > terminal.raw.rindex(b"\x1b[?25l")


@pytest.mark.parametrize(
    ("arguments", "env"), [(["--plain"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})], ids=str
)
def test_plain_lines_at_a_terminal(arguments: list[str], env: dict[str, str]) -> None:
    own = ("--task", "Return the sum of the even numbers in the list.", "--example", "f([1, 2, 4]) == 6")
    with Terminal("demo", *own, *arguments, rows=60, env=environment(**env)) as terminal:
        terminal.end()
        assert b"\x1b[?1049h" not in terminal.raw
        assert "[task 1 coder] def f(" in terminal.text
