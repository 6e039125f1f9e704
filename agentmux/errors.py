"""The one tree of errors.

::

    AgentmuxError
    ├── ConfigError            a setting that cannot be meant
    ├── RequestInvalid         a turn that cannot be run as asked (token ids, grammar, sampling values)
    ├── ModelError
    │   ├── ModelNotFound      no such file or name
    │   ├── ModelCorrupt       the file is damaged or lies about itself
    │   └── ModelUnsupported   a sound file that llama.cpp (or the engine) cannot decode
    ├── AdmissionError         each with the numbers that led to it
    │   ├── NeverFits          could not run even if everything else were gone
    │   ├── QueueFull          the queue's bound is reached
    │   └── QueueTimeout       waited longer than the limit allows
    ├── ContextOverflow        prompt and room to answer exceed the context; nothing is ever cut silently
    ├── OutputInvalid          the model's answer failed validation
    ├── ToolError              a tool raised, or was called too often with the same arguments
    │   └── ToolInDoubt        it was under way when its process ended; nobody knows whether it took effect
    ├── LimitExceeded          a run's budget is used up
    ├── JournalError           the journal cannot be read or written, or has no such run
    └── EngineError            the engine itself failed or is closed

The native engine reports a code and named numbers; ``from_code`` is the one table from codes to classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


class AgentmuxError(Exception):
    """Base of every error that agentmux raises on purpose.

    ``numbers`` holds the figures behind the message (bytes, tokens, seconds), by name. ``partial``, where the error
    ended a run, is that run's ``RunResult`` so far: usage, messages and turns, without an output.
    """

    def __init__(self, message: str, **numbers: float) -> None:
        super().__init__(message)
        self.partial: Any = None
        self.message = message
        self.numbers: dict[str, float] = dict(numbers)


class ConfigError(AgentmuxError):
    """A setting, environment variable or argument has a value that cannot be meant."""


class RequestInvalid(AgentmuxError):
    """A turn cannot be run as asked: token ids out of range, an invalid grammar, NaN sampling values."""


class ModelError(AgentmuxError):
    """Something is wrong with a model. Never raised itself."""


class ModelNotFound(ModelError):
    """No file at that path, or no model of that name."""


class ModelCorrupt(ModelError):
    """The file is truncated, is no GGUF, or its header contradicts itself."""


class ModelUnsupported(ModelError):
    """A sound file that cannot be decoded: unknown architecture, an encoder, a vocabulary without weights."""


class AdmissionError(AgentmuxError):
    """A turn was refused. Never raised itself; its subclasses carry the numbers as attributes.

    Attributes: ``needed_bytes``, ``available_bytes``, ``budget_bytes`` (0 where bytes were not the reason),
    ``queued`` and ``queue_limit`` (turns), ``waited_s``, ``retry_after_s`` (when it may be worth trying again, from how
    long turns took so far; 0 where that is not known).
    """

    def __init__(self, message: str, **numbers: float) -> None:
        super().__init__(message, **numbers)
        self.needed_bytes = int(numbers.get("needed_bytes", 0))
        self.available_bytes = int(numbers.get("available_bytes", 0))
        self.budget_bytes = int(numbers.get("budget_bytes", 0))
        self.queued = int(numbers.get("queued", 0))
        self.queue_limit = int(numbers.get("queue_limit", 0))
        self.waited_s = float(numbers.get("waited_s", 0.0))
        self.retry_after_s = float(numbers.get("retry_after_s", 0.0))


class NeverFits(AdmissionError):
    """It would not fit even with everything else gone, so waiting is pointless."""


class QueueFull(AdmissionError):
    """As many turns wait as the queue may hold."""


class QueueTimeout(AdmissionError):
    """The turn waited for as long as its limit allows and was not admitted."""


class ContextOverflow(AgentmuxError):
    """The prompt leaves no room in the context. ``prompt_tokens`` and ``context_tokens`` say by how much."""

    def __init__(self, message: str, **numbers: float) -> None:
        super().__init__(message, **numbers)
        self.prompt_tokens = int(numbers.get("prompt_tokens", 0))
        self.context_tokens = int(numbers.get("context_tokens", 0))


class OutputInvalid(AgentmuxError):
    """The model's answer did not validate. ``attempts`` holds every answer that was tried, oldest first."""

    def __init__(self, message: str, attempts: tuple[str, ...] = (), **numbers: float) -> None:
        super().__init__(message, **numbers)
        self.attempts = attempts


class ToolError(AgentmuxError):
    """A tool raised; the original exception is the cause."""


class ToolInDoubt(ToolError):
    """A run is resumed, and this tool was under way when its process ended: whether it took effect is not known.

    Not raised for tools that are declared idempotent; those are run again.
    """


class LimitExceeded(AgentmuxError):
    """A run used up one of its limits (turns, tokens, tool calls, wall time)."""


class JournalError(AgentmuxError):
    """The journal cannot be read or written, has no such run, or the run cannot be resumed."""


class EngineError(AgentmuxError):
    """The engine failed, or was used after it was closed."""


_BY_CODE: Mapping[str, type[AgentmuxError]] = {
    "config": ConfigError,
    "request_invalid": RequestInvalid,
    "model_not_found": ModelNotFound,
    "model_corrupt": ModelCorrupt,
    "model_unsupported": ModelUnsupported,
    "never_fits": NeverFits,
    "context_overflow": ContextOverflow,
    "engine": EngineError,
}


def from_code(code: str, message: str, numbers: Mapping[str, float] | None = None) -> AgentmuxError:
    """The exception for an engine's error code (one of ``native/src/base/error.h``); unknown codes are EngineError."""
    return _BY_CODE.get(code, EngineError)(message, **dict(numbers or {}))


def first_of(error: BaseException) -> BaseException:
    """The first error of a group, which is how a TaskGroup reports; any other error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def said(error: BaseException) -> str:
    """What an error says; its class where it says nothing. A group of errors, as a TaskGroup raises it, says only how
    many they are: then also what the first of them says."""
    text = str(error) or type(error).__name__
    first = first_of(error)
    return text if first is error else f"{text}: {type(first).__name__}: {first}"


def again(error: Exception) -> Exception:
    """Another error like this one, for another who waits: what is noted on an error belongs to one run."""
    other = copy.copy(error)
    other.__cause__ = error.__cause__
    return other


def known_codes() -> frozenset[str]:
    """The codes that ``from_code`` maps; a test compares them with the engine's own list."""
    return frozenset(_BY_CODE)
