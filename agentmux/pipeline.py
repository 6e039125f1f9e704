"""``@pipeline``: an ordinary async function that a runtime can run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from agentmux.agent import PIPELINE_MARK, Run
from agentmux.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")


def pipeline(
    function: Callable[Concatenate[Run, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Run, P], Coroutine[Any, Any, T]]:
    """Mark ``async def function(ctx: Run, ...)`` as runnable by ``Runtime.run`` and ``ctx.run``.

    The function itself comes back, so it keeps its name and type, and can still be awaited directly with a ``ctx``.
    Inside, everything of asyncio works: ``TaskGroup``, ``gather``, ``timeout``.

    Raises ConfigError if it is not a coroutine function.
    """
    if not inspect.iscoroutinefunction(function):
        raise ConfigError(f"@pipeline needs an async function, not {function!r}")
    setattr(function, PIPELINE_MARK, True)
    return function
