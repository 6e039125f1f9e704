"""What is counted: an observer of turns, and the requests that were answered; as text for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from agentmux.chatting import CHAT
from agentmux.messages import Event, TurnAdmitted, TurnCancelled, TurnCompleted, TurnErrored, TurnNumbers, TurnQueued
from agentmux.runtime_stats import RuntimeStats
from agentmux.server.exposition import Histogram, Kind, Metric, Values, exposed
from agentmux.server.problems import CODES


class Traffic:
    """Counts from the server's start. Give ``observe`` to the runtime as an observer."""

    def __init__(self) -> None:
        self._waiting: dict[int, str] = {}
        self._turns: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._waits_s: dict[tuple[str, str], float] = {}
        self._admitted: Counter[tuple[str, str]] = Counter()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._refusals: Counter[str] = Counter(dict.fromkeys(CODES, 0))
        self._longest_tokens = 0
        self._queued_s = Histogram("agentmux_turn_queue_seconds", "Waits of turns for admission.")
        self._first_s = Histogram("agentmux_time_to_first_token_seconds", "From submission to the first token.")
        self._token_s = Histogram("agentmux_time_per_output_token_seconds", "Time of a token after the first.")

    def observe(self, event: Event) -> None:
        """Take notice of an event of any turn."""
        match event:
            case TurnQueued(turn=turn, model=model):
                self._waiting[turn] = model
            case TurnAdmitted(turn=turn, model=model, agent=agent, queue_wait_s=waited_s):
                self._waiting.pop(turn, None)
                self._admitted[agent, model] += 1
                self._waits_s[agent, model] = self._waits_s.get((agent, model), 0.0) + waited_s
                self._queued_s.observe(waited_s, agent=agent, model=model)
            case TurnCompleted(numbers=numbers, model=model):
                self._turns[model, "finished"] += 1
                self._count(numbers)
            case TurnCancelled(turn=turn, model=model):
                self._waiting.pop(turn, None)
                self._turns[model, "cancelled"] += 1
            case TurnErrored(turn=turn, model=model):
                self._waiting.pop(turn, None)
                self._turns[model, "failed"] += 1
            case _:
                pass

    def _count(self, numbers: TurnNumbers) -> None:
        if numbers.replayed:
            return
        self._tokens["prompt"] += numbers.prompt_tokens - numbers.reused_tokens
        self._tokens["reused"] += numbers.reused_tokens
        self._tokens["generated"] += numbers.generated_tokens
        self._seconds["prefill"] += numbers.prefill_s  # type: ignore[assignment]  # Counters add any numbers
        self._seconds["decode"] += numbers.decode_s  # type: ignore[assignment]
        self._longest_tokens = max(self._longest_tokens, numbers.prompt_tokens + numbers.generated_tokens)
        if numbers.generated_tokens:
            self._first_s.observe(numbers.queue_wait_s + numbers.time_to_first_token_s, model=numbers.model)
        if numbers.generated_tokens > 1:
            self._token_s.observe(numbers.decode_s / (numbers.generated_tokens - 1), model=numbers.model)

    def answered(self, endpoint: str, status: int) -> None:
        """A request was answered."""
        self._requests[endpoint, status] += 1

    def refused(self, reason: str) -> None:
        """A request was answered by an error with this code."""
        self._refusals[reason] += 1

    def waiting(self, model: str) -> int:
        """Turns of a model that are in the queue."""
        return sum(1 for one in self._waiting.values() if one == model)

    def text(self, stats: RuntimeStats, weight_bytes: Mapping[str, int]) -> str:
        """All of it, in Prometheus's text format; llama-server's names, and agentmux's own.

        ``weight_bytes``: [model] what is resident when all of it is.
        """
        for one in stats.engine.models:
            self._begin(one.model)
        return exposed(
            [*self._as_llama_server(stats), *_engine(stats), *_models(stats, weight_bytes), *self._own(stats)]
        )

    def _begin(self, model: str) -> None:
        """Have its counters at 0. Of a counter that begins at 1, Prometheus's ``rate`` does not see that 1."""
        for end in ("finished", "cancelled", "failed"):
            self._turns[model, end] += 0
        self._admitted[CHAT, model] += 0
        self._waits_s.setdefault((CHAT, model), 0.0)
        self._queued_s.begin(agent=CHAT, model=model)
        self._first_s.begin(model=model)
        self._token_s.begin(model=model)

    def _as_llama_server(self, stats: RuntimeStats) -> Iterator[Metric]:
        """What llama-server has, and means. Its n_busy_slots_per_decode is left out: nothing here counts that."""
        prompt, generated = self._tokens["prompt"], self._tokens["generated"]
        prefill_s, decode_s = self._seconds["prefill"], self._seconds["decode"]
        rows: tuple[tuple[str, Kind, str, float], ...] = (
            ("prompt_tokens_total", "counter", "Prompt tokens computed.", prompt),
            ("prompt_seconds_total", "counter", "Seconds of computing prompts.", prefill_s),
            ("tokens_predicted_total", "counter", "Tokens generated.", generated),
            ("tokens_predicted_seconds_total", "counter", "Seconds of generating.", decode_s),
            ("n_decode_total", "counter", "Steps of the engine.", stats.engine.steps),
            ("n_tokens_max", "gauge", "Most tokens of a turn, prompt and answer together.", self._longest_tokens),
            ("prompt_tokens_seconds", "gauge", "Prompt tokens a second.", prompt / prefill_s if prefill_s else 0),
            ("predicted_tokens_seconds", "gauge", "Tokens a second.", generated / decode_s if decode_s else 0),
            ("requests_processing", "gauge", "Turns in the engine.", stats.active),
            ("requests_deferred", "gauge", "Turns that wait.", stats.queued),
        )
        for name, kind, text, value in rows:
            yield Metric.one(f"llamacpp:{name}", kind, text, value)

    def _own(self, stats: RuntimeStats) -> Iterator[Metric]:
        requests: Values = {
            (("endpoint", path), ("status", str(status))): n for (path, status), n in self._requests.items()
        }
        yield Metric.of("agentmux_requests_total", "counter", "Requests answered.", requests)
        refusals: Values = {(("reason", reason),): n for reason, n in self._refusals.items()}
        yield Metric.of("agentmux_refusals_total", "counter", "Requests answered by an error.", refusals)
        turns: Values = {(("model", model), ("end", end)): n for (model, end), n in self._turns.items()}
        yield Metric.of("agentmux_turns_total", "counter", "Turns by their end.", turns)
        waits: Values = {(("agent", agent), ("model", model)): s for (agent, model), s in self._waits_s.items()}
        text = "Seconds that turns waited for admission."
        yield Metric.of("agentmux_queue_wait_seconds_total", "counter", text, waits)
        admitted: Values = {(("agent", agent), ("model", model)): n for (agent, model), n in self._admitted.items()}
        yield Metric.of("agentmux_turns_admitted_total", "counter", "Turns handed to the engine.", admitted)
        reused, text = self._tokens["reused"], "Prompt tokens found in a KV cache."
        yield Metric.one("agentmux_prompt_tokens_reused_total", "counter", text, reused)
        waiting = Counter(self._waiting.values())
        by_model: Values = {(("model", one.model),): waiting[one.model] for one in stats.engine.models}
        yield Metric.of("agentmux_queue_turns", "gauge", "Turns that wait for admission.", by_model)
        for histogram in (self._queued_s, self._first_s, self._token_s):
            yield histogram.metric()


