"""A real Prometheus scrapes a real server: each panel of the dashboard has something to show, the first event included.

Needs Debian's package ``prometheus``, or its two programs on the PATH.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.processes import WAIT_S
from tests.page.serving import Server
from tests.server.test_dashboard import DASHBOARD

COLON = "metric names should not contain ':'"
"""What promtool says of llama-server's names, which are meant to be llama-server's."""
NOT_YET = frozenset({"Turns", "Queue by model", "KV cache moved", "Slots", "Conversations dropped"})
"""Panels of what does not happen here, or is over when it is looked at: at 0."""

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="there is no prometheus (apt install prometheus)",
)


def until(holds: Callable[[], bool]) -> None:
    """Look until it does."""
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, "it does not come to hold"
        time.sleep(0.05)


class Prometheus:
    """One that scrapes a server every 200 ms."""

    def __init__(self, folder: Path, target: str) -> None:
        scrape = {"job_name": "agentmux", "static_configs": [{"targets": [target]}]}
        settings = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(json.dumps(settings))
        with socket.create_server(("127.0.0.1", 0)) as found:
            self._address = f"127.0.0.1:{found.getsockname()[1]}"
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self.process = subprocess.Popen([*command, f"--web.listen-address={self._address}", "--log.level=error"])

    def value(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series. Nothing as long as it does not answer."""
        try:
            answer = httpx.get(f"http://{self._address}/api/v1/query", params={"query": query}, timeout=WAIT_S)
        except httpx.TransportError:
            return []
        if answer.status_code == 503:
            return []
        document: dict[str, Any] = answer.json()
        assert document["status"] == "success", document
        return [(one["metric"], float(one["value"][1])) for one in document["data"]["result"]]


@contextmanager
def scraped(folder: Path) -> Iterator[tuple[Server, Prometheus]]:
    server = Server(folder)
    try:
        prometheus = Prometheus(folder, server.url.removeprefix("http://"))
        try:
            until(lambda: bool(prometheus.value("agentmux_switches_total")))
            yield server, prometheus
        finally:
            prometheus.process.terminate()
            prometheus.process.wait(WAIT_S)
    finally:
        server.end()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Prometheus]]:
    """The text of ``/metrics`` and Prometheus after one turn of each model, two of a pipeline, and one refusal."""
    with scraped(tmp_path_factory.mktemp("scraped")) as (server, prometheus):
        for model in ("planner", "coder", "critic", "write_code", "nobody"):
            server.ask(model)
        text = httpx.get(f"{server.url}/metrics", timeout=WAIT_S).text
        until(lambda: prometheus.value("sum(agentmux_turns_total)") == [({}, 5.0)])
        yield text, prometheus


def test_promtool_has_no_complaint_but_for_llama_servers_names(asked: tuple[str, Prometheus]) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=asked[0], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if not (line.startswith("llamacpp:") and COLON in line)]
    assert complaints == []
    assert done.stdout == ""


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_each_panel_has_data(asked: tuple[str, Prometheus], panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        query = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
        found = asked[1].value(query)
        assert found, query
        if panel["title"] not in NOT_YET and "reused" not in query and "prefetched" not in query:
            assert any(value > 0 for _, value in found), f"{query}: {found}"


def test_the_first_event_is_seen(asked: tuple[str, Prometheus]) -> None:
    for query, label, wanted in (
        ("rate(agentmux_time_to_first_token_seconds_count[1m])", "model", {"planner", "coder", "critic"}),
        ('rate(agentmux_turns_total{end="finished"}[1m])', "model", {"planner", "coder", "critic"}),
        ("rate(agentmux_refusals_total[1m])", "reason", {"model_not_found"}),
    ):
        assert {labels[label] for labels, value in asked[1].value(query) if value > 0} == wanted, query
