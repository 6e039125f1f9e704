"""Settings: sizes, precedence, and everything that cannot be meant."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux import ConfigError, Limits, ModelSpec
from agentmux.config import RuntimeConfig, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (123, 123),
        ("123", 123),
        ("8GiB", 8 * 1024**3),
        ("512MiB", 512 * 1024**2),
        ("8GB", 8 * 1000**3),
        ("5.5MB", 5_500_000),
        (" 1.5 kib ", 1536),
        ("2TiB", 2 * 1024**4),
        ("10B", 10),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "8 G", "-1GiB", "1e9", "8GiBs", 0, -5, "0", "0.1B", True, 1.5, None, "٣GiB x"]
)
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(ConfigError):
        parse_bytes(text)


@given(st.integers(1, 10**6), st.sampled_from(["kB", "MB", "GB", "KiB", "MiB", "GiB"]))
def test_units_are_powers(count: int, unit: str) -> None:
    assert parse_bytes(f"{count}{unit}") == count * parse_bytes(f"1{unit}")


def make(environ: dict[str, str] | None = None, **settings: Any) -> RuntimeConfig:
    return RuntimeConfig.make(environ or {}, **{"models": {"m": "m.gguf"}, **settings})


def test_keywords_go_before_the_environment_before_defaults() -> None:
    environ = {"AGENTMUX_VRAM": "1GiB", "AGENTMUX_DEVICE": "CUDA0"}
    assert (make().vram, make().device) == (None, "auto")
    assert (make(environ).vram, make(environ).device) == (1024**3, "CUDA0")
    given_too = make(environ, vram="2GiB", device="cpu")
    assert (given_too.vram, given_too.device) == (2 * 1024**3, "cpu")


def test_models_are_paths_or_specs() -> None:
    config = make(models={"a": "a.gguf", "b": Path("b.gguf"), "c": ModelSpec("c.gguf", 8192, slots=4)})
    assert config.models["a"] == ModelSpec("a.gguf")
    assert config.models["b"].path == Path("b.gguf")
    assert (config.models["c"].context_tokens, config.models["c"].slots) == (8192, 4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"vram": "much"}, "much"),
        ({"queue_limit": -1}, "queue_limit"),
        ({"max_wait_s": math.nan}, "max_wait_s"),
        ({"min_residency_s": -1}, "min_residency_s"),
        ({"threads": 0}, "threads"),
        ({"max_active_slots": 0}, "max_active_slots"),
        ({"models": {"m": 3}}, "models.m"),
        ({"colour": "red"}, "colour"),
        ({"limits": "none"}, "limits"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make(**settings)


def test_an_environment_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="lots"):
        make({"AGENTMUX_VRAM": "lots"})


@pytest.mark.parametrize("field", ["context_tokens", "slots", "batch_tokens"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "4"])
def test_model_specs_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        ModelSpec("m.gguf", **{field: value})


def test_a_model_needs_a_path() -> None:
    with pytest.raises(ConfigError, match="empty"):
        ModelSpec("")


@pytest.mark.parametrize("bad", [{"turns": 0}, {"tokens": -1}, {"wall_s": -1.0}, {"queue_wait_s": math.nan}])
def test_limits_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Limits(**bad)
