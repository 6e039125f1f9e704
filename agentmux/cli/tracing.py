"""The option ``--trace``, and a command's trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from agentmux.clock import LoopClock
from agentmux.messages import Event
from agentmux.runtime_stats import RuntimeStats

TRACE = click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what happens when, for Perfetto (ui.perfetto.dev); as a page of its own if FILE ends in .html.",
)


@dataclass(frozen=True, slots=True)
class Traced:
    """What a runtime that is traced is given."""

    observers: tuple[Callable[[Event], None], ...]
    sampling: Callable[[Callable[[], RuntimeStats]], AbstractContextManager[None]]
    """Given the open runtime's ``stats``; entered while it is open."""


@contextmanager
def tracing(path: Path | None, most_bytes: int | None = None) -> Iterator[Traced]:
    """A trace to this file while the block runs; None: none. Must be entered on the event loop.

    ``most_bytes``: about as much of it is kept, the newest; None: all of it.

    Raises ConfigError where the file cannot be made, and AgentmuxError at the end if not all could be written.
    """
    if path is None:
        yield Traced((), lambda _: nullcontext())
        return
    from agentmux.tracing import Trace, TraceFile

    with TraceFile(path, most_bytes=most_bytes) as file:
        trace = Trace(file, LoopClock())
        try:
            yield Traced((trace.observe,), trace.sampling)
        finally:
            trace.close()
