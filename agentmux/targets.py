"""Agents and pipelines by name, and their arguments as JSON: what a durable run needs to be resumed elsewhere.

A target's name is ``module:name``, or ``/path/to/file.py:name`` for what is defined in a program's main file. Its
arguments come back through the annotations of its parameters, so that models and dataclasses are themselves again.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from agentmux.agent import Agent, resolve
from agentmux.errors import ConfigError

NAMELESS = "<"
"""In the name of a target that no module holds under a name, such as one that was made within a function."""


class NoModule(ConfigError):
    """There is no such module or file; as opposed to what a module itself raises while it is imported."""


def name_of(target: Any) -> str:
    """The name by which ``find`` finds ``target`` again; with ``NAMELESS`` in it where nothing does."""
    held = type(target) if isinstance(target, Agent) else target
    module = sys.modules.get(getattr(held, "__module__", ""))
    name = _name_in(module, held) or f"<{getattr(held, '__qualname__', repr(held))}>"
    if module is not None and module.__name__ == "__main__":
        file = getattr(module, "__file__", None)
        return f"{Path(file).absolute()}:{name}" if file else f"<main>:{name}"
    return f"{module.__name__ if module else '<no module>'}:{name}"


def _name_in(module: ModuleType | None, held: Any) -> str | None:
    if module is None:
        return None
    name = getattr(held, "__qualname__", "")
    if _attribute(module, name) is held:
        return str(name)
    return next((key for key, value in vars(module).items() if value is held), None)


def _attribute(module: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        module = getattr(module, part, None)
    return module


def find(name: str) -> Any:
    """What is called so: an Agent class, an Agent or a pipeline function. Imports the module, or runs the file.

    Raises ConfigError if there is no such module, file or name, or it is nothing that can be run. Whatever the module
    itself raises while it is imported comes through.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon or not where or not attribute:
        raise ConfigError(f"{name!r} names no agent or pipeline: write module:name or path/to/file.py:name")
    if NAMELESS in name:
        raise ConfigError(f"{name} was made within a program and has no name to find it by; resume it from there")
    found = _attribute(module_of(where), attribute)
    if found is None:
        raise ConfigError(f"{where} has no {attribute}")
    resolve(found)
    return found


def module_of(where: str) -> ModuleType:
    """The module of this name, or of this file. Raises NoModule if there is none."""
    if where.endswith(".py"):
        return file_module(Path(where).absolute())
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(error.name + ".")):
            raise NoModule(f"no module named {error.name!r}, neither in this folder nor installed") from error
        raise


def file_module(path: Path) -> ModuleType:
    """The module in this file, by its absolute path; executed once. Raises NoModule if there is none."""
    main = sys.modules.get("__main__")
    if main is not None and getattr(main, "__file__", None) and Path(str(main.__file__)).absolute() == path:
        return main
    name = str(path)  # its path is its name, so that it is found again as what it was recorded as
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise NoModule(f"there is no file {path}")
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise NoModule(f"{path} is no Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pydantic look their annotations up there
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python does for a program's main file
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def arguments_json(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """The arguments as JSON ``[[...], {...}]``; None if they cannot be written so."""
    try:
        return to_json([list(args), dict(kwargs)]).decode()
    except (PydanticSerializationError, UnicodeError, ValueError, RecursionError):
        return None


def arguments_of(target: Any, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that ``arguments_json`` wrote, each of its parameter's type again.

    Raises ConfigError for what does not fit the parameters that the target has now.
    """
    args, kwargs = json.loads(text)
    name, _, function = resolve(target)
    signature = after_ctx(function)
    hints = hints_of(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{name} takes other arguments than those recorded: {error}") from error
    for parameter, value in bound.arguments.items():
        kind = signature.parameters[parameter].kind
        hint = hints.get(parameter, Any)
        if kind is inspect.Parameter.VAR_POSITIONAL:
            hint = GenericAlias(tuple, (hint, ...))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            hint = GenericAlias(dict, (str, hint))
        bound.arguments[parameter] = _validated(name, parameter, hint, value)
    return bound.args, bound.kwargs


def after_ctx(function: Any) -> inspect.Signature:
    """The parameters that a target takes after its ``ctx``."""
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def hints_of(function: Any) -> dict[str, Any]:
    """[parameter] its annotation, resolved; none at all where that cannot be done."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def _validated(name: str, parameter: str, hint: Any, value: Any) -> Any:
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise ConfigError(f"{name}: argument {parameter} does not fit any more: {problem}") from error
