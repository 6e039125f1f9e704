"""What is counted: an observer of turns, and the requests that were answered; as text for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from agentmux.messages import Event, TurnAdmitted, TurnCancelled, TurnCompleted, TurnErrored, TurnNumbers, TurnQueued
from agentmux.runtime_stats import RuntimeStats

Labels: TypeAlias = tuple[tuple[str, str], ...]
Values: TypeAlias = Mapping[Labels, float]
Metric: TypeAlias = tuple[str, str, str, Values]
"""Name, kind, what it is, [labels] its value."""


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
        self._refusals: Counter[str] = Counter()

    def observe(self, event: Event) -> None:
        """Take notice of an event of any turn."""
        match event:
            case TurnQueued(turn=turn, model=model):
                self._waiting[turn] = model
            case TurnAdmitted(turn=turn, model=model, agent=agent, queue_wait_s=waited_s):
                self._waiting.pop(turn, None)
                self._admitted[agent, model] += 1
                self._waits_s[agent, model] = self._waits_s.get((agent, model), 0.0) + waited_s
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
        lines: list[str] = []
        for name, kind, text, values in [*self._as_llama_server(stats), *_engine(stats), *self._own(stats)]:
            lines += _metric(name, kind, text, values)
        shares: Values = {
            (("model", one.model),): one.resident_bytes / weight_bytes[one.model]
            for one in stats.engine.models
            if weight_bytes.get(one.model)
        }
        lines += _metric("agentmux_model_resident_ratio", "gauge", "Share of a model's weights on the device.", shares)
        return "\n".join(lines) + "\n"

    def _as_llama_server(self, stats: RuntimeStats) -> Iterator[Metric]:
        prompt, generated = self._tokens["prompt"], self._tokens["generated"]
        prefill_s, decode_s = self._seconds["prefill"], self._seconds["decode"]
        rows = (
            ("prompt_tokens_total", "counter", "Prompt tokens computed.", prompt),
            ("prompt_seconds_total", "counter", "Seconds of computing prompts.", prefill_s),
            ("tokens_predicted_total", "counter", "Tokens generated.", generated),
            ("tokens_predicted_seconds_total", "counter", "Seconds of generating.", decode_s),
            ("n_decode_total", "counter", "Steps of the engine.", stats.engine.steps),
            ("prompt_tokens_seconds", "gauge", "Prompt tokens a second.", prompt / prefill_s if prefill_s else 0),
            ("predicted_tokens_seconds", "gauge", "Tokens a second.", generated / decode_s if decode_s else 0),
            ("requests_processing", "gauge", "Turns in the engine.", stats.active),
            ("requests_deferred", "gauge", "Turns that wait.", stats.queued),
        )
        for name, kind, text, value in rows:
            yield f"llamacpp:{name}", kind, text, {(): value}

    def _own(self, stats: RuntimeStats) -> Iterator[Metric]:
        requests: Values = {
            (("endpoint", path), ("status", str(status))): n for (path, status), n in self._requests.items()
        }
        yield "agentmux_requests_total", "counter", "Requests answered.", requests
        refusals: Values = {(("reason", reason),): n for reason, n in self._refusals.items()}
        yield "agentmux_refusals_total", "counter", "Requests answered by an error.", refusals
        turns: Values = {(("model", model), ("end", end)): n for (model, end), n in self._turns.items()}
        yield "agentmux_turns_total", "counter", "Turns by their end.", turns
        waits: Values = {(("agent", agent), ("model", model)): s for (agent, model), s in self._waits_s.items()}
        yield "agentmux_queue_wait_seconds_total", "counter", "Seconds that turns waited for admission.", waits
        admitted: Values = {(("agent", agent), ("model", model)): n for (agent, model), n in self._admitted.items()}
        yield "agentmux_turns_admitted_total", "counter", "Turns handed to the engine.", admitted
        reused: Values = {(): float(self._tokens["reused"])}
        yield "agentmux_prompt_tokens_reused_total", "counter", "Prompt tokens found in a KV cache.", reused
        waiting = Counter(self._waiting.values())
        by_model: Values = {(("model", one.model),): waiting[one.model] for one in stats.engine.models}
        yield "agentmux_queue_turns", "gauge", "Turns that wait for admission.", by_model


def _engine(stats: RuntimeStats) -> Iterator[Metric]:
    engine = stats.engine
    rows = (
        ("switches_total", "counter", "Steps of another model than the step before.", engine.switches),
        ("paged_bytes_total", "counter", "Bytes of weights uploaded to the device.", engine.uploaded_bytes),
        ("switch_wait_seconds_total", "counter", "Seconds that computing waited for uploads.", engine.upload_wait_s),
        ("step_seconds_total", "counter", "Seconds spent in steps.", engine.step_s),
        ("arena_bytes", "gauge", "Room for weights on the device.", engine.arena_bytes),
        ("arena_used_bytes", "gauge", "Weights on the device.", engine.arena_used_bytes),
        ("kv_saved_bytes_total", "counter", "KV cache sent to host memory.", engine.session_bytes_saved),
        ("kv_restored_bytes_total", "counter", "KV cache brought back.", engine.session_bytes_restored),
    )
    for name, kind, text, value in rows:
        yield f"agentmux_{name}", kind, text, {(): value}
    slots: Values = {(("model", one.model),): float(one.slots_active) for one in engine.models}
    yield "agentmux_model_slots_active", "gauge", "Turns of a model in its slots.", slots


def _metric(name: str, kind: str, text: str, values: Values) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        shown = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels)
        yield f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
