"""Agents and pipelines that clients see as models."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from agentmux.agent import Agent, resolve
from agentmux.errors import AgentmuxError, ConfigError
from agentmux.messages import RunFinished, RunResult
from agentmux.runtime import Runtime
from agentmux.server.problems import Problem


@dataclass(frozen=True, slots=True)
class Published:
    """An agent or pipeline under a name."""

    name: str
    target: Any
    kind: str
    """``agent`` or ``pipeline``."""


def publish(targets: Iterable[Any], models: Iterable[str]) -> Mapping[str, Published]:
    """[name] what clients can name as a model beside ``models``.

    Raises ConfigError for two of one name, and for what takes anything but one argument.
    """
    taken = set(models)
    published: dict[str, Published] = {}
    for target in targets:
        name, agent, function = resolve(target)
        if name in taken:
            raise ConfigError(f"two models, agents or pipelines are called {name}")
        if agent is None or type(agent).run is not Agent.run:
            _takes_one(name, function)
        taken.add(name)
        published[name] = Published(name, target, "pipeline" if agent is None else "agent")
    return published


def _takes_one(name: str, function: Any) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind("ctx", "message")
    except TypeError as error:
        raise ConfigError(
            f"{name} cannot be published: it must take one argument after ctx, the user's message; it takes {signature}"
        ) from error


async def run_published(mux: Runtime, published: Published, prompt: str) -> RunResult[Any]:
    """Run it to its end. Raises what agentmux raises, and Problem for what the user's code raised."""
    result: RunResult[Any] | None = None
    try:
        async with aclosing(mux.stream(published.target, prompt)) as events:
            async for event in events:
                if isinstance(event, RunFinished):
                    result = event.result
    except AgentmuxError:
        raise
    except Exception as error:
        message = f"{published.kind} {published.name} failed: {type(error).__name__}: {error}"
        raise Problem(500, message, code="run_failed", type="server_error") from error
    assert result is not None
    return result


def text_of(output: Any) -> str:
    """A run's output as an answer: text as it is, else JSON."""
    return output if isinstance(output, str) else to_json(output, fallback=repr).decode()
