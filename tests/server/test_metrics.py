"""``/metrics`` as Prometheus reads it, after real turns."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from agentmux import Agent, QueueFull, Run, pipeline
from agentmux.server.exposition import Histogram, exposed
from agentmux.server.exposition import Metric as Ours
from agentmux.testing import Answer, Refusal
from tests.server.live import Live, chat
from tests.server.test_capacity import scripted


def families(live: Live) -> dict[str, Metric]:
    return {one.name: one for one in text_string_to_metric_families(live.get("/metrics").text)}


def value(metric: Metric, name: str = "", **labels: str) -> float:
    """The one sample with these labels."""
    (found,) = [
        sample.value
        for sample in metric.samples
        if labels.items() <= sample.labels.items() and sample.name in (name, metric.name, f"{metric.name}_total")
    ]
    return float(found)


@pytest.fixture(scope="module")
def asked(live: Live) -> tuple[dict[str, Metric], dict[str, Metric], list[Any]]:
    """Metrics before and after three chats with two of the bundled models, and their answers."""
    before = families(live)
    answers = []
    for model, session in (("planner", "s"), ("coder", None), ("planner", "s")):
        more = {} if session is None else {"session": session}
        answer = live.post("/v1/chat/completions", chat(model, "sort a list", max_tokens=12, **more))
        assert answer.status_code == 200
        answers.append(answer.json())
    assert live.post("/v1/chat/completions", chat("nobody")).status_code == 404
    return before, families(live), answers


def grown(asked: tuple[dict[str, Metric], dict[str, Metric], list[Any]], family: str, **labels: str) -> float:
    def total(found: dict[str, Metric]) -> float:
        samples = found[family].samples if family in found else []
        return sum(one.value for one in samples if labels.items() <= one.labels.items() and "_" in one.name)

    return total(asked[1]) - total(asked[0])


Asked = tuple[dict[str, Metric], dict[str, Metric], list[Any]]


def test_llama_servers_names_have_the_turns_tokens(asked: Asked) -> None:
    usages = [answer["usage"] for answer in asked[2]]
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert cached > 0
    assert grown(asked, "llamacpp:prompt_tokens") == sum(usage["prompt_tokens"] for usage in usages) - cached
    assert grown(asked, "agentmux_prompt_tokens_reused") == cached
    assert grown(asked, "llamacpp:tokens_predicted") == sum(usage["completion_tokens"] for usage in usages)
    for name in ("prompt_seconds", "tokens_predicted_seconds", "n_decode"):
        assert grown(asked, f"llamacpp:{name}") > 0
    after = asked[1]
    for name in ("prompt_tokens_seconds", "predicted_tokens_seconds"):
        assert value(after[f"llamacpp:{name}"]) > 0
    assert value(after["llamacpp:n_tokens_max"]) >= max(usage["total_tokens"] for usage in usages)
    assert [value(after[f"llamacpp:requests_{name}"]) for name in ("processing", "deferred")] == [0, 0]


def test_our_own_names_have_the_turns(asked: Asked) -> None:
    assert grown(asked, "agentmux_turns", model="planner", end="finished") == 2
    assert grown(asked, "agentmux_turns", model="coder", end="finished") == 1
    assert grown(asked, "agentmux_turns_admitted", agent="chat", model="planner") == 2
    assert grown(asked, "agentmux_switches") >= 1
    assert grown(asked, "agentmux_refusals", reason="model_not_found") == 1
    assert grown(asked, "agentmux_requests", endpoint="/v1/chat/completions", status="200") == 3


@pytest.mark.parametrize("name", ["turn_queue_seconds", "time_to_first_token_seconds", "time_per_output_token_seconds"])
def test_histograms_have_each_turn_once(asked: Asked, name: str) -> None:
    def count(found: dict[str, Metric], suffix: str, **labels: str) -> float:
        metric = found.get(f"agentmux_{name}")
        samples = metric.samples if metric else []
        wanted = {"model": "planner", **labels}
        return sum(one.value for one in samples if one.name.endswith(suffix) and wanted.items() <= one.labels.items())

    assert count(asked[1], "_count") - count(asked[0], "_count") == 2
    assert count(asked[1], "_bucket", le="+Inf") == count(asked[1], "_count")
    assert count(asked[1], "_sum") > count(asked[0], "_sum")


def test_names_say_their_kind_and_unit(asked: Asked) -> None:
    for family in asked[1].values():
        names = {sample.name for sample in family.samples}
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "counter":
            assert all(name.endswith("_total") for name in names)
        assert not re.search(r"_(ms|us|kb|mb|mib|gb|percent)(_|$)", family.name)


def test_residency_and_uploads() -> None:
    with Live(scripted(lambda _: Answer("yes"))) as live:
        assert live.post("/v1/chat/completions", chat("m")).status_code == 200
        found = families(live)
        weight_bytes = live.mux.footprint("m").weight_bytes
    assert value(found["agentmux_paged_bytes"]) == weight_bytes > 0
    assert value(found["agentmux_model_resident_bytes"], model="m") == weight_bytes
    assert value(found["agentmux_model_resident_ratio"], model="m") == 1.0


class Odd(Agent):
    """With a name that has to be escaped."""

    name = 'a "b" \\ c\nd'
    model = "m"


@pipeline
async def odd(ctx: Run, text: str) -> str:
    """Asks it."""
    return await ctx.run(Odd, text)


def test_refusals_by_reason_and_waits_by_agent() -> None:
    steps = iter([Answer("yes"), Refusal(QueueFull("full", queued=1, queue_limit=1, retry_after_s=1.0))])
    with Live(scripted(lambda _: next(steps)), targets=[odd]) as live:
        assert live.post("/v1/chat/completions", chat("odd")).status_code == 200
        assert live.post("/v1/chat/completions", chat("odd")).status_code == 429
        found = families(live)
    refused = [(one.labels["reason"], one.value) for one in found["agentmux_refusals"].samples if one.value]
    assert refused == [("queue_full", 1)]
    admitted = [one for one in found["agentmux_turns_admitted"].samples if one.value]
    assert [(one.labels["agent"], one.labels["model"], one.value) for one in admitted] == [("Odd", "m", 1)]


def test_counters_are_there_before_their_first_event() -> None:
    with Live(scripted(lambda _: Answer("yes"))) as live:
        found = families(live)
    assert {one.labels["end"]: one.value for one in found["agentmux_turns"].samples} == {
        "finished": 0,
        "cancelled": 0,
        "failed": 0,
    }
    assert value(found["agentmux_refusals"], reason="queue_full") == 0
    for name, labels in (
        ("turn_queue", {"agent": "chat", "model": "m"}),
        ("time_to_first_token", {"model": "m"}),
        ("time_per_output_token", {"model": "m"}),
    ):
        assert value(found[f"agentmux_{name}_seconds"], f"agentmux_{name}_seconds_count", **labels) == 0


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")),
    st.floats(0, 1e12),
)
def test_any_label_and_value_come_back(text: str, number: float) -> None:
    shown = exposed([Ours.of("x", "gauge", "X.", {(("a", text), ("b", "c")): number})])
    (family,) = text_string_to_metric_families(shown)
    assert [(one.labels, one.value) for one in family.samples] == [({"a": text, "b": "c"}, number)]


@given(st.lists(st.floats(0, 1000), max_size=20))
def test_a_histograms_buckets_add_up(values: list[float]) -> None:
    histogram = Histogram("x_seconds", "X.")
    for one in values:
        histogram.observe(one, model="m")
    samples = [
        one for family in text_string_to_metric_families(exposed([histogram.metric()])) for one in family.samples
    ]
    for sample in samples:
        if sample.name == "x_seconds_bucket":
            assert sample.value == sum(one <= float(sample.labels["le"]) for one in values)
        elif sample.name == "x_seconds_count":
            assert sample.value == len(values)
        else:
            assert sample.value == pytest.approx(sum(values))
    assert bool(samples) == bool(values)
