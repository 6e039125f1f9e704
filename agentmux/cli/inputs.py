"""Arguments of an agent or pipeline from the command line: text checked against the function's annotations."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from agentmux.agent import Agent, resolve
from agentmux.cli.command import UsageProblem

_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the target is called with, after ``ctx``."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def from_texts(target: object, texts: Sequence[str]) -> Inputs:
    """One argument a text: as it is for ``str``, else read as JSON and validated.

    Raises UsageProblem, with the function's parameters, if there are too few or too many, or one does not validate.
    """
    name, signature = _signature(target)
    bound = _bind(name, signature, texts, {})
    return _converted(name, signature, bound, _from_text)


def from_json(target: object, text: str) -> Inputs:
    """The arguments from a JSON document: an object has them by name, an array by position, all else is the only one.

    Raises UsageProblem, see ``from_texts``.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"--input-json is no JSON: {error}") from error
    args = given if isinstance(given, list) else [] if isinstance(given, dict) else [given]
    kwargs = given if isinstance(given, dict) else {}
    name, signature = _signature(target)
    return _converted(name, signature, _bind(name, signature, args, kwargs), _from_value)


def _signature(target: object) -> tuple[str, inspect.Signature]:
    """The name, and what it takes after ``ctx``, with annotations resolved."""
    name, agent, function = resolve(target)
    if agent is not None and type(agent).run is Agent.run:
        only = inspect.Parameter("prompt", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
        return name, inspect.Signature([only])
    try:
        hints = get_type_hints(function, include_extras=True)
    # Annotations are the user's code: names that are imported for type checkers only, calls that fail.
    except Exception as error:
        raise UsageProblem(f"the annotations of {name} cannot be read: {type(error).__name__}: {error}") from error
    _, *parameters = inspect.signature(function).parameters.values()
    any_type = [parameter.replace(annotation=hints.get(parameter.name, Any)) for parameter in parameters]
    return name, inspect.Signature(any_type)


def _bind(
    name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UsageProblem(f"{error}; {name} takes {_shown(signature)}") from error


def _shown(signature: inspect.Signature) -> str:
    return inspect.formatannotation(signature) if not signature.parameters else str(signature)


def _converted(
    name: str, signature: inspect.Signature, bound: inspect.BoundArguments, convert: Callable[[Any, Any], Any]
) -> Inputs:
    for parameter, value in bound.arguments.items():
        kind, annotation = signature.parameters[parameter].kind, signature.parameters[parameter].annotation
        values = (
            {parameter: value} if kind not in _MANY else dict(value if isinstance(value, dict) else enumerate(value))
        )
        done: dict[Any, Any] = {}
        for key, one in values.items():
            try:
                done[key] = one if annotation is Any else convert(annotation, one)
            except ValidationError as error:
                said = "; ".join(_problem(problem) for problem in error.errors(include_url=False))
                raise UsageProblem(f"{name} takes {_shown(signature)}; {parameter}: {said}") from error
            except (PydanticSchemaGenerationError, PydanticUserError) as error:
                message = f"{name}: {parameter} cannot be given on the command line: {error.message}"
                raise UsageProblem(message) from error
        if kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[parameter] = tuple(done.values())
        else:
            bound.arguments[parameter] = done if kind is inspect.Parameter.VAR_KEYWORD else done[parameter]
    return Inputs(bound.args, bound.kwargs)


def _from_text(annotation: Any, text: str) -> Any:
    """``str`` as it is; else JSON, or where that does not do, the text itself, as for a path, a date or a literal."""
    if annotation is str:
        return text
    adapter = TypeAdapter(annotation)
    try:
        return adapter.validate_json(text)
    except ValidationError as no_json:
        try:
            return adapter.validate_strings(text)
        except ValidationError as no_text:
            is_json = all(problem["type"] != "json_invalid" for problem in no_json.errors())
            raise (no_json if is_json else no_text) from None


def _from_value(annotation: Any, value: Any) -> Any:
    return TypeAdapter(annotation).validate_json(json.dumps(value))


def _problem(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    return (f"{place}: " if place else "") + str(problem["msg"])