def _engine(stats: RuntimeStats) -> Iterator[Metric]:
    engine = stats.engine
    rows: tuple[tuple[str, Kind, str, float], ...] = (
        ("switches_total", "counter", "Steps of another model than the step before.", engine.switches),
        ("paged_bytes_total", "counter", "Bytes of weights uploaded to the device.", engine.uploaded_bytes),
        (
            "prefetched_bytes_total",
            "counter",
            "Of these, uploaded before they were waited for.",
            engine.prefetched_bytes,
        ),
        ("evicted_units_total", "counter", "Layers that made room for others.", engine.evicted_units),
        ("switch_wait_seconds_total", "counter", "Seconds that computing waited for uploads.", engine.upload_wait_s),
        ("step_seconds_total", "counter", "Seconds spent in steps.", engine.step_s),
        ("arena_bytes", "gauge", "Room for weights on the device.", engine.arena_bytes),
        ("arena_used_bytes", "gauge", "Weights on the device.", engine.arena_used_bytes),
        ("device_used_bytes", "gauge", "Memory used on the device.", engine.device_used_bytes),
        ("kv_saved_bytes_total", "counter", "KV cache sent to host memory.", engine.session_bytes_saved),
        ("kv_restored_bytes_total", "counter", "KV cache brought back.", engine.session_bytes_restored),
        (
            "sessions_dropped_total",
            "counter",
            "Conversations dropped for want of host memory.",
            engine.sessions_dropped,
        ),
    )
    for name, kind, text, value in rows:
        yield Metric.one(f"agentmux_{name}", kind, text, value)


def _models(stats: RuntimeStats, weight_bytes: Mapping[str, int]) -> Iterator[Metric]:
    models = stats.engine.models
    slots: Values = {(("model", one.model),): one.slots_active for one in models}
    yield Metric.of("agentmux_model_slots_active", "gauge", "Turns of a model in its slots.", slots)
    resident: Values = {(("model", one.model),): one.resident_bytes for one in models}
    yield Metric.of("agentmux_model_resident_bytes", "gauge", "A model's weights on the device.", resident)
    shares: Values = {
        (("model", one.model),): one.resident_bytes / weight_bytes[one.model]
        for one in models
        if weight_bytes.get(one.model)
    }
    yield Metric.of("agentmux_model_resident_ratio", "gauge", "Share of a model's weights on the device.", shares)
