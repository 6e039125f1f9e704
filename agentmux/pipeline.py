"""Pipelines: ordinary async functions that a runtime can run, and the usual shapes of them.

::

    @pipeline
    async def write(ctx: Run, task: str) -> str: ...

    write = sequence(Planner, Coder)                                    # each gets what the one before gave
    judge = parallel(Critic, Linter)                                    # all get the same; a list of what they gave
    mend = loop(Coder, until=lambda code: compiles(code), max_rounds=3) # gets its own result back
    answer = branch(Router, {"code": write, "chat": Talker})            # by what the first one gave

What is combined is an Agent class, an Agent, or a pipeline function, combined ones included; each takes one argument.
A shape tells the scheduler what comes next, so that its model is uploaded while the one before still decodes.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from agentmux.agent import FIRST_MARK, PIPELINE_MARK, Run, resolve
from agentmux.errors import ConfigError, LimitExceeded

P = ParamSpec("P")
T = TypeVar("T")

Stage = Callable[[Run, Any], Coroutine[Any, Any, Any]]
"""A pipeline function of one argument."""
_LAST_MARK = "__agentmux_last__"
"""Attribute of a function that gives what one of its stages gives: itself, and what makes it with other such stages."""


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


def sequence(*stages: Any, name: str = "sequence") -> Stage:
    """Run one stage after the other: the first gets the argument, each further one what the one before gave.

    Returns a pipeline function that gives what the last one gave. Raises ConfigError without stages, and for what
    cannot be run.
    """
    _check(name, stages)

    async def run(ctx: Run, value: Any) -> Any:
        for stage, following in zip(stages, (*stages[1:], None), strict=True):
            value = await (ctx if following is None else ctx.before(following)).run(stage, value)
        return value

    setattr(run, _LAST_MARK, (run, lambda change: sequence(*stages[:-1], change(stages[-1]), name=name)))
    return _named(run, name, stages[0])


def parallel(*stages: Any, name: str = "parallel") -> Stage:
    """Run all stages at the same time, each with the argument. Turns that meet at one model share its batch.

    Returns a pipeline function that gives a list of what they gave, in their order. The first error cancels the others
    and is raised. Raises ConfigError without stages, and for what cannot be run.
    """
    _check(name, stages)

    async def run(ctx: Run, value: Any) -> list[Any]:
        return await _together([ctx.run(stage, value) for stage in stages])

    return _named(run, name, stages[0])


def each(stage: Any, *, at_once: int | None = None, name: str = "each") -> Stage:
    """Run the stage for every item of the argument, all at the same time, or ``at_once`` of them.

    With more items than turns may wait (``queue_limit``, 1024 unless set), ``at_once`` keeps that from being QueueFull.

    Returns a pipeline function that takes an iterable and gives a list of what came of its items, in their order. The
    first error cancels the others and is raised. Raises ConfigError for what cannot be run or meant.
    """
    _check(name, (stage,))
    if at_once is not None and at_once < 1:
        raise ConfigError(f"{name}: at_once={at_once} must be at least 1")

    async def run(ctx: Run, values: Any) -> list[Any]:
        if at_once is None:
            return await _together([ctx.run(stage, value) for value in values])
        items = list(values)
        given: list[Any] = [None] * len(items)
        left = iter(range(len(items)))

        async def work() -> None:
            for place in left:  # each item goes to whoever is free
                given[place] = await ctx.run(stage, items[place])

        await _together([work() for _ in range(min(at_once, len(items)))])
        return given

    return _named(run, name, stage)


def loop(stage: Any, *, until: Callable[[Any], bool | Awaitable[bool]], max_rounds: int, name: str = "loop") -> Stage:
    """Run the stage again and again, each time with what it gave, until that will do.

    Args:
        stage: what is run.
        until: whether a result will do; may be async.
        max_rounds: rounds at most.
        name: of the pipeline function.

    Returns a pipeline function that gives the last result. It raises LimitExceeded if ``max_rounds`` were not enough.
    Raises ConfigError for ``max_rounds`` below 1, and for what cannot be run.
    """
    _check(name, (stage,))
    if max_rounds < 1:
        raise ConfigError(f"loop: max_rounds={max_rounds} must be at least 1")

    async def run(ctx: Run, value: Any) -> Any:
        for _ in range(max_rounds):
            value = await ctx.before(stage).run(stage, value)
            enough = until(value)
            if await enough if inspect.isawaitable(enough) else enough:
                return value
        raise LimitExceeded(f"{name}: {max_rounds} rounds were not enough", used=max_rounds, limit=max_rounds)

    return _named(run, name, stage)


def branch(choose: Any, stages: Mapping[Hashable, Any], *, default: Any = None, name: str = "branch") -> Stage:
    """Run one of several stages.

    Args:
        choose: a function of the argument, or something that can be run with it (an agent, say); what it gives is
            looked up in ``stages``. May be async.
        stages: [choice] what is run, with the argument.
        default: what is run for any other choice; None: that is an error.
        name: of the pipeline function.

    Returns a pipeline function that gives what the stage gave. It raises ConfigError for a choice that no stage is for.
    Raises ConfigError without stages, and for what cannot be run.
    """
    _check(name, tuple(stages.values()) + (() if default is None else (default,)))
    runs = _runnable(choose)
    if not runs and not callable(choose):
        raise ConfigError(f"{name}: {choose!r} can neither be run nor called")

    async def run(ctx: Run, value: Any) -> Any:
        choice = await ctx.run(choose, value) if runs else choose(value)
        if inspect.isawaitable(choice):
            choice = await choice
        try:
            stage = stages.get(choice, default)
        except TypeError:  # a list, say, is no key
            stage = default
        if stage is None:
            raise ConfigError(f"{name}: no stage for {choice!r}; there are: {', '.join(map(repr, stages))}")
        return await ctx.run(stage, value)

    def ending(change: Callable[[Any], Any]) -> Stage:
        changed = {choice: change(stage) for choice, stage in stages.items()}
        return branch(choose, changed, default=None if default is None else change(default), name=name)

    setattr(run, _LAST_MARK, (run, ending))
    return _named(run, name, choose if runs else None)


def ending_in(target: Any, change: Callable[[Any], Any]) -> Any:
    """``target`` with ``change`` made of whatever gives its result, in sequences and branches down to their last
    stages. What is neither is changed itself."""
    made_by, ending = getattr(target, _LAST_MARK, (None, None))
    # A function that wraps another one's may have that one's attributes.
    if ending is None or made_by is not target:
        return change(target)
    return ending(lambda stage: ending_in(stage, change))


def _named(run: Stage, name: str, first: Any) -> Stage:
    run.__name__ = run.__qualname__ = name
    run.__module__ = sys._getframe(2).f_globals.get("__name__", run.__module__)  # where its name may be looked up
    setattr(run, FIRST_MARK, first)
    return pipeline(run)


def _check(name: str, stages: tuple[Any, ...]) -> None:
    if not stages:
        raise ConfigError(f"{name} needs at least one stage")
    for stage in stages:
        resolve(stage)


def _runnable(target: Any) -> bool:
    try:
        resolve(target)
    except ConfigError:
        return False
    return True


async def _together(runs: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What all of them give. The first error is raised as itself, once the others have been cancelled and are gone."""
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
