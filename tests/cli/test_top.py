"""``agentmux top``: its texts, its screen, and the server's stream behind it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from textual.widgets import DataTable, Static

from agentmux.cli.live import ASCII
from agentmux.cli.top_app import Top
from agentmux.cli.top_stream import Moment, Place, Refused, follow, merged, moments
from agentmux.cli.top_view import headline, memory_lines, turn_rows
from agentmux.errors import ConfigError
from tests.cli.processes import WAIT_S, Terminal, agentmux, one_line
from tests.server.live import chat
from tests.server.test_serve_command import served

TURN = {"agent": "chat", "model": "m", "queued_s": 90.0, "tokens": 3, "reason": ""}
DOCUMENT: dict[str, Any] = {
    "bucket_s": 2,
    "device": "CPU",
    "memory": {"arena_bytes": 4096, "arena_used_bytes": 1024, "uploaded_bytes": 2048},
    "models": {"m": {"units": "ra.h", "resident_bytes": 1024, "active": 1, "slots": 2}},
    "rates": {"40": [99, 99], "46": [30, 1024], "49": [30, 0]},
    "turns": {
        "1": {**TURN, "state": "finished", "ended_s": 95.0, "finish_reason": "stop"},
        "2": {**TURN, "state": "failed", "ended_s": 96.0, "error": "[b]no\x1b"},
        "3": {**TURN, "state": "running"},
        "4": {**TURN, "state": "queued", "reason": "no room"},
    },
}


def test_texts() -> None:
    assert headline(DOCUMENT, 100.0) == "1 running, 1 waiting, 6 tokens/s, 102 bytes/s paged"
    memory, model, legend = memory_lines(DOCUMENT, 80, ASCII)
    assert memory == "memory        1.0 KiB of 4.0 KiB on CPU, 2.0 KiB paged so far"
    assert model == "m             #+.c    1.0 KiB  1 of 2 slots"
    assert " ".join(legend.split()) == "# on the device + arriving c by the CPU . in host memory"
    assert list(memory_lines({}, 80, ASCII)) == ["the engine is closed"]


def test_turns_that_wait_come_first_and_then_the_latest() -> None:
    rows = list(turn_rows(DOCUMENT, 100.0, 10))
    assert [row[0] for row in rows] == ["4", "3", "2", "1"]
    assert rows[0] == ("4", "chat", "m", "queued", "10.0", "3", "no room")
    assert rows[2][-1] == "[b]no\N{REPLACEMENT CHARACTER}"
    assert rows[3][-1] == "stop"
    assert len(list(turn_rows(DOCUMENT, 100.0, 2))) == 2


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("127.0.0.1:9", Place("http", "127.0.0.1", 9)),
        ("http://host", Place("http", "host", 80)),
        ("https://host/", Place("https", "host", 443)),
        ("http://[::1]:8", Place("http", "::1", 8)),
    ],
)
def test_addresses(url: str, place: Place) -> None:
    assert Place.of(url) == place


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:x", "http://host:99999"])
def test_what_is_no_address_is_one_clear_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"no address|no host"):
        Place.of(url)
    assert "host" in one_line(agentmux("top", url), 2)


def test_patches() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None}, "d": {"e": [4]}}) == {
        "a": {"c": 2},
        "d": {"e": [4]},
    }


def test_a_server_that_wants_another_key_is_not_asked_again() -> None:
    with served(AGENTMUX_API_KEY="right") as (_, url):
        place = Place.of(url, "wrong")
        with pytest.raises(Refused, match="API key"):
            follow(place, lambda _: None, lambda _: True)
        moment = next(moments(Place.of(url, "right")))
        assert set(moment.document["models"]) == {"planner", "coder", "critic"}


def test_one_that_is_not_there_is_asked_again() -> None:
    said: list[Moment | str] = []
    waits = iter([False, True])
    follow(Place("http", "127.0.0.1", 1), said.append, lambda _: next(waits))
    assert len(said) == 2
    assert all("no connection" in str(one) for one in said)


def shown(app: Top, name: str) -> str:
    return str(app.query_one(name, Static).content)


async def test_the_screen_shows_a_turn_and_that_the_server_has_ended() -> None:
    with served("--vram", "9MiB") as (process, url):
        app = Top(Place.of(url), ASCII)
        async with app.run_test(size=(100, 30)) as pilot:
            while "planner" not in shown(app, "#memory"):
                await pilot.pause(0.01)
            async with httpx.AsyncClient(timeout=WAIT_S) as client:
                await client.post(f"{url}/chat/completions", json=chat("coder", temperature=0))
            table = app.query_one("#turns", DataTable)
            while not table.row_count or str(table.get_row_at(0)[3]) != "finished":
                await pilot.pause(0.01)
            assert [str(cell) for cell in table.get_row_at(0)][:3] == ["1", "chat", "coder"]
            assert "0 running, 0 waiting" in shown(app, "#headline")
            assert "#" * 9 in shown(app, "#memory")
            process.kill()
            while "trying again" not in shown(app, "#headline"):
                await pilot.pause(0.01)
            await pilot.press("q")
        assert app.return_value is None


def test_it_needs_a_terminal_and_leaves_it_as_it_was() -> None:
    assert "terminal" in one_line(agentmux("top"), 1)
    with served() as (_, url), Terminal("top", url, columns=100) as terminal:
        terminal.shows("0 running, 0 waiting")
        terminal.type("q")
        assert terminal.end() == 0
