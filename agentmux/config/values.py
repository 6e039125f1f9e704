"""The values that settings are made of; each checks itself."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, get_args

from annotated_types import Ge
from pydantic import ConfigDict

from agentmux.errors import ConfigError

Oversize = Literal["auto", "stream", "host"]
WaitForModels = Literal["all", "first"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "text", "json"]
Count: TypeAlias = Annotated[int, Ge(1)]
Seconds: TypeAlias = Annotated[float, Ge(0)]

_UNITS: Mapping[str, int] = MappingProxyType(
    {"": 1, "b": 1}
    | {prefix + "b": 1000**power for power, prefix in enumerate("kmgt", start=1)}
    | {prefix + "ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_HUB_NAME = re.compile(r"hf:.*|\w[\w.-]*/\w[\w.-]*:[\w-]+", re.ASCII | re.DOTALL)
_TABLE = ConfigDict(extra="forbid")
"""Of the tables' schema."""


def parse_bytes(value: int | str) -> int:
    """Bytes from ``8589934592``, ``"8GiB"`` (powers of 1024) or ``"8.5 GB"`` (powers of 1000), at least 1.

    Raises ConfigError for anything else; a fraction of a byte is rounded down.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigError(f'{value!r} is not a size; write a number of bytes, or text such as "8GiB" or "512MiB"')
    if isinstance(value, int):
        size = value
    else:
        match = _SIZE.fullmatch(value.strip())
        if match is None or match[2].lower() not in _UNITS:
            raise ConfigError(f'{value!r} is not a size; write a number and a unit, such as "8GiB", "512MiB" or "8GB"')
        size = int(Decimal(match[1]) * _UNITS[match[2].lower()])
    if size < 1:
        raise ConfigError(f"{value!r} is not a size above zero")
    return size


def is_path(text: str) -> bool:
    """Whether ``text`` is written as a path: with a separator, or with ``.gguf`` at its end, and is no hub name.

    ``hf:owner/repo:pattern`` and ``owner/repo:Q4_K_M`` are hub names; write ``./owner/repo:Q4_K_M`` for such a file.
    """
    return not _HUB_NAME.fullmatch(text) and ("/" in text or os.sep in text or text.lower().endswith(".gguf"))


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model and how it is to be used. Raises ConfigError for values that cannot be meant."""

    __pydantic_config__ = _TABLE

    path: str | os.PathLike[str]
    """A GGUF file (the first part where it is split), or anything else that ``agentmux.models.resolve`` knows: a name
    in the registry, a bundled model, ``hf:owner/repo:pattern``."""
    context_tokens: Count | None = None
    """Context of each slot, prompt and answer together; None: 4096, or what the model was trained on if less."""
    slots: Count = 1
    """Turns of this model that may decode at the same time, in one batch."""
    batch_tokens: Count = 256
    """Tokens computed in one step at most; longer prompts are prefilled in chunks of this size."""
    system_messages: bool = True
    """Whether the model is shown agents' instructions and schemas. False is for models that were trained on bare
    questions, as the bundled ones were: anything else before the question only confuses them."""

    def __post_init__(self) -> None:
        for name in ("context_tokens", "slots", "batch_tokens"):
            if (value := getattr(self, name)) is not None:
                _at_least_one(f"ModelSpec.{name}", value)
        if not isinstance(self.system_messages, bool):
            raise ConfigError(f"ModelSpec.system_messages={self.system_messages!r} must be true or false")
        _path("ModelSpec.path", self.path)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; None is no limit. Exceeding one raises LimitExceeded (``queue_wait_s``: QueueTimeout)."""

    __pydantic_config__ = _TABLE

    turns: Count | None = None
    """Model calls, retries included."""
    tokens: Count | None = None
    """Prompt and generated tokens of complete turns together, which never pass it: a turn is given the room that it may
    come to need, waits where those under way leave too little of it, and has to do with what is left where none is."""
    wall_s: Seconds | None = None
    """Seconds from the start of the run."""
    queue_wait_s: Seconds | None = 3600.0
    """Seconds that one turn may wait for admission."""
    tool_calls: Count | None = None
    """Calls of tools, of all agents of the run together, repeated ones included."""

    def __post_init__(self) -> None:
        for name in ("turns", "tokens", "tool_calls"):
            if (count := getattr(self, name)) is not None:
                _at_least_one(f"Limits.{name}", count)
        for name in ("wall_s", "queue_wait_s"):
            if (seconds := getattr(self, name)) is not None:
                _not_negative(f"Limits.{name}", seconds, "of seconds")


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Where runs are recorded so that they can be resumed, and for how long. Raises ConfigError."""

    __pydantic_config__ = _TABLE

    path: str | os.PathLike[str] | None = None
    """The journal's file; None: the one in ``AGENTMUX_HOME``."""
    enabled: bool = True
    max_age_days: Seconds | None = None
    """Runs that ended longer ago are deleted; None: they are kept."""
    max_runs: Count | None = None
    """Only this many runs that have ended are kept, the latest; None: all."""

    def __post_init__(self) -> None:
        if self.path is not None:
            _path("JournalConfig.path", self.path)
        if not isinstance(self.enabled, bool):
            raise ConfigError(f"JournalConfig.enabled={self.enabled!r} must be true or false")
        if self.max_age_days is not None:
            _not_negative("JournalConfig.max_age_days", self.max_age_days, "of days")
        if self.max_runs is not None:
            _at_least_one("JournalConfig.max_runs", self.max_runs)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is logged, and how. Raises ConfigError."""

    __pydantic_config__ = _TABLE

    level: LogLevel | None = None
    """The least level that is shown; None: what the application, or the command line, has set up."""
    format: LogFormat = "auto"
    """``text`` for people, ``json`` for programs, one object a line; ``auto``: text on a terminal, else JSON."""

    def __post_init__(self) -> None:
        if self.level is not None:
            _one_of("LogConfig.level", self.level, get_args(LogLevel))
        _one_of("LogConfig.format", self.format, get_args(LogFormat))


def _at_least_one(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r} must be a whole number, at least 1")


def _not_negative(name: str, value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise ConfigError(f"{name}={value!r} is not a number {what}")


def _path(name: str, value: Any) -> None:
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{name}={value!r} is not a path")
    if not os.fspath(value) or "\0" in str(value):
        raise ConfigError(f"{name} is empty" if not os.fspath(value) else f"{name}={value!r} holds a null character")


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r} is none of {', '.join(choices)}")
