"""What goes wrong, in the form in which OpenAI's interface tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from starlette.responses import JSONResponse

from agentmux.errors import (
    AdmissionError,
    AgentmuxError,
    ConfigError,
    ContextOverflow,
    LimitExceeded,
    ModelError,
    ModelNotFound,
    NeverFits,
    OutputInvalid,
    QueueFull,
    QueueTimeout,
    RequestInvalid,
    ToolError,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a class of errors is told."""

    status: int
    type: str
    code: str


INVALID = "invalid_request_error"
_KINDS: Mapping[type[Exception], Kind] = MappingProxyType(
    {
        RequestInvalid: Kind(400, INVALID, "invalid_request"),
        ContextOverflow: Kind(400, INVALID, "context_length_exceeded"),
        NeverFits: Kind(400, INVALID, "never_fits"),
        ModelNotFound: Kind(404, INVALID, "model_not_found"),
        QueueFull: Kind(429, "rate_limit_error", "queue_full"),
        QueueTimeout: Kind(429, "rate_limit_error", "queue_timeout"),
        LimitExceeded: Kind(400, INVALID, "limit_exceeded"),
        OutputInvalid: Kind(500, "server_error", "output_invalid"),
        ToolError: Kind(500, "server_error", "tool_failed"),
        ModelError: Kind(500, "server_error", "model_unusable"),
        ConfigError: Kind(500, "server_error", "configuration"),
        AgentmuxError: Kind(503, "server_error", "engine_unavailable"),
    }
)
"""[class] how it is told; the first one that fits counts."""
CODES = tuple(kind.code for kind in _KINDS.values())
"""The codes of all errors of agentmux."""


class Problem(Exception):
    """A request that is answered by an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        type: str = INVALID,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        numbers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.numbers = dict(numbers or {})

    @property
    def document(self) -> dict[str, Any]:
        """As OpenAI has it; ``numbers`` holds the figures behind it, where there are some."""
        said = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": said | ({"numbers": self.numbers} if self.numbers else {})}

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.document, self.status, self.headers)


def problem_of(error: Exception) -> Problem:
    """What a client is told of an error. Of one that agentmux did not expect, its kind and nothing else."""
    if isinstance(error, Problem):
        return error
    for kind, told in _KINDS.items():
        if isinstance(error, kind):
            numbers = error.numbers if isinstance(error, AgentmuxError) else {}
            return Problem(
                told.status,
                str(error),
                code=told.code,
                type=told.type,
                headers=_retry(error),
                numbers={name: value for name, value in numbers.items() if math.isfinite(value)},
            )
    return Problem(500, f"internal error: {type(error).__name__}", code="internal_error", type="server_error")


def _retry(error: Exception) -> dict[str, str]:
    """Whole seconds, at least one; also where nobody knows, since an immediate retry is refused again."""
    if not isinstance(error, QueueFull | QueueTimeout):
        return {}
    assert isinstance(error, AdmissionError)
    return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
