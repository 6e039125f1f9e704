"""Settings: keyword arguments over ``AGENTMUX_*`` environment variables over defaults. Unknown keys are errors."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agentmux.errors import ConfigError

_UNITS: Mapping[str, int] = MappingProxyType(
    {"": 1, "b": 1}
    | {prefix + "b": 1000**power for power, prefix in enumerate("kmgt", start=1)}
    | {prefix + "ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


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


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model file and how it is to be used. Raises ConfigError for values that cannot be meant."""

    path: str | os.PathLike[str]
    """A GGUF file."""
    context_tokens: int | None = None
    """Context of each slot, prompt and answer together; None: 4096, or what the model was trained on if less."""
    slots: int = 1
    """Turns of this model that may decode at the same time, in one batch."""
    batch_tokens: int = 256
    """Tokens computed in one step at most; longer prompts are prefilled in chunks of this size."""

    def __post_init__(self) -> None:
        for name in ("context_tokens", "slots", "batch_tokens"):
            if (value := getattr(self, name)) is not None:
                _at_least_one(f"ModelSpec.{name}", value)
        if not os.fspath(self.path):
            raise ConfigError("ModelSpec.path is empty")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; None is no limit. Exceeding one raises LimitExceeded (``queue_wait_s``: QueueTimeout)."""

    turns: int | None = None
    """Model calls, retries included."""
    tokens: int | None = None
    """Prompt and generated tokens together. Each turn's answer is held to what the turns under way leave of it, and a
    turn whose prompt takes more than what is left is ended as soon as the engine knows the prompt's length."""
    wall_s: float | None = None
    """Seconds from the start of the run."""
    queue_wait_s: float | None = 3600.0
    """Seconds that one turn may wait for admission."""
    tool_calls: int | None = None
    """Calls of tools, repeated ones included."""

    def __post_init__(self) -> None:
        for name in ("turns", "tokens", "tool_calls"):
            if (count := getattr(self, name)) is not None:
                _at_least_one(f"Limits.{name}", count)
        for name in ("wall_s", "queue_wait_s"):
            seconds = getattr(self, name)
            if seconds is not None and (math.isnan(seconds) or seconds < 0):
                raise ConfigError(f"Limits.{name}={seconds} is not a number of seconds")


def _at_least_one(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r} must be a whole number, at least 1")


def _as_spec(value: Any) -> Any:
    return ModelSpec(value) if isinstance(value, str | os.PathLike) else value


def _as_bytes(value: Any) -> Any:
    return value if value is None else parse_bytes(value)


class RuntimeConfig(BaseModel):
    """All settings of a runtime, checked. Made by ``RuntimeConfig.make``, which raises ConfigError."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    models: dict[str, Annotated[ModelSpec, BeforeValidator(_as_spec)]]
    """[name that agents use] the model."""
    vram: Annotated[int | None, BeforeValidator(_as_bytes)] = None
    """Bytes of device memory for everything; None: what the device has free."""
    device: str = "auto"
    """``auto``, ``cpu`` or a ggml device name such as ``CUDA0``."""
    threads: int | None = Field(default=None, ge=1)
    arena_bytes: Annotated[int | None, BeforeValidator(_as_bytes)] = None
    """Cap on the arena below what ``vram`` leaves for it, for measurements."""
    link_bytes_per_s: int | None = Field(default=None, ge=1)
    debug_poison: bool = False
    limits: Limits = Field(default_factory=Limits)
    """For each run that brings none of its own."""
    queue_limit: int = Field(default=1024, ge=0)
    """Turns that may wait at the same time."""
    max_wait_s: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    """A turn that has waited longer goes before turns of the model that is resident."""
    min_residency_s: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """A model that became resident keeps its turns first for this long, whatever else waits."""
    max_active_slots: int | None = Field(default=None, ge=1)
    """Turns of all models together that may decode at the same time; None: the sum of the models' slots."""

    @classmethod
    def make(cls, environ: Mapping[str, str], **settings: Any) -> RuntimeConfig:
        """Check ``settings``; those that are None come from ``environ``, then from the defaults.

        Raises ConfigError that names the setting.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        for name, variable in (("vram", "AGENTMUX_VRAM"), ("device", "AGENTMUX_DEVICE")):
            if name not in given and environ.get(variable):
                given[name] = environ[variable]
        try:
            return cls(**given)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"invalid runtime settings: {problems}") from error
