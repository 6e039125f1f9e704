"""The models of ``agentmux bench server``: bundled ones, and random ones in the shapes of real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentmux.bench import shapes
from agentmux.bench.shapes import PREFIX
from agentmux.config import ModelSpec
from agentmux.errors import ConfigError
from agentmux.models import bundled_models

_CONTEXT_TOKENS, _SLOTS = 1024, 4
"""Of random models: enough for any question and answer here, and answers that share a step."""


def check_models(models: Sequence[str]) -> None:
    """Raises ConfigError for none, one that is not there, and a bundled one that is named twice."""
    if not models:
        raise ConfigError("there must be a model")
    bundled = bundled_models()
    for name in models:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in shapes.SHAPES:
            raise ConfigError(f"no {name}; there is: {', '.join(PREFIX + shape for shape in shapes.SHAPES)}")
        if not name.startswith(PREFIX) and name not in bundled:
            raise ConfigError(f"{name} is no bundled model; there are: {', '.join(bundled)}, and {PREFIX}SHAPE")
        if not name.startswith(PREFIX) and models.count(name) > 1:
            raise ConfigError(f"{name} is there twice")


def names_of(models: Sequence[str]) -> tuple[str, ...]:
    """What each is called by those who ask; a shape that is there several times is several models."""
    return tuple(
        f"{name.removeprefix(PREFIX)}-{models[:at].count(name) + 1}" if name.startswith(PREFIX) else name
        for at, name in enumerate(models)
    )


def write_models(models: Sequence[str], folder: Path) -> dict[str, str]:
    """[name] the file of each random one, which is written into ``folder``, with the tokenizer of a bundled model."""
    tokenizer = str(bundled_models()["planner"].path)
    files: dict[str, str] = {}
    for seed, (model, name) in enumerate(zip(models, names_of(models), strict=True), start=1):
        if model.startswith(PREFIX):
            files[name] = str(folder / f"{name}.gguf")
            shapes.write_shape(model.removeprefix(PREFIX), files[name], seed, tokenizer)
    return files


def specs_of(names: Sequence[str], files: Mapping[str, str]) -> dict[str, ModelSpec]:
    """[name] what a runtime is told: the file that was written, else the bundled model."""
    bundled = bundled_models()
    return {
        name: ModelSpec(files[name], slots=_SLOTS, context_tokens=_CONTEXT_TOKENS) if name in files else bundled[name]
        for name in names
    }


def configuration(names: Sequence[str], files: Mapping[str, str]) -> str:
    """The same as an ``agentmux.toml``."""
    specs = specs_of(names, files)
    return "".join(
        f"[models.{json.dumps(name)}]\npath = {json.dumps(str(spec.path))}\ncontext_tokens = {spec.context_tokens}\n"
        f"slots = {spec.slots}\n"
        f"system_messages = {json.dumps(spec.system_messages)}\n"
        for name, spec in specs.items()
    )
