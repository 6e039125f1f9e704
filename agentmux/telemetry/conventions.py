"""Names and values of OpenTelemetry's semantic conventions for generative AI, and of agentmux's own attributes.

They are still in development and change, so everything that depends on their version is here. This is version 1.41 of
the attributes (https://github.com/open-telemetry/semantic-conventions-genai): ``gen_ai.provider.name`` in place of
``gen_ai.system``, messages with parts in place of ``gen_ai.prompt`` and ``gen_ai.completion``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from agentmux.messages import AgentStarted, ToolCall, TurnNumbers, TurnQueued

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

PROVIDER = "agentmux"
CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
OUTPUT_RETRIED = "agentmux.output_retried"
"""Name of a span's event: the answer did not validate."""
ERROR_TYPE = "error.type"
UNKNOWN_ERROR = "_OTHER"
"""What the conventions have for errors of no known kind."""


def captures_content(environ: Mapping[str, str]) -> bool:
    """Whether prompts, answers and arguments of tools may be in spans: only where the environment asks for it."""
    return environ.get(CAPTURE_VARIABLE, "").strip().lower() in ("true", "1", "span_only", "span_and_event")


def agent_span(event: AgentStarted) -> tuple[str, Attributes]:
    """Name and attributes of the span of an agent or pipeline function."""
    return f"invoke_agent {event.agent}", {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.name": event.agent,
        "agentmux.run": event.run,
        "agentmux.span": event.span,
    }


def chat_span(run: str, agent: str, turn: int, model: str) -> tuple[str, Attributes]:
    """Name and attributes of a turn's span."""
    return f"chat {model}", {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
        "gen_ai.agent.name": agent,
        "agentmux.run": run,
        "agentmux.turn": turn,
    }


def chat_request(event: TurnQueued, content: bool) -> Attributes:
    """What was asked of the model, and whether it had to wait."""
    found: dict[str, Value] = {
        "gen_ai.request.max_tokens": event.max_tokens,
        "gen_ai.request.temperature": event.temperature,
        "agentmux.queue_position": event.position,
    }
    if event.stop:
        found["gen_ai.request.stop_sequences"] = event.stop
    if event.temperature > 0:
        found |= {
            "gen_ai.request.top_k": event.top_k,
            "gen_ai.request.top_p": event.top_p,
            "gen_ai.request.seed": event.seed,
        }
    if content and isinstance(event.prompt, str):
        found["gen_ai.input.messages"] = _messages("user", event.prompt)
    return found


def chat_response(numbers: TurnNumbers, text: str, content: bool) -> Attributes:
    """What the model answered, and what that took."""
    found: dict[str, Value] = {
        "gen_ai.response.model": numbers.model,
        "gen_ai.response.finish_reasons": (numbers.finish_reason,),
        "gen_ai.response.time_to_first_chunk": numbers.queue_wait_s + numbers.time_to_first_token_s,
        "gen_ai.usage.input_tokens": numbers.prompt_tokens,
        "gen_ai.usage.output_tokens": numbers.generated_tokens,
        "gen_ai.usage.cache_read.input_tokens": numbers.reused_tokens,
        "agentmux.queue_wait_s": numbers.queue_wait_s,
        "agentmux.wait_reason": numbers.wait_reason,
        "agentmux.engine_wait_s": numbers.engine_wait_s,
        "agentmux.prefill_s": numbers.prefill_s,
        "agentmux.decode_s": numbers.decode_s,
        "agentmux.upload_wait_s": numbers.upload_wait_s,
        "agentmux.uploaded_bytes": numbers.uploaded_bytes,
        "agentmux.switched": numbers.switched,
        "agentmux.replayed": numbers.replayed,
    }
    if content:
        found["gen_ai.output.messages"] = _messages("assistant", text, numbers.finish_reason)
    return found


def chat_cancelled() -> Attributes:
    """Of a turn that was cancelled, which is no error."""
    return {"gen_ai.response.finish_reasons": ("cancelled",)}


def tool_span(run: str, agent: str, call: ToolCall, content: bool) -> tuple[str, Attributes]:
    """Name and attributes of a tool call's span."""
    found: dict[str, Value] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.call.id": call.id,
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": agent,
        "agentmux.run": run,
    }
    if content:
        found["gen_ai.tool.call.arguments"] = call.arguments
    return f"execute_tool {call.name}", found


def tool_result(result: str, content: bool) -> Attributes:
    """What a tool gave."""
    return {"gen_ai.tool.call.result": result} if content else {}


def _messages(role: str, text: str, finish_reason: str = "") -> str:
    message: dict[str, object] = {"role": role, "parts": [{"type": "text", "content": text}]}
    if finish_reason:
        message["finish_reason"] = finish_reason
    return json.dumps([message], ensure_ascii=False)
