"""What no well-behaved client sends: each gets the right answer in OpenAI's form, and the server goes on."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from agentmux import Runtime
from agentmux.server import ServerSettings, listen
from agentmux.testing import Answer, ScriptedEngine
from tests.server.live import Live, chat, code_of, read_all

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def strict() -> Iterator[Live]:
    """A server with narrow limits, whose model says the same to everybody."""
    engine = ScriptedEngine({"m": lambda request: Answer("yes")}, strict=False)
    settings = ServerSettings(
        port=0, max_body_bytes=20_000, max_headers=40, max_messages=5, head_s=0.2, body_s=0.2, max_choices=4
    )
    with Live(
        lambda observers: Runtime(models=engine.models, engine=engine, config=False, observers=observers), settings
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def _goes_on(strict: Live) -> Iterator[None]:
    """Whatever a test does to it, the server answers the next client."""
    yield
    assert strict.post("/v1/chat/completions", chat("m")).json()["choices"][0]["message"]["content"] == "yes"
    assert strict.get("/health").json() == {"status": "ok", "active": 0, "queued": 0}


def message(**fields: Any) -> dict[str, Any]:
    """A chat whose only message has these fields."""
    return {"model": "m", "messages": [fields]}


def tool(**function: Any) -> dict[str, Any]:
    """A chat with one tool."""
    return chat("m", tools=[{"type": "function", "function": function}])


def schema(value: Any) -> dict[str, Any]:
    """A chat whose answer has this schema."""
    return chat("m", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": value}})


def call(arguments: str) -> dict[str, Any]:
    """A conversation in which a tool was called so."""
    asked = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"model": "m", "messages": [{"role": "assistant", "tool_calls": [asked]}]}


BAD_JSON: dict[str, bytes] = {
    "nothing": b"",
    "cut": b'{"model": "m", "messages": [',
    "no JSON": b"model=m",
    "not UTF-8": b'{"model": "m", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "half a surrogate pair": b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "deep": b'{"model": "m", "messages": ' + b"[" * 9000 + b"]" * 9000 + b"}",
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
def test_what_is_no_json(strict: Live, body: bytes) -> None:
    answer = strict.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert code_of(answer) == "invalid_json"


BAD_VALUES: dict[str, Any] = {
    "a list": [],
    "null": None,
    "no model": {"messages": [{"role": "user", "content": "x"}]},
    "a number as model": chat(3),  # type: ignore[arg-type]
    "no messages": {"model": "m"},
    "an empty conversation": {"model": "m", "messages": []},
    "messages as text": {"model": "m", "messages": "hello"},
    "an unknown role": message(role="narrator", content="x"),
    "a number as content": message(role="user", content=3),
    "no content": message(role="user"),
    "a picture": message(role="user", content=[{"type": "image_url", "image_url": {"url": "http://x"}}]),
    "a result of no call": message(role="tool", content="3", tool_call_id="nine"),
    "calls of a user": message(role="user", content="x", tool_calls=call("{}")["messages"][0]["tool_calls"]),
    "arguments that are no JSON": call("{"),
    "arguments that are no object": call("[]"),
    "arguments of any depth": call("[" * 5000),
    "too many messages": {"model": "m", "messages": [{"role": "user", "content": "x"}] * 6},
    "text as temperature": chat("m", temperature="hot"),
    "too hot": chat("m", temperature=3),
    "below zero": chat("m", top_p=-0.1),
    "true as a number": chat("m", max_tokens=True),
    "no room": chat("m", max_tokens=0),
    "more than there can be": chat("m", max_tokens=2**40),
    "no choice": chat("m", n=0),
    "too many choices": chat("m", n=5),
    "text as flag": chat("m", stream="yes"),
    "text as seed": chat("m", seed="x"),
    "a number as stop": chat("m", stop=3),
    "an empty stop": chat("m", stop=""),
    "too many stops": chat("m", stop=["x"] * 17),
    "no token": chat("m", logit_bias={"hello": 1}),
    "a token that is not there": chat("m", logit_bias={"99999": 1}),
    "too much bias": chat("m", logit_bias={"1": 101}),
    "top_logprobs alone": chat("m", top_logprobs=2),
    "too many log-probabilities": chat("m", logprobs=True, top_logprobs=21),
    "options without a stream": chat("m", stream_options={"include_usage": True}),
    "an unknown format": chat("m", response_format={"type": "xml"}),
    "a format without a schema": chat("m", response_format={"type": "json_schema"}),
    "a schema of no type": schema({"type": "elephant"}),
    "a schema that is wrong": schema({"type": "object", "properties": 3}),
    "a schema from elsewhere": schema({"$ref": "http://example.org/schema"}),
    "a tool without a name": tool(description="x"),
    "a tool with a name for no model": tool(name="a b"),
    "parameters that are no object": tool(name="f", parameters={"type": "string"}),
    "parameters that are no schema": tool(name="f", parameters={"properties": {"x": {"type": 7}}}),
    "two tools of one name": chat("m", tools=2 * [{"type": "function", "function": {"name": "f"}}]),
    "a tool of another kind": chat("m", tools=[{"type": "browser"}]),
    "a choice that is no tool": chat("m", tool_choice={"type": "function", "function": {"name": "f"}}),
    "a choice of nothing": chat("m", tool_choice="required"),
    "several choices of one session": chat("m", n=2, session="s"),
    "functions of old": chat("m", functions=[{"name": "f"}]),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("body", BAD_VALUES.values(), ids=BAD_VALUES)
def test_values_that_cannot_be_meant(strict: Live, body: Any, stream: bool) -> None:
    if stream and isinstance(body, dict) and "stream_options" not in body:
        body = {"stream": True, **body}
    answer = strict.post("/v1/chat/completions", body)
    assert answer.status_code == 400, answer.text
    assert code_of(answer) in ("invalid_value", "invalid_request", "unsupported", "too_many_messages")
    assert answer.headers["x-request-id"]


BAD_PROMPTS = [None, "", [], [[]], 3, [1, "x"], [-1], [2**31], [True], {"x": 1}]


@pytest.mark.parametrize("prompt", BAD_PROMPTS, ids=str)
def test_prompts_that_cannot_be_meant(strict: Live, prompt: Any) -> None:
    answer = strict.post("/v1/completions", {"model": "m", "prompt": prompt})
    assert answer.status_code == 400, answer.text
    assert code_of(answer) == "invalid_value"


def test_members_that_nobody_knows_are_ignored(strict: Live) -> None:
    more = {"service_tier": "auto", "store": True, "metadata": {"x": [1]}, "logprobs": None, "user": "me"}
    assert strict.post("/v1/chat/completions", chat("m", **more)).status_code == 200


def test_bodies_of_another_type(strict: Live) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = strict.post("/v1/chat/completions", chat("m"), headers={"content-type": kind})
        assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")


def test_places_and_methods_that_are_not_there(strict: Live) -> None:
    nowhere = strict.get("/v1/nowhere")
    assert (nowhere.status_code, code_of(nowhere)) == (404, "not_found")
    wrong = strict.get("/v1/chat/completions")
    assert (wrong.status_code, code_of(wrong)) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    unknown = strict.get("/v1/models/gpt-4")
    assert (unknown.status_code, code_of(unknown)) == (404, "model_not_found")


def test_a_body_that_is_too_large(strict: Live) -> None:
    answer = strict.post("/v1/chat/completions", chat("m", "x" * 30_000))
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")
    assert answer.json()["error"]["numbers"]["limit_bytes"] == 20_000


def test_a_large_body_that_does_not_say_so(strict: Live) -> None:
    with strict.raw() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%s\r\n" % (25_000, b"x" * 25_000))
        assert answer_of(connection) == 413


def test_a_body_that_does_not_come(strict: Live) -> None:
    with strict.raw() as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert answer_of(connection) == 408


def test_a_body_that_comes_byte_by_byte(strict: Live) -> None:
    with strict.raw() as connection:
        connection.sendall(HEAD + b"Content-Length: 10000\r\n\r\n{")
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b" ")
        # It is answered while it still sends; what it sent then may have reset the connection, but not before.
        assert connection.recv(12) == b"HTTP/1.1 408"


def test_bodies_that_come_slowly_do_not_hold_up_others(strict: Live) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(50):
            open_ones.enter_context(strict.raw()).sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert strict.post("/v1/chat/completions", chat("m")).status_code == 200


def test_half_of_the_connection_is_closed_while_it_is_answered(strict: Live) -> None:
    body = json.dumps(chat("m")).encode()
    with strict.raw() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection)[:15] in (b"", b"HTTP/1.1 200 OK")


def test_garbage_behind_a_request(strict: Live) -> None:
    body = json.dumps(chat("m")).encode()
    for request, status in (
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
        (HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, b"200"),
        (HEAD + b"Content-Length: 2\r\n\r\n[]", b"400"),
    ):
        with strict.raw() as connection:
            connection.sendall(request + b"\x00\x01garbage \xff\r\n\r\n")
            got = read_all(connection)
        assert re.findall(rb"HTTP/1.1 (\d+)", got) == [status, b"400"]
        assert b'"code":"invalid_http"' in got


def test_requests_one_behind_the_other(strict: Live) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    with strict.raw() as connection:
        connection.sendall((one + b"\r\n") * 20 + one + b"Connection: close\r\n\r\n")
        assert re.findall(rb"HTTP/1.1 (\d+)", read_all(connection)) == [b"200"] * 21


@pytest.mark.parametrize(
    "head",
    [b"GET /v1/models/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G\xc3T /health HTTP/1.1\r\n\r\n"],
    ids=["path", "method"],
)
def test_heads_that_are_no_ascii(strict: Live, head: bytes) -> None:
    with strict.raw() as connection:
        connection.sendall(head)
        assert answer_of(connection) == 400


def test_names_and_headers_that_are_no_utf8(strict: Live) -> None:
    unknown = strict.get("/v1/models/%ff%00%f0%9f")
    assert (unknown.status_code, code_of(unknown)) == (404, "model_not_found")
    with strict.raw() as connection:
        connection.sendall(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: \xff\xfe\r\n"
            b"Authorization: Bearer \xff\r\nConnection: close\r\n\r\n"
        )
        got = read_all(connection)
    assert got.startswith(b"HTTP/1.1 200")
    assert b"x-request-id: req_" in got


def test_two_ways_to_say_where_a_body_ends(strict: Live) -> None:
    with strict.raw() as connection:
        connection.sendall(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert answer_of(connection) == 400


def test_a_head_that_does_not_come(strict: Live) -> None:
    with strict.raw() as connection:
        connection.sendall(b"GET /v1/models HT")
        assert answer_of(connection) == 408


def test_a_connection_that_says_nothing_is_closed(strict: Live) -> None:
    with strict.raw() as connection:
        assert read_all(connection) == b""


def test_a_second_head_that_does_not_come(strict: Live) -> None:
    with strict.raw() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = b""
        while b"}" not in got:
            got += connection.recv(65536)
        connection.sendall(b"GET /v1/models HT")
        assert answer_of(connection) == 408


def answer_of(connection: Any) -> int:
    """The status of the error that comes before the connection is closed."""
    head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert httpx.Response(200, content=body).json()["error"]["message"]
    return int(head.split()[1])


def test_too_many_headers(strict: Live) -> None:
    answer = strict.get("/v1/models", headers={f"x-{number}": "1" for number in range(60)})
    assert (answer.status_code, code_of(answer)) == (431, "too_many_headers")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/models HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)) + b"\r\n",
        b"GET /v1/models HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["10k headers", "a long header", "TLS", "a negative length", "two lengths", "no chunk"],
)
def test_what_is_no_http(strict: Live, request_bytes: bytes) -> None:
    with strict.raw() as connection:
        connection.sendall(request_bytes)
        assert answer_of(connection) == 400


def test_connections_that_are_closed_half_way(strict: Live) -> None:
    for begun in (b"", b"POST /v1/chat", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"):
        with strict.raw() as connection:
            connection.sendall(begun)
            connection.shutdown(1)
            assert b"200" not in read_all(connection)


def test_a_page_in_a_browser_cannot_come_by_another_name(strict: Live) -> None:
    answer = strict.get("/v1/models", headers={"host": "evil.example:80"})
    assert (answer.status_code, code_of(answer)) == (403, "forbidden_host")
    for host in ("localhost:1", "127.0.0.1", "[::1]:80"):
        assert strict.get("/v1/models", headers={"host": host}).status_code == 200
    preflight = httpx.options(f"{strict.url}/v1/chat/completions", headers={"origin": "http://evil.example"})
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_a_request_has_an_id(strict: Live) -> None:
    assert strict.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = [strict.get("/health", headers={"x-request-id": "a b"}).headers["x-request-id"] for _ in range(2)]
    assert len({*made}) == 2
    assert all(one.startswith("req_") for one in made)


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen(ServerSettings(port=0)) as listening, socket.create_connection(listening.getsockname()) as client:
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # by which asyncio sets TCP_NODELAY
            assert client.getpeername() == listening.getsockname()
