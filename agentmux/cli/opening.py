"""How commands open a runtime; in one place, so that all of them take the same settings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, get_args

import click

from agentmux.config import Limits, ModelSpec, RuntimeConfig, WaitForModels
from agentmux.errors import ConfigError
from agentmux.models import named
from agentmux.runtime import Runtime


def open_runtime(models: Mapping[str, ModelSpec] | None, *, journal: bool = False, **settings: Any) -> Runtime:
    """A runtime, not yet entered, with a journal of its runs or without.

    Raises ConfigError, and what naming models raises.
    """
    return Runtime(models=models, journal=journal, **settings)


def first_unless_configured() -> WaitForModels | None:
    """What a command that runs one thing and ends waits for where the user has not said it, by option, environment or
    file: the first model, so that the first agent can begin. Raises ConfigError."""
    return None if "wait_for_models" in RuntimeConfig.make(os.environ).model_fields_set else "first"


DEVICE = click.option(
    "--device",
    help="cpu, auto, or a ggml device such as CUDA0. Default: AGENTMUX_DEVICE, the configuration, auto.",
)

WAIT_FOR_MODELS = click.option(
    "--wait-for-models",
    type=click.Choice(get_args(WaitForModels)),
    help="What to begin after: all models are loaded, or the first is; the others follow in the background.",
)


class NamedModels(click.ParamType[dict[str, ModelSpec]]):
    """``name=file.gguf,name=coder``: any names, each for a file or a model that has a name."""

    name = "name=model,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, ModelSpec]:
        """Name -> model from text."""
        if isinstance(value, dict):
            return value
        models: dict[str, ModelSpec] = {}
        for part in str(value).split(","):
            name, equals, path = (piece.strip() for piece in part.partition("="))
            if not (name and equals and path):
                self.fail(f"{part!r} is not of the form name=file.gguf", param, ctx)
            if name in models:
                self.fail(f"{name!r} is there twice", param, ctx)
            models[name] = named(path)
        return models


class LimitValues(click.ParamType[Limits]):
    """``turns=10,tokens=4000,wall_s=60``."""

    name = "limit=n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Limits:
        """Limits from text."""
        if isinstance(value, Limits):
            return value
        names = [field.name for field in dataclasses.fields(Limits)]
        given: dict[str, float] = {}
        for part in str(value).split(","):
            name, _, number = (piece.strip() for piece in part.partition("="))
            if name not in names:
                self.fail(f"{name!r} is no limit; there are: {', '.join(names)}", param, ctx)
            if name in given:
                self.fail(f"{name!r} is there twice", param, ctx)
            try:
                given[name] = int(number) if number.isdecimal() else float(number)
            except ValueError:
                self.fail(f"{name}={number!r} is no number", param, ctx)
        try:
            return Limits(**given)  # type: ignore[arg-type]  # whole numbers where they have to be
        except ConfigError as error:
            self.fail(str(error), param, ctx)
