"""A server that answers once the first model is there: what it says of those that are not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from agentmux import Agent, EngineError, ModelSpec, NeverFits, Run, Runtime, pipeline
from agentmux.messages import Event
from agentmux.server import ServerSettings
from agentmux.testing import FakeClock, settle
from tests.server.live import Live, chat, code_of
from tests.unit.loads import HeldLoads, opened

NAMES = ("first", "second", "third")


def made(engine: HeldLoads, **settings: Any) -> Callable[[list[Callable[[Event], None]]], Runtime]:
    return lambda observers: opened(engine, config=False, observers=observers, **settings)


def states(live: Live) -> dict[str, str]:
    return {one["id"]: one["agentmux"]["state"] for one in live.get("/v1/models").json()["data"]}


def loaded(live: Live, model: str) -> None:
    live.on_loop(lambda: live.mux.load(model))


def test_requests_wait_for_their_model_and_the_server_says_so() -> None:
    engine = HeldLoads(NAMES, free={"first"})
    with Live(made(engine)) as live, ThreadPoolExecutor() as pool:
        answer = live.post("/v1/chat/completions", chat("first"))
        assert answer.json()["choices"][0]["message"]["content"] == "first says"
        ready = live.get("/ready")
        assert ready.status_code == 503
        assert ready.json() == {"status": "loading", "loading": ["second", "third"], "failed": []}
        assert live.get("/health").json() == {"status": "ok", "active": 0, "queued": 0}
        assert states(live) == {"first": "loaded", "second": "loading", "third": "loading"}
        card = live.get("/v1/models/third").json()
        assert card["agentmux"] == {"kind": "model", "state": "loading"}
        families = {one.name: one for one in text_string_to_metric_families(live.get("/metrics").text)}
        shares = families["agentmux_model_resident_ratio"].samples
        assert [sample.labels["model"] for sample in shares] == ["first"]

        stream = chat("third", stream=True)
        waiting = [pool.submit(live.post, "/v1/chat/completions", body) for body in (chat("third"), stream)]
        while live.on_loop(_waiting(live)) < 2:
            pass
        assert live.get("/ready").json()["loading"] == ["second", "third"], "the second was begun before"
        for model in ("second", "third"):
            engine.let(model)
        whole, streamed = (one.result() for one in waiting)
        assert whole.json()["choices"][0]["message"]["content"] == "third says"
        assert "third says" in streamed.text
        loaded(live, "second")
        ready = live.get("/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "loading": [], "failed": []})
        assert set(states(live).values()) == {"loaded"}


def test_a_model_that_cannot_be_loaded_fails_its_requests_and_no_others() -> None:
    engine = HeldLoads(NAMES, free=NAMES, errors={"second": NeverFits("it is too large")})
    with Live(made(engine)) as live:
        loaded(live, "third")
        ready = live.get("/ready")
        assert ready.status_code == 503
        assert ready.json() == {"status": "failed", "loading": [], "failed": ["second"]}
        assert states(live) == {"first": "loaded", "second": "failed", "third": "loaded"}
        for _ in range(2):
            refused = live.post("/v1/chat/completions", chat("second"))
            assert (refused.status_code, code_of(refused)) == (400, "never_fits")
            assert "it is too large" in refused.json()["error"]["message"]
        assert engine.begun.count("second") == 1, "not at each request"
        assert live.post("/v1/chat/completions", chat("third")).is_success
        assert live.post("/v1/chat/completions", chat("fourth")).status_code == 404


def test_a_server_that_nobody_asks_becomes_ready_once_a_failure_has_passed() -> None:
    """Behind a probe that lets no requests through there are none that could have the model tried again."""
    clock = FakeClock()
    engine = HeldLoads(NAMES, free=NAMES, errors={"second": EngineError("out of memory")})

    async def advance() -> None:
        clock.advance(60)

    with Live(made(engine, clock=clock)) as live:
        loaded(live, "third")
        assert live.get("/ready").json() == {"status": "failed", "loading": [], "failed": ["second"]}
        engine.errors.clear()
        live.on_loop(advance)
        while (ready := live.get("/ready")).json()["status"] == "loading":
            assert ready.status_code == 503
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "loading": [], "failed": []})


class Asker(Agent):
    model = "second"


class Stranger(Agent):
    """Its model is not one of the server's."""

    model = "other"


@pipeline
async def asks_on(ctx: Run, prompt: str) -> str:
    return await ctx.run(Asker, prompt)


def test_requests_for_what_is_published_cause_no_more_attempts_than_those_for_the_model() -> None:
    errors = {name: NeverFits("it is too large") for name in ("second", "other")}
    engine = HeldLoads((*NAMES, "other"), free=(*NAMES, "other"), errors=errors)

    def make(observers: list[Callable[[Event], None]]) -> Runtime:
        given = {name: engine.models[name] for name in NAMES}
        return Runtime(given, engine=engine, config=False, observers=observers, wait_for_models="first")

    with Live(make, targets=[Asker, Stranger, asks_on]) as live:
        loaded(live, "third")
        live.mux._opened().models._find = lambda name: ModelSpec(f"{name}.gguf")
        for name in ("Asker", "asks_on", "Stranger", "second") * 2:
            refused = live.post("/v1/chat/completions", chat(name))
            assert (refused.status_code, code_of(refused)) == (400, "never_fits")
        assert (engine.begun.count("second"), engine.begun.count("other")) == (1, 1)
        assert live.get("/ready").json()["failed"] == ["second"]


def test_as_many_wait_for_models_as_may_wait_and_the_others_are_told() -> None:
    engine = HeldLoads(NAMES, free={"first"})
    with Live(made(engine, queue_limit=1)) as live, ThreadPoolExecutor() as pool:
        waiting = pool.submit(live.post, "/v1/chat/completions", chat("second"))
        while not live.on_loop(_waiting(live)):
            pass
        refused = live.post("/v1/chat/completions", chat("third"))
        assert (refused.status_code, code_of(refused)) == (429, "queue_full")
        assert live.post("/v1/chat/completions", chat("first")).is_success
        for model in NAMES:
            engine.let(model)
        assert waiting.result().is_success


def test_without_a_key_anybody_may_ask_whether_it_is_ready() -> None:
    engine = HeldLoads(NAMES, free=NAMES)
    with Live(made(engine), ServerSettings(port=0, api_keys=("key",))) as live:
        loaded(live, "third")
        assert live.get("/ready").status_code == 200
        assert live.get("/v1/models").status_code == 401


def _waiting(live: Live) -> Callable[[], Any]:
    async def count() -> int:
        await settle(1)
        return live.mux._opened().models.waiting

    return count
