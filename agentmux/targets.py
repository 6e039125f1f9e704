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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from agentmux.agent import Agent, resolve
from agentmux.errors import ConfigError

NAMELESS = "<"
"""In the name of a target that no module holds under a name, such as one that was made within a function."""


class NoModule(ConfigError):
    """There is no such module or file; as opposed to what a module itself raises while it is imported."""


def name_of(target: Any) -> str:
    """The name by which ``find`` finds ``target`` again; with ``NAMELESS`` in it where nothing does. An agent that has
    attributes of its own is found only where a module holds it: its class alone would not make it again."""
    if isinstance(target, Agent) and vars(target):
        module, name = _holder(target)
        name = name or f"<{type(target).__qualname__} with settings of its own>"
    else:
        held = type(target) if isinstance(target, Agent) else target
        module = sys.modules.get(getattr(held, "__module__", ""))
        name = _name_in(module, held) or f"<{getattr(held, '__qualname__', repr(held))}>"
    if module is not None and module.__name__ == "__main__":
        file = getattr(module, "__file__", None)
        return f"{Path(file).absolute()}:{name}" if file else f"<main>:{name}"
    return f"{module.__name__ if module else '<no module>'}:{name}"


def _holder(agent: Agent) -> tuple[ModuleType | None, str | None]:
    """The module that holds this very agent, its class's first, and its name there; else its class's, and None."""
    own = sys.modules.get(type(agent).__module__)
    for module in (own, *sys.modules.copy().values()):
        if isinstance(module, ModuleType) and (name := _name_in(module, agent)):
            return module, name
    return own, None


def _name_in(module: ModuleType | None, held: Any) -> str | None:
    if module is None:
        return None
    name = str(getattr(held, "__qualname__", ""))
    if name and _attribute(module, name) is held:
        return name
    return next((key for key, value in list(vars(module).items()) if value is held), None)


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
    try:
        return given(target, args, kwargs, from_json_value)
    except WrongArguments as error:
        raise ConfigError(f"the recorded arguments do not fit any more: {error}") from error


class WrongArguments(ConfigError):
    """Arguments do not fit a target's parameters."""


def given(
    target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], convert: Callable[[Any, Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments for what a target takes after its ctx, each made by ``convert(annotation, value)``; those of parameters
    without an annotation as they are.

    Raises WrongArguments, with the parameters, if there are too few or too many, one does not validate, or the
    annotation of one cannot be read or has no schema.
    """
    name, signature, annotations = _parameters(target)
    shown = inspect.formatannotation(signature) if not signature.parameters else str(signature)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise WrongArguments(f"{error}; {name} takes {shown}") from error
    for parameter, value in bound.arguments.items():
        kind = signature.parameters[parameter].kind

        def one(value: Any, parameter: str = parameter) -> Any:
            try:
                annotation = annotations(parameter)
                return value if annotation is Any else convert(annotation, value)
            except ValidationError as error:
                said = "; ".join(_problem(problem) for problem in error.errors(include_url=False))
                raise WrongArguments(f"{name} takes {shown}; {parameter}: {said}") from error
            except (PydanticSchemaGenerationError, PydanticUserError) as error:
                raise WrongArguments(f"{name}: {parameter} cannot be made from text: {error.message}") from error

        if kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[parameter] = tuple(map(one, value))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments[parameter] = {key: one(each) for key, each in value.items()}
        else:
            bound.arguments[parameter] = one(value)
    return bound.args, bound.kwargs


def from_json_value(annotation: Any, value: Any) -> Any:
    """A value that was read from JSON as what is meant by it. Raises what pydantic raises."""
    return TypeAdapter(annotation).validate_json(json.dumps(value))


def _problem(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    return (f"{place}: " if place else "") + str(problem["msg"])


def _parameters(target: Any) -> tuple[str, inspect.Signature, Callable[[str], Any]]:
    """A target's name, what it takes after its ctx, and [parameter] its annotation, resolved when it is asked for."""
    name, agent, function = resolve(target)
    if agent is not None and type(agent).run is Agent.run:
        only = inspect.Parameter("prompt", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
        return name, inspect.Signature([only]), lambda _: str
    signature = inspect.signature(function)
    _, *parameters = signature.parameters.values()
    inner = inspect.unwrap(function)
    names = getattr(getattr(inner, "__func__", inner), "__globals__", {})

    def annotation(parameter: str) -> Any:
        written = signature.parameters[parameter].annotation
        if written is inspect.Parameter.empty:
            return Any
        holder = SimpleNamespace(__annotations__={parameter: written})
        try:
            return get_type_hints(holder, names, include_extras=True)[parameter]
        # Annotations are the user's code: names that are imported for type checkers only, calls that fail.
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise WrongArguments(f"the annotation of {name}'s {parameter} cannot be read: {said}") from error

    shown = [one.replace(annotation=_readable(annotation, one.name)) for one in parameters]
    return name, inspect.Signature(shown), annotation


def _readable(annotation: Callable[[str], Any], parameter: str) -> Any:
    """An annotation as it is to be shown: as a name where it cannot be read."""
    try:
        return annotation(parameter)
    except WrongArguments:
        return Any
