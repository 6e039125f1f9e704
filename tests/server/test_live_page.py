"""The page's files, and the stream that feeds it, as any client gets them."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import agentmux.server
from agentmux import Runtime
from agentmux.errors import ModelNotFound
from agentmux.server import Live as Watched
from agentmux.server import ServerSettings
from agentmux.server.live import MAX_WATCHERS
from agentmux.server.problems import Problem
from agentmux.testing import ScriptedEngine
from tests.server.live import WAIT_S, Live, chat, code_of
from tests.server.test_serve_command import served
from tests.unit.test_live_record import merged

PAGE = Path(agentmux.server.__file__).parent / "page"


def events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("name", sorted(path.name for path in PAGE.iterdir()))
def test_each_file_has_its_type_and_is_sent_once(live: Live, name: str) -> None:
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    answer = live.get(f"/page/{name}")
    assert answer.content == (PAGE / name).read_bytes()
    assert answer.headers["content-type"].startswith(types[Path(name).suffix])
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = live.get(f"/page/{name}", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_names_no_place_outside_and_no_code_or_style_of_its_own(live: Live) -> None:
    text = live.get("/").text
    assert live.get("/page/index.html").text == text
    for path in PAGE.iterdir():
        assert "://" not in path.read_text().replace("http://www.w3.org/2000/svg", ""), path.name
        assert path.read_text().count("\n") <= 400, path.name
    assert "style=" not in text
    assert "onclick" not in text


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/..%2fapp.py", "/page/", "/page/%2e%2e/app.py"])
def test_other_files_are_not_there(live: Live, path: str) -> None:
    answer = live.get(path)
    assert (answer.status_code, code_of(answer)) == (404, "not_found")


def test_turns_that_nobody_knows_are_not_there(live: Live) -> None:
    for turn in ("0", "x", "-1"):
        assert code_of(live.get(f"/live/turns/{turn}")) == "not_found"


def test_only_what_says_nothing_of_the_work_is_there_without_a_key() -> None:
    def runtime(observers: list[Any]) -> Runtime:
        return Runtime(models={"m": "m.gguf"}, engine=ScriptedEngine({"m": []}), config=False, observers=observers)

    with Live(runtime, ServerSettings(port=0, api_keys=("right",))) as server:
        assert server.get("/").status_code == server.get("/page/main.js").status_code == 200
        for path in ("/live", "/live/turns/1", "/page", "/pages/main.js"):
            assert code_of(server.get(path)) == "invalid_api_key"


def test_there_need_not_be_a_live_page() -> None:
    with served("--no-live") as (_, url):
        root = url.removesuffix("/v1")
        for path in ("/", "/page/main.js", "/live", "/live/turns/1"):
            assert code_of(httpx.get(f"{root}{path}")) == "not_found"
        assert httpx.get(f"{root}/health").status_code == 200


def test_deltas_add_up_to_what_a_later_snapshot_has() -> None:
    with served("--vram", "9MiB") as (_, url):
        root = url.removesuffix("/v1")
        with httpx.stream("GET", f"{root}/live", timeout=WAIT_S) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            told = events(response)
            kind, document = next(told)
            assert kind == "snapshot"
            assert set(document["models"]) == {"planner", "coder", "critic"}
            assert document["turns"] == {}
            for model in ("planner", "coder", "critic"):
                httpx.post(f"{url}/chat/completions", json=chat(model, temperature=0), timeout=WAIT_S)
            while document["ends"]["finished"] < 3 or any(one["active"] for one in document["models"].values()):
                kind, patch = next(told)
                assert kind == "delta"
                document = merged(document, patch)
        with httpx.stream("GET", f"{root}/live", timeout=WAIT_S) as response:
            _, fresh = next(events(response))
        assert document.pop("now_s") <= fresh.pop("now_s")
        assert document == fresh
        assert [one["state"] for one in document["turns"].values()] == ["finished"] * 3
        assert document["memory"]["uploaded_bytes"] > 0
        for turn, shown in document["turns"].items():
            details = httpx.get(f"{root}/live/turns/{turn}").json()
            assert details.items() >= shown.items()
            assert "Hello" in details["prompt"]


def test_the_server_ends_at_once_although_somebody_watches() -> None:
    with served("--drain-s", "300") as (process, url):
        with httpx.stream("GET", f"{url.removesuffix('/v1')}/live", timeout=WAIT_S) as response:
            told = events(response)
            next(told)
            process.send_signal(signal.SIGTERM)
            assert list(told) == []
        assert process.wait(WAIT_S) == 0


def scripted(watched: Watched) -> Runtime:
    engine = ScriptedEngine({"m": []})
    return Runtime(models={"m": "m.gguf"}, engine=engine, config=False, observers=[watched.observe])


async def test_nothing_is_sent_while_nothing_happens_but_a_sign_of_life() -> None:
    now = [0.0]
    watched = Watched(lambda: now[0], idle_s=0.001)
    async with scripted(watched) as mux:
        watched.bind(mux, {})
        stream = watched.follow()
        assert (await anext(stream)).startswith("event: snapshot\n")
        coming = asyncio.ensure_future(anext(stream))
        done, _ = await asyncio.wait({coming}, timeout=0.5)  # some looks at the engine
        assert not done
        now[0] = 15.0
        assert await coming == ": still here\n\n"
        await stream.aclose()
        assert watched.watchers == 0


async def test_too_many_cannot_watch_and_all_go_when_it_ends() -> None:
    watched = Watched()
    async with scripted(watched) as mux:
        watched.bind(mux, {})
        streams = [watched.follow() for _ in range(MAX_WATCHERS)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Problem) as caught:
            await anext(watched.follow())
        assert caught.value.status == 503
        watched.end()
        for stream in streams:
            assert [one async for one in stream] == []
        assert watched.watchers == 0


async def test_a_model_that_is_just_being_loaded_is_not_shown_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    async with scripted(watched) as mux:
        watched.bind(mux, {})
        with monkeypatch.context() as patched:
            patched.setattr(mux, "footprint", lambda model: (_ for _ in ()).throw(ModelNotFound(model)))
            assert watched.document()["models"] == {}
        assert set(watched.document()["models"]) == {"m"}


async def test_it_can_be_followed_after_the_runtime_was_closed() -> None:
    watched = Watched()
    async with scripted(watched) as mux:
        watched.bind(mux, {"mine": "agent"})
    document = watched.document()
    assert document["targets"] == {"mine": "agent"}
    assert "models" not in document
