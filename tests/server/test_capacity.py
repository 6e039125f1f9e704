"""What the server says where there is no room, where something breaks, and of how it is."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from agentmux import Agent, Run, Runtime, pipeline
from agentmux.config import Limits
from agentmux.errors import ConfigError, NeverFits
from agentmux.messages import Event, TurnAdmitted, TurnCancelled, TurnErrored, TurnQueued
from agentmux.runtime_stats import RuntimeStats
from agentmux.server import ServerSettings, Traffic, application
from agentmux.server.health import Health
from agentmux.server.published import publish
from agentmux.testing import Answer, ByPrompt, Failure, Refusal, ScriptedEngine, When, settle
from agentmux.testing.steps import Script
from tests.server.live import Live, chat, code_of

Make = Callable[[list[Callable[[Event], None]]], Runtime]


def scripted(script: Script, **options: Any) -> Make:
    """A runtime whose one model ``m`` follows a script."""
    engine = ScriptedEngine({"m": script}, strict=False)
    return lambda observers: Runtime(models=engine.models, engine=engine, config=False, observers=observers, **options)


def held(request: Any) -> Answer:
    return Answer("so far", hold=True)


def test_over_capacity_is_told_at_once_and_room_comes_back_with_a_client_that_leaves() -> None:
    with Live(scripted(held, queue_limit=1)) as live, ThreadPoolExecutor() as pool:
        stream = live.openai().chat.completions.create(**chat("m"), stream=True)
        live.wait_for(TurnAdmitted)
        waiting = pool.submit(live.post, "/v1/chat/completions", chat("m", stream=True))
        live.wait_for(TurnQueued, 2)
        (state,) = live.get("/v1/models").json()["data"]
        assert (state["agentmux"]["active"], state["agentmux"]["waiting"]) == (1, 1)

        # Nothing ends meanwhile: what is refused does not wait for anything.
        for more in ({}, {"stream": True}):
            refused = live.post("/v1/chat/completions", chat("m", **more))
            assert (refused.status_code, code_of(refused)) == (429, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
            assert "1 of 1 turns wait already" in refused.json()["error"]["message"]
            assert refused.json()["error"]["numbers"]["queue_limit"] == 1
        with pytest.raises(openai.RateLimitError):
            live.openai().chat.completions.create(**chat("m"))

        stream.close()
        live.wait_for(TurnCancelled)
        live.wait_for(TurnAdmitted, 2)
        text = live.get("/metrics").text
        assert 'agentmux_refusals_total{reason="queue_full"} 3' in text
        live.on_loop(end_all(live))
        waiting.result()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_full_queue_is_told_before_anything_is_done_for_the_turn(path: str) -> None:
    bodies = {
        "/v1/chat/completions": chat("m"),
        "/v1/completions": {"model": "m", "prompt": "x"},
        "/v1/responses": {"model": "m", "input": "x"},
    }
    with Live(scripted(held, queue_limit=0)) as live:
        stream = live.openai().chat.completions.create(**chat("m"), stream=True)
        live.wait_for(TurnAdmitted)
        # The last one asks for what cannot be: that was not looked at, and there never was a turn.
        for more in ({}, {"stream": True}, {"session": "a", "n": 2}):
            refused = live.post(path, {**bodies[path], **more})
            assert (refused.status_code, code_of(refused)) == (429, "queue_full")
        assert (live.count(TurnQueued), live.count(TurnErrored)) == (1, 0)
        stream.close()


async def test_of_requests_in_one_moment_each_sees_the_places_that_the_others_took() -> None:
    seen: list[Event] = []
    mux = scripted(held, queue_limit=2)([seen.append])
    async with mux:
        app = application(mux, ServerSettings(), Traffic())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            tasks = [asyncio.create_task(client.post("/v1/chat/completions", json=chat("m"))) for _ in range(12)]
            await settle()
            statuses = [task.result().status_code for task in tasks if task.done()]
            assert statuses == [429] * (len(tasks) - 3)
            assert [sum(isinstance(event, kind) for event in seen) for kind in (TurnQueued, TurnErrored)] == [3, 0]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def end_all(live: Live) -> Callable[[], Any]:
    """Ends what is held."""

    async def end() -> None:
        for turn in range(1, 9):
            live.mux._opened().engine.cancel(turn)

    return end


def test_who_waits_too_long_is_told_so() -> None:
    with Live(scripted(held, limits=Limits(queue_wait_s=0.01))) as live:
        stream = live.openai().chat.completions.create(**chat("m"), stream=True)
        live.wait_for(TurnAdmitted)
        late = live.post("/v1/chat/completions", chat("m"))
        assert (late.status_code, code_of(late)) == (429, "queue_timeout")
        assert late.headers["retry-after"]
        stream.close()


def test_what_never_fits_is_told_with_the_numbers() -> None:
    error = NeverFits("model m needs 9 bytes, the arena has 4", needed_bytes=9, available_bytes=4)
    with Live(scripted(lambda _: Refusal(error))) as live:
        for path, body in (("/v1/chat/completions", chat("m")), ("/v1/completions", {"model": "m", "prompt": "x"})):
            for stream in (False, True):
                answer = live.post(path, {**body, "stream": stream})
                assert (answer.status_code, code_of(answer)) == (400, "never_fits")
                assert answer.json()["error"]["numbers"] == {"needed_bytes": 9, "available_bytes": 4}


def test_what_breaks_in_the_midst_of_a_stream_is_told_in_it() -> None:
    with Live(scripted(lambda _: Failure("engine", "the device is gone"))) as live:
        plain = live.post("/v1/chat/completions", chat("m"))
        assert (plain.status_code, code_of(plain)) == (503, "engine_unavailable")
        stream = live.post("/v1/chat/completions", chat("m", stream=True))
        assert stream.status_code == 200
        assert "the device is gone" in json.loads(stream.text.split("data: ")[-1])["error"]["message"]
        assert "[DONE]" not in stream.text
        with pytest.raises(openai.APIError, match="the device is gone"):
            list(live.openai().chat.completions.create(**chat("m"), stream=True))


def test_calls_are_streamed_as_calls_and_text_before_them_as_text() -> None:
    call_text = '{"tool": "add", "arguments": {"a": 1}}'
    step = Answer(f"Let me see.\n{call_text}", chunks=("Let me", " see.\n", call_text))
    parameters = {"properties": {"a": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "add", "parameters": parameters}}]
    with Live(scripted(lambda _: step)) as live:
        chunks = list(live.openai().chat.completions.create(**chat("m", tools=tools), stream=True))
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert "".join(delta.content or "" for delta in deltas).strip() == "Let me see."
        (call,) = [one for delta in deltas for one in delta.tool_calls or ()]
        assert call.function is not None
        assert (call.function.name, call.function.arguments) == ("add", '{"a": 1}')
        plain = live.openai().chat.completions.create(**chat("m", tools=tools))
        assert plain.choices[0].message.content == "Let me see."
        assert plain.choices[0].finish_reason == "tool_calls"


def test_without_a_key_nobody_gets_in_but_to_ask_how_it_is() -> None:
    settings = ServerSettings(port=0, api_keys=("first-key", "second-key"))
    with Live(scripted(lambda _: Answer("yes")), settings) as live:
        assert live.openai("second-key").chat.completions.create(**chat("m")).choices[0].message.content == "yes"
        for given in ("", "Bearer wrong", "Basic first-key", "Bearer"):
            header = {"authorization": given}
            answer = live.post("/v1/chat/completions", chat("m"), headers=header)
            assert (answer.status_code, code_of(answer)) == (401, "invalid_api_key")
            assert live.get("/metrics", headers=header).status_code == 401
        with pytest.raises(openai.AuthenticationError):
            live.openai("first").models.list()
        assert live.get("/health").status_code == 200
        assert live.get("/v1/models", headers={"authorization": "bearer first-key", "host": "my.example"}).is_success


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "my.example"])
def test_another_address_than_loopback_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="API key"):
        ServerSettings(host=host)
    ServerSettings(host=host, api_keys=("k",))


@pytest.mark.parametrize("bad", [{"port": 70_000}, {"max_choices": 0}, {"api_keys": ("",)}, {"api_keys": ("a b",)}])
def test_settings_that_cannot_be_meant(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServerSettings(**bad)


class Greeter(Agent):
    model = "m"


@pipeline
async def shout(ctx: Run, text: str) -> dict[str, str]:
    return {"loud": (await ctx.run(Greeter, text)).upper()}


@pipeline
async def broken(ctx: Run, text: str) -> str:
    raise KeyError("no such thing")


@pipeline
async def two(ctx: Run, first: str, second: str) -> str:
    return first + second


def test_agents_and_pipelines_are_models() -> None:
    script = ByPrompt(When("hello", "good day", times=None))
    with Live(scripted(script), targets=(Greeter, shout, broken)) as live:
        client = live.openai()
        kinds = {one.id: one.model_dump()["agentmux"]["kind"] for one in client.models.list()}
        assert kinds == {"m": "model", "Greeter": "agent", "shout": "pipeline", "broken": "pipeline"}
        conversation: Any = [{"role": "user", "content": "before"}, {"role": "user", "content": "hello"}]
        done = client.chat.completions.create(model="Greeter", messages=conversation)
        assert done.choices[0].message.content == "good day"
        assert done.usage is not None
        assert done.usage.completion_tokens > 0
        chunks = list(client.chat.completions.create(**chat("shout", "hello"), stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == '{"loud":"GOOD DAY"}'
        assert chunks[-1].choices[0].finish_reason == "stop"
        with pytest.raises(openai.InternalServerError, match="KeyError"):
            client.chat.completions.create(**chat("broken"))
        for body in (chat("shout", n=2), {"model": "shout", "messages": [{"role": "system", "content": "x"}]}):
            assert live.post("/v1/chat/completions", body).status_code == 400
        assert code_of(live.post("/v1/completions", {"model": "shout", "prompt": "x"})) == "unsupported"


def test_what_cannot_be_published() -> None:
    with pytest.raises(ConfigError, match="one argument"):
        publish([two], [])
    with pytest.raises(ConfigError, match="are called shout"):
        publish([shout], ["shout"])


def test_a_run_whose_client_leaves_is_cancelled() -> None:
    with Live(scripted(held), targets=(shout,)) as live:
        body = json.dumps(chat("shout")).encode()
        with live.raw() as connection:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            live.wait_for(TurnAdmitted)
        live.wait_for(TurnCancelled)


def test_too_many_sessions_forget_the_one_used_longest_ago() -> None:
    engine = ScriptedEngine({"m": lambda _: Answer("yes")}, strict=False)

    def make(observers: list[Callable[[Event], None]]) -> Runtime:
        return Runtime(models=engine.models, engine=engine, config=False, observers=observers)

    with Live(make, ServerSettings(port=0, max_sessions=2)) as live:
        for session in ("a", "b", "a", "c"):
            live.post("/v1/chat/completions", chat("m", session=session))
        used = [request.session for request in engine.calls]
        assert used[0] == used[2]
        assert engine.forgotten == [("m", used[1])]


METRIC = re.compile(r'[a-zA-Z_:][\w:]*(\{(\w+="(\\.|[^"\\])*",?)+\})? -?[\d.]+(e[+-]?\d+)?')


def test_metrics_are_prometheus_text() -> None:
    with Live(scripted(lambda _: Answer("yes"))) as live:
        live.post("/v1/chat/completions", chat("m"))
        answer = live.get("/metrics")
        lines = [line for line in answer.text.splitlines() if not line.startswith("# ")]
        assert all(METRIC.fullmatch(line) for line in lines), lines
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'agentmux_requests_total{endpoint="/v1/chat/completions",status="200"} 1' in lines
        assert 'agentmux_turns_total{model="m",end="finished"} 1' in lines
        assert "llamacpp:tokens_predicted_total 3" in lines or any("tokens_predicted_total" in line for line in lines)
        live.get("/made-up-by-a-client")
        assert "made-up" not in live.get("/metrics").text


async def test_health_fails_when_nothing_moves_although_work_waits() -> None:
    engine = ScriptedEngine({"m": []})
    async with Runtime(models=engine.models, engine=engine, config=False) as mux:
        idle = mux.stats()
    busy = replace(idle, active=1)
    health = Health(stall_s=10.0)

    def at(second: float, stats: RuntimeStats) -> float:
        return health.stalled_s(stats, second)

    assert at(0, idle) == at(100, idle) == 0
    assert at(101, busy) == 0  # idle until a moment ago
    assert at(109, busy) == 0
    assert at(111, busy) == 11
    moved = replace(busy, engine=replace(busy.engine, steps=busy.engine.steps + 1))
    assert at(112, moved) == 0
    assert at(121, moved) == 0
    assert at(123, moved) == 11
    assert at(124, idle) == 0
