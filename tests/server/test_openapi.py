"""The OpenAPI description, and a fuzzer that believes it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from starlette.routing import Route

from agentmux import Runtime
from agentmux.models import bundled_models
from agentmux.server import ServerSettings
from agentmux.server.app import _ROUTES
from agentmux.server.forms import ChatCompletion, Form, Refused, TextCompletion
from agentmux.server.openapi import description
from tests.server.live import Live, chat

SEED = 20_261_123
EXAMPLES = 150
NEEDED = {"model", "messages", "prompt", "input"}
NOT_ASKED = ("/openapi.json", "/v1/embeddings", "/live")
"""The last is a stream that ends only with the server."""


@pytest.fixture(scope="module")
def bounded() -> Iterator[Live]:
    """The demonstration models, which may answer to little at once."""
    limits = ServerSettings(port=0, max_choices=2, max_messages=4)
    with Live(
        lambda observers: Runtime(models=bundled_models(), device="cpu", threads=1, config=False, observers=observers),
        limits,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def described(bounded: Live) -> Any:
    """The description as the fuzzer reads it."""
    schema = schemathesis.openapi.from_url(f"{bounded.url}/openapi.json")
    # What no schema can say is 400 too: a call of a user, a tool named twice, a prompt longer than the context.
    schema.config.checks.positive_data_acceptance.expected_statuses = ["200", "400", "404"]
    return schema


POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
ASKED = [
    *((path, verb, POSITIVE) for path, (verb, _) in _ROUTES.items() if path not in NOT_ASKED),
    *((path, verb, NEGATIVE) for path, (verb, _) in _ROUTES.items() if verb == "POST" and path not in NOT_ASKED),
]


@pytest.mark.parametrize(("path", "verb", "mode"), ASKED, ids=[f"{mode.value} {path}" for path, _, mode in ASKED])
def test_the_fuzzer_finds_nothing(described: Any, path: str, verb: str, mode: GenerationMode) -> None:
    operation = described[path.replace(":path", "")][verb]
    seen: Counter[int] = Counter()

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES if verb == "POST" else 10,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), st.sets(st.integers(0, 31), max_size=3))
    def ask(case: Any, chosen: set[int]) -> None:
        if mode is POSITIVE and verb == "POST":
            # With few members at a time: of all of them together, one is always such as no model can do.
            wanted = NEEDED | {list(case.body)[at] for at in chosen if at < len(case.body)}
            few = {"max_output_tokens": 4} if path == "/v1/responses" else {"max_tokens": 4}
            case.body = few | {name: value for name, value in case.body.items() if name in wanted}
        seen[case.call_and_validate().status_code] += 1

    ask()
    assert (200 in seen) == (mode is POSITIVE and "{" not in path)


def test_every_endpoint_is_described_by_its_own_words(bounded: Live) -> None:
    document = bounded.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    operations = {(path, verb): one for path, verbs in document["paths"].items() for verb, one in verbs.items()}
    assert {path for path, _ in operations} == {path.replace(":path", "") for path in _ROUTES}
    assert all(one["summary"].endswith(".") for one in operations.values())
    assert document["components"]["schemas"]["ChatBody"]["properties"]["model"]["enum"] == list(bundled_models())
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named | {"Refused", "ChatBody", "CompletionBody", "ResponseBody"} == set(document["components"]["schemas"])


def test_a_description_is_valid_openapi(bounded: Live) -> None:
    """Of any of its schemas."""
    for name, one in bounded.get("/openapi.json").json()["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **one}), name


def test_a_key_is_described_where_one_is_needed() -> None:
    routes = [Route(path, lambda _: None, methods=[verb]) for path, (verb, _) in _ROUTES.items()]
    open_to_all = description(routes, ("m",), ServerSettings())
    assert "security" not in open_to_all
    guarded = description(routes, ("m",), ServerSettings(api_keys=("k",)))
    assert guarded["security"] == [{"key": []}]
    assert guarded["paths"]["/health"]["get"]["security"] == []


def test_answers_with_everything_are_as_described(bounded: Live) -> None:
    add = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}}
    asked: list[tuple[str, type[Form], dict[str, Any]]] = [
        ("/v1/chat/completions", ChatCompletion, chat("planner", logprobs=True, top_logprobs=3, n=2)),
        ("/v1/chat/completions", ChatCompletion, chat("planner", tools=[add], tool_choice="required")),
        ("/v1/completions", TextCompletion, {"model": "coder", "prompt": "x", "logprobs": 2}),
        ("/v1/chat/completions", Refused, chat("planner", n=9)),
        ("/v1/completions", Refused, {"model": "coder", "prompt": "x" * 9000}),
    ]
    for path, form, body in asked:
        form.model_validate_json(bounded.post(path, {"max_tokens": 200, "temperature": 0, **body}).text)


def test_an_endpoint_without_a_description_has_a_general_one() -> None:
    async def answer(request: object) -> None:
        """Something of a user's own.

        And more."""

    made = description([Route("/mine/{thing}", answer, methods=["POST"])], (), ServerSettings())
    operation = made["paths"]["/mine/{thing}"]["post"]
    assert operation["summary"] == "Something of a user's own."
    assert [one["name"] for one in operation["parameters"]] == ["thing"]
    assert {"200", "400", "415", "429"} <= set(operation["responses"])
