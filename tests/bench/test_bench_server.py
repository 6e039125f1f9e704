"""``agentmux bench server``: real processes, few clients; and what its clients make of what they get."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agentmux.bench.server import Settings, bench_server
from agentmux.bench.server_load import Connection, Cpu, Reply, measured, read
from agentmux.bench.server_models import names_of
from agentmux.bench.server_report import Load, Question, Refusals, ServerReport
from agentmux.errors import ConfigError, EngineError
from agentmux.testing import settle

DOCS = Path(__file__).parents[2] / "docs"
STORED = DOCS / "benchmarks" / "server.json"


def chunked(*events: object, end: bool = True) -> bytes:
    """A streamed answer, each event a piece of the body."""
    texts = [f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n".encode() for one in events]
    body = b"".join(b"%x\r\n%b\r\n" % (len(text), text) for text in texts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if end else b"")


def chunk(text: str, ended: str | None = None) -> dict[str, object]:
    """An event with text."""
    return {"choices": [{"delta": {"content": text} if text else {}, "finish_reason": ended}]}


USAGE = {"choices": [], "usage": {"completion_tokens": 7}}
WHOLE = chunked(chunk("a"), chunk("é\r\n0"), chunk("", "stop"), USAGE, "[DONE]")


def test_streams_are_read_to_their_end() -> None:
    assert read(WHOLE) == ("aé\r\n0", 7, 2, True)
    assert read(chunked(chunk("a"), chunk("", "stop"), USAGE))[3] is False
    assert read(chunked(chunk("a"), USAGE, "[DONE]"))[3] is False
    assert read(chunked(chunk("a"), {"error": {"message": "gone"}}, end=False))[3] is False


def test_what_is_wrong_is_counted() -> None:
    given = Load(
        models=("m",), clients=1, seconds=1, tokens=1, questions=1, threads=1, device="cpu", expected={"m: x": "other"}
    )
    question = Question("m", "x")
    replies = [
        Reply(question, 200, 0.1, WHOLE),
        Reply(question, 200, 0.1, chunked(chunk("other"), "[DONE]")),
        Reply(question, 429, 0.3, b""),
        Reply(question, 429, 0.1, b""),
        Reply(question, 503, 0.1, b""),
    ]
    result = measured(given, replies, 2.0, Cpu(1.0, 0.25, 0.5))
    assert (result.answers, result.tokens, result.wrong, result.cut) == (2, 7, 1, 1)
    assert result.errors == {"503": 1}
    assert result.tokens_per_s == 3.5
    assert result.refusals.count == 2
    assert result.refusals.first_byte_most_s == 0.3


def test_times_of_refusals() -> None:
    times = Refusals.of([number / 1000 for number in range(101)])
    assert (times.count, times.first_byte_median_s, times.first_byte_p99_s, times.first_byte_most_s) == (
        101,
        0.05,
        0.099,
        0.1,
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"clients": 0},
        {"seconds": 0},
        {"models": ()},
        {"models": ("gpt-4",)},
        {"models": ("random:gpt-4",)},
        {"models": ("planner", "planner")},
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Settings(**bad)  # type: ignore[arg-type]


def test_a_server_beside_the_engine_alone() -> None:
    told: list[str] = []
    settings = Settings(clients=6, seconds=0.3, repetitions=1, questions=2, models=("planner", "coder"))
    report = bench_server(settings, ["bench", "server"], told.append)
    assert ServerReport.model_validate_json(report.model_dump_json()) == report
    (pair,) = report.pairs
    for one in (pair.alone, pair.server):
        assert one.answers >= 6
        assert one.tokens > one.answers
        assert (one.cut, one.wrong, one.errors, one.refusals.count) == (0, 0, {}, 0)
        assert one.cpu_s > one.loop_cpu_s > 0
    assert pair.server.client_cpu_s > 0
    assert report.summary.ratio == pair.ratio > 0
    assert report.summary.added_cpu_us_per_token == pair.added_us_per_token
    assert report.summary.added_cpu_share == pytest.approx(
        pair.added_us_per_token * pair.alone.tokens / pair.alone.cpu_s / 1e6
    )
    assert told


def test_random_models_are_asked_as_bundled_ones_are() -> None:
    models = ("random:tiny", "coder", "random:tiny")
    report = bench_server(Settings(clients=4, seconds=0.2, repetitions=1, questions=1, tokens=8, models=models), [])
    assert report.models == models
    assert names_of(models) == ("tiny-1", "coder", "tiny-2")
    for one in (report.pairs[0].alone, report.pairs[0].server):
        assert one.answers >= 4
        assert (one.cut, one.wrong, one.errors) == (0, 0, {})


async def test_a_connection_that_the_server_ended_is_opened_again() -> None:
    said = b"HTTP/1.1 429 Too Many Requests\r\n\r\n"
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"}")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1") as server:
        connection = Connection(server.sockets[0].getsockname()[1])
        for _ in range(3):
            reply = await connection.ask(Question("m", "x"), 1)
            assert (reply.status, reply.raw) == (429, said)
            await settle()
            assert connection.is_closed
    assert connections == 3


def test_a_process_that_fails_is_told() -> None:
    with pytest.raises(EngineError, match=r"server_alone failed: (.|\n)*no such device"):
        bench_server(Settings(clients=1, seconds=0.1, device="no such device"), [])


def test_the_stored_report_is_one_and_found_nothing_wrong() -> None:
    report = ServerReport.model_validate_json(STORED.read_bytes())
    assert report.clients == 64
    assert len(report.models) == 3
    for pair in report.pairs:
        for one in (pair.alone, pair.server):
            assert (one.cut, one.wrong, one.errors) == (0, 0, {})
    assert report.refused is not None
    assert (report.refused.cut, report.refused.wrong, report.refused.errors) == (0, 0, {})


def test_the_guide_says_what_was_measured() -> None:
    report = ServerReport.model_validate_json(STORED.read_bytes())
    one, refused = report.summary, report.refused
    assert refused is not None
    said = (DOCS / "server.md").read_text(encoding="utf-8").partition("## What it costs")[2].partition("\n## ")[0]
    for text in (
        f"{report.clients} clients",
        f"| {one.alone_tokens_per_s:.0f} | {one.alone_cpu_us_per_token:.0f} us |",
        f"| {one.server_tokens_per_s:.0f} | {one.server_cpu_us_per_token:.0f} us, its clients",
        f"clients {one.client_cpu_us_per_token:.0f} us more",
        f"repetition is {one.ratio:.3f} ({one.ratio_least:.3f} to {one.ratio_most:.3f})",
        f"All of {sum(pair.server.answers for pair in report.pairs)}",
        f"Of {refused.refusals.count} refusals half",
        f"after {1e3 * refused.refusals.first_byte_median_s:.1f} ms, 99 %",
        f"all after {1e3 * refused.refusals.first_byte_most_s:.1f} ms",
    ):
        assert text in said, text
