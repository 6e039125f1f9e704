"""Option types that several commands share. What makes no sense is a usage error (exit status 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from agentmux.agents.sandbox import parse_example
from agentmux.config import parse_bytes
from agentmux.errors import ConfigError, EngineError

DEVICE = click.option(
    "--device",
    default="auto",
    envvar="AGENTMUX_DEVICE",
    show_default=True,
    show_envvar=True,
    help="cpu, auto (the first GPU, else the CPU), or a ggml device such as CUDA0.",
)

CONTEXT_TOKENS = click.option(
    "--context-tokens",
    type=click.IntRange(min=1),
    help="Of each slot. Default: the model's own setting, else 4096, or what it was trained on if less.",
)
SLOTS = click.option(
    "--slots", type=click.IntRange(min=1), help="Turns decoded in one batch. Default: the model's own setting, else 1."
)
BATCH_TOKENS = click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="In one step at most. Default: the model's own, else 256.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


@contextmanager
def loading_native() -> Iterator[None]:
    """Around an import that loads the native libraries; done only by the commands that need them, so that the others
    start fast. What is wrong with the installation becomes an EngineError."""
    try:
        yield
    except ImportError as error:
        raise EngineError(f"the native engine cannot be loaded: {error}; reinstall agentmux") from error


class Size(click.ParamType[int]):
    """Bytes: ``8GiB``, ``512MiB``, ``1000000``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes from text."""
        try:
            return parse_bytes(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class ModelFiles(click.ParamType[dict[str, str]]):
    """``name=file.gguf,name=file.gguf`` with names out of a fixed set."""

    name = "name=file,..."

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """Name -> file from text."""
        if isinstance(value, dict):
            return value
        files: dict[str, str] = {}
        for part in str(value).split(","):
            name, equals, path = part.partition("=")
            name = name.strip()
            if name not in self._names:
                self.fail(f"{name!r} is none of the agents: {', '.join(self._names)}", param, ctx)
            if not equals or not path:
                self.fail(f"no file for {name!r}; write {name}=file.gguf", param, ctx)
            if name in files:
                self.fail(f"{name!r} is there twice", param, ctx)
            files[name] = path
        return files


class ExampleExpression(click.ParamType[str]):
    """``f(literals) == literal``."""

    name = "expr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The expression in its normal form."""
        try:
            return parse_example(str(value)).expression
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Counts(click.ParamType[tuple[int, ...]]):
    """``1,8``: whole numbers from 1 on, each once."""

    name = "n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Numbers from text."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            self.fail(f"{value!r} is no list of numbers from 1 on, such as 1,8", param, ctx)
        return tuple(dict.fromkeys(int(part) for part in parts))
