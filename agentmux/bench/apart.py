"""Work in a process of its own, so that nothing that ran before is left on the device or in the driver."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from agentmux.errors import EngineError

Result = TypeVar("Result")
Tell = Callable[[str], None]


def run_apart(function: Callable[..., Result], *arguments: Any, tell: Tell) -> Result:
    """``function(*arguments, tell=...)`` in a new process; function, arguments and result must be picklable.

    Raises what it raises, and EngineError if the process ends without a result.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(function, arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        result: Result = _result(here, tell)
        return result
    except EOFError:
        process.join()
        raise EngineError(f"the measuring process ended without a result (exit status {process.exitcode})") from None
    finally:
        here.close()
        process.kill()
        process.join()


def _result(here: Connection, tell: Tell) -> Any:
    while True:
        kind, value = here.recv()
        if kind == "told":
            tell(value)
        elif kind == "done":
            return value
        else:
            raise value


def _work(function: Callable[..., Any], arguments: tuple[Any, ...], there: Connection) -> None:
    try:
        there.send(("done", function(*arguments, tell=lambda text: there.send(("told", text)))))
    except BaseException as error:
        there.send(("failed", error))
