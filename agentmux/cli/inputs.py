"""Arguments of an agent or pipeline from the command line: text checked against the function's annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agentmux.cli.command import UsageProblem
from agentmux.targets import WrongArguments, from_json_value, given


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the target is called with, after ``ctx``."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def from_texts(target: object, texts: Sequence[str]) -> Inputs:
    """One argument a text: as it is for ``str``, else read as JSON and validated.

    Raises UsageProblem, with the function's parameters, if there are too few or too many, or one does not validate.
    """
    return _given(target, texts, {}, _from_text)


def from_json(target: object, text: str) -> Inputs:
    """The arguments from a JSON document: an object has them by name, an array by position, all else is the only one.

    Raises UsageProblem, see ``from_texts``.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"--input-json is no JSON: {error}") from error
    args = document if isinstance(document, list) else [] if isinstance(document, dict) else [document]
    return _given(target, args, document if isinstance(document, dict) else {}, from_json_value)


def _given(
    target: object, args: Sequence[Any], kwargs: Mapping[str, Any], convert: Callable[[Any, Any], Any]
) -> Inputs:
    try:
        return Inputs(*given(target, args, kwargs, convert))
    except WrongArguments as error:
        raise UsageProblem(str(error)) from error


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
