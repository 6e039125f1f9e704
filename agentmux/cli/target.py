"""Finds what ``agentmux run`` is to run: an agent or pipeline of an importable module or of a file."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from agentmux.agent import resolve
from agentmux.cli.command import UsageProblem
from agentmux.errors import AgentmuxError, ConfigError, said
from agentmux.targets import NoModule, file_module, module_of


class UserCodeFailed(AgentmuxError):
    """The user's own code raised; the message says what and where, the cause is the error itself."""


@dataclass(frozen=True, slots=True)
class Target:
    """What was found."""

    thing: Any
    """An Agent class, an Agent, or a pipeline function."""
    reference: str
    """``module:name`` or ``/path/file.py:name``, fit to find it again."""


def find_target(text: str, folder: Path) -> Target:
    """The target that ``MODULE:NAME``, ``path/file.py:NAME`` or one of both without ``:NAME`` stands for.

    Without a name it is the only agent or pipeline that the module itself defines. Modules are looked for in ``folder``
    first, as ``python -m`` does.

    Raises UsageProblem where there is no such thing, UserCodeFailed if the module raises when it is imported.
    """
    place, colon, name = text.rpartition(":")
    if not colon:
        place, name = text, ""
    if not place or (colon and not name):
        raise UsageProblem(f"{text!r} is not of the form MODULE:NAME or path/file.py:NAME")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    is_file = place.endswith(".py") or "/" in place
    module = _module(place, (folder / place).resolve() if is_file else None)
    where = str(Path(module.__file__ or place).resolve()) if is_file else place
    name = name or _only_name(module, place)
    return Target(_runnable(module, name, place), f"{where}:{name}")


def _module(place: str, path: Path | None) -> ModuleType:
    """The module of this name, or in this file."""
    try:
        return module_of(place) if path is None else file_module(path)
    except NoModule as error:
        missing = path is not None and not path.is_file()
        raise UsageProblem(f"no file {place}" if missing else str(error)) from error
    except (Exception, SystemExit) as error:
        odd = path is None and not all(part.isidentifier() for part in place.split("."))
        if odd and isinstance(error, ValueError | TypeError):
            raise UsageProblem(f"{place!r} is no module's name") from error
        raise UserCodeFailed(describe(error)) from error


def _only_name(module: ModuleType, place: str) -> str:
    names = _runnables(module)
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageProblem(f"{place} defines no agent and no pipeline")
    raise UsageProblem(f"{place} has several to run, write {place}:NAME with one of: {', '.join(names)}")


def _runnables(module: ModuleType) -> list[str]:
    """Names of what the module itself defines and a runtime can run."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and _is_own(value, module) and _is_runnable(value)
    ]


def _is_own(value: object, module: ModuleType) -> bool:
    """Defined there, not imported; an instance belongs where its name is."""
    return not hasattr(value, "__name__") or getattr(value, "__module__", None) == module.__name__


def _is_runnable(value: object) -> bool:
    try:
        resolve(value)
    except Exception:
        return False
    return True


def _runnable(module: ModuleType, name: str, place: str) -> Any:
    thing: Any = module
    for part in name.split("."):
        if not hasattr(thing, part):
            there = ", ".join(_runnables(module)) or "none"
            raise UsageProblem(f"{place} has no {name!r}; its agents and pipelines: {there}")
        thing = getattr(thing, part)
    try:
        resolve(thing)
    except ConfigError as error:
        raise UsageProblem(f"{place}:{name}: {error}") from error
    except Exception as error:
        raise UserCodeFailed(describe(error)) from error
    return thing


def describe(error: BaseException) -> str:
    """``TypeName: message (file.py:12, in function)``: the innermost place outside of agentmux and Python itself."""
    text = " ".join(said(error).split()) if str(error) else ""
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{kind}: {error.msg} ({error.filename}:{error.lineno})"
    place = _place(error)
    return (f"{kind}: {text}" if text else kind) + (f" ({place})" if place else "")


def is_from_user_code(error: BaseException) -> bool:
    """Whether the error came through a line of the user's."""
    return _place(error) is not None


def _place(error: BaseException) -> str | None:
    """The innermost line of the user's; of an installed package's, where there is none."""
    found: dict[bool, str] = {}
    for frame, line in traceback.walk_tb(error.__traceback__):
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if top == "agentmux" or top in sys.stdlib_module_names:
            continue
        code = frame.f_code
        function = "" if code.co_name == "<module>" else f", in {code.co_name}"
        found["site-packages" in Path(code.co_filename).parts] = f"{code.co_filename}:{line}{function}"
    return found.get(False) or found.get(True)
