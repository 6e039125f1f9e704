"""The bodies of responses, as the OpenAPI description has them. None is made from these: tests hold them to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
FinishReason = Literal["stop", "length", "tool_calls"]


class Form(BaseModel):
    """What all have in common: there is nothing but what is named."""

    model_config = ConfigDict(extra="forbid")


class Fault(Form):
    """What went wrong."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str
    numbers: dict[str, float] = {}


class Refused(Form):
    """Any request that is answered by an error."""

    error: Fault


class CachedTokens(Form):
    """Of the prompt."""

    cached_tokens: Count


class TokenUsage(Form):
    """What an answer took."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: CachedTokens = CachedTokens(cached_tokens=0)


class Likely(Form):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[Annotated[int, Field(ge=0, le=255)]]


class Generated(Likely):
    """A token of the answer, beside what else was likely in its place."""

    top_logprobs: list[Likely]


class ChatLogprobs(Form):
    """Of an answer's tokens."""

    content: list[Generated]
    refusal: None


class CalledFunction(Form):
    """What is called, and by which arguments, as JSON text."""

    name: str
    arguments: str


class Call(Form):
    """A call of one of the request's tools."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Form):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[Call] = []


class ChatChoice(Form):
    """One of the answers."""

    index: Count
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Form):
    """Answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage


class TextLogprobs(Form):
    """Of a text's tokens."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]


class TextChoice(Form):
    """One of the texts."""

    index: Count
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


class TextCompletion(Form):
    """What comes after texts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage


class ModelCard(Form):
    """What can be named as a model. ``agentmux``: its state; see the guide."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    agentmux: dict[str, Any]


class ModelCards(Form):
    """All of them."""

    object: Literal["list"]
    data: list[ModelCard]


class HealthCard(Form):
    """How it is."""

    status: Literal["ok", "stalled"]
    active: Count
    queued: Count
    stalled_s: float = 0.0


class ReadyCard(Form):
    """Whether all models are there: names of those that are on their way, and of those that could not be loaded."""

    status: Literal["ready", "loading", "failed"]
    loading: list[str]
    failed: list[str]
