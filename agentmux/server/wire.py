"""The bodies of requests, as OpenAI's interface has them. Unknown members are ignored, wrong types are not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class Wire(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Part(Wire):
    """A part of a message's content."""

    type: str
    text: str | None = None


class FunctionCall(Wire):
    """What a call calls."""

    name: Text
    arguments: str


class CallPart(Wire):
    """A call in an assistant's message."""

    id: Text
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Wire):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[CallPart] | None = None
    tool_call_id: str | None = None


class Function(Wire):
    """What a tool is."""

    name: Text
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolPart(Wire):
    """A tool that the client can run."""

    type: Literal["function"]
    function: Function


class FunctionName(Wire):
    """A function's name."""

    name: Text


class NamedChoice(Wire):
    """The tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(Wire):
    """What an answer must be."""

    name: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(Wire):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Wire):
    """What a stream has beside the answer."""

    include_usage: bool | None = None


class TemplateOptions(Wire):
    """Variables of the chat template that can be set; llama-server and vLLM have the same member."""

    enable_thinking: bool | None = None


class Sampled(Wire):
    """What chats and completions have in common."""

    model: Text
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Bias] | None = None
    seed: int | None = None
    stop: Text | Annotated[list[Text], Field(max_length=16)] | None = None
    session: Text | None = None
    """agentmux's own: a conversation's name, under which its KV cache is found again."""


class ChatBody(Sampled):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[ToolPart] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    chat_template_kwargs: TemplateOptions | None = None
    functions: Any = None
    function_call: Any = None


class CompletionBody(Sampled):
    """``POST /v1/completions``."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None
