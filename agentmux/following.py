"""A run as whoever asked for it sees it: begun, or taken up from the journal; its events; its error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from agentmux.agent import resolve
from agentmux.config import Limits
from agentmux.context import drive
from agentmux.core import Core
from agentmux.errors import ConfigError, EngineError, JournalError
from agentmux.journal import RunRecord
from agentmux.messages import Event, RunErrored, RunFinished
from agentmux.run import RunState


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be run, and how. See ``Runtime.stream``."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    limits: Limits | None = None
    session: str | None = None
    resume: str | None = None
    rerun_in_doubt: bool = False

    @classmethod
    def of(cls, target: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Asked:
        """The keyword arguments of ``Runtime.run``, told apart: its own, and the target's."""
        own = {name: given[name] for name in _OWN if name in given}
        return cls(target, args, {name: value for name, value in given.items() if name not in own}, **own)


_OWN = ("limits", "session", "resume", "rerun_in_doubt")


async def follow(core: Core, default: Limits, asked: Asked, *, every: bool = True) -> AsyncGenerator[Event, None]:
    """Run it, and yield its events; without ``every`` only the last, which is all that most callers look at, and
    saves handing each of the others over. See ``Runtime.stream``."""
    if core.draining:
        raise EngineError("the runtime is draining: it takes no new runs")
    asked, record = _recorded(core, default, asked)
    name = resolve(asked.target)[0]
    limits = asked.limits or default
    if record is None and core.durable is not None:
        session = None if asked.session is None else core.services.sessions.now(asked.session)
        record = core.durable.begin(asked.target, asked.args, asked.kwargs, limits, session)
    events: asyncio.Queue[Event] = asyncio.Queue()

    def last_only(event: Event) -> None:
        if isinstance(event, RunFinished | RunErrored):
            events.put_nowait(event)

    listen = events.put_nowait if every else last_only
    run = RunState(core.services, limits, listen, session=asked.session, record=record)
    body = drive(run, name, asked.target, asked.args, asked.kwargs)
    task = asyncio.create_task(body, name=f"agentmux run {run.id}")
    core.runs[task] = run
    task.add_done_callback(core.forget)
    try:
        while True:
            event = await events.get()
            yield event
            if isinstance(event, RunFinished | RunErrored):
                break
    finally:
        await core.stop_run(task)
    if run.error is not None:
        raise run.error


def _recorded(core: Core, default: Limits, asked: Asked) -> tuple[Asked, RunRecord | None]:
    """What is to be run, from the journal where it is resumed."""
    if asked.resume is None:
        return asked, None
    if core.durable is None:
        raise JournalError("this runtime keeps no journal: Runtime(journal=True)")
    if asked.target is not None:
        resolve(asked.target)  # before the journal notes another attempt
    elif asked.args or asked.kwargs:
        raise ConfigError("without a target a run is resumed with the arguments that were recorded")
    again = core.durable.resume(
        asked.resume,
        asked.target,
        asked.args,
        asked.kwargs,
        rerun_in_doubt=asked.rerun_in_doubt,
        session=asked.session,
        sessions=core.services.sessions,
    )
    limits = asked.limits or again.limits or default
    return Asked(again.target, again.args, again.kwargs, limits, again.session), again.record
