"""The dashboard asks for nothing that ``/metrics`` does not give, and Grafana can lay it out."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.live import Live, chat

PATH = Path(__file__).parents[2] / "docs" / "grafana" / "agentmux.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
FUNCTIONS = frozenset({"sum", "max", "by", "rate", "histogram_quantile", "label_values"})
ADDED = frozenset({"instance", "le"})
"""Labels that Prometheus itself adds, and those of histograms."""
NAME = re.compile(r"[a-zA-Z_:][\w:]*")


def queries() -> list[str]:
    of_panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    of_variables = [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    return of_panels + of_variables


def asked_for(query: str) -> tuple[set[str], set[str]]:
    """Names of metrics and of labels in a query."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]', "", query)
    labels = {name for part in re.findall(r"\{([^}]*)\}|by \(([^)]*)\)", bare) for name in NAME.findall(" ".join(part))}
    rest = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", bare)
    return {name for name in NAME.findall(rest) if name not in FUNCTIONS | ADDED}, labels


@pytest.fixture(scope="module")
def given(live: Live) -> dict[str, set[str]]:
    """[sample] its labels, after a turn and a refusal."""
    assert live.post("/v1/chat/completions", chat("planner", max_tokens=4)).status_code == 200
    assert live.post("/v1/chat/completions", chat("nobody")).status_code == 404
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(live.get("/metrics").text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


def test_every_query_has_only_what_metrics_give(given: dict[str, set[str]]) -> None:
    assert len(queries()) > 20
    for query in queries():
        names, labels = asked_for(query)
        assert names, query
        assert names <= given.keys(), query
        assert labels <= ADDED.union(*(given[name] for name in names)), query
        assert query.count("(") == query.count(")")


def test_counters_are_rated_and_gauges_are_not(given: dict[str, set[str]]) -> None:
    for query in queries()[:-1]:
        for name in asked_for(query)[0]:
            assert (f"rate({name}{{" in query) == name.endswith(("_total", "_bucket")), query


def test_what_paging_costs_is_shown() -> None:
    names = set().union(*(asked_for(query)[0] for query in queries()))
    assert names >= {
        "agentmux_switches_total",
        "agentmux_paged_bytes_total",
        "agentmux_switch_wait_seconds_total",
        "agentmux_turn_queue_seconds_bucket",
        "agentmux_model_resident_ratio",
        "agentmux_kv_saved_bytes_total",
        "agentmux_kv_restored_bytes_total",
        "agentmux_refusals_total",
    }


def test_panels_have_places_and_legends_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= asked_for(target["expr"])[1]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
