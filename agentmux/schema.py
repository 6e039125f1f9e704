"""What an agent's answer must be: a JSON schema to show, a grammar to generate by, a check afterwards."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError

from agentmux.errors import ConfigError
from agentmux.gbnf import UnsupportedSchema, schema_to_gbnf


class AnswerRejected(ValueError):
    """An answer did not validate. The message is fit to be shown to the model that gave it."""


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """How answers of one type are asked for, generated and checked."""

    adapter: TypeAdapter[Any] | None
    """None: the type is ``str``, and every text is an answer."""
    schema_text: str | None = None
    """JSON schema, as shown in the prompt."""
    grammar: str | None = None
    """GBNF that generation is held to."""

    def parse(self, text: str) -> Any:
        """The value that ``text`` stands for. Raises AnswerRejected if it is not of the type."""
        if self.adapter is None:
            return text
        try:
            return self.adapter.validate_json(text)
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors())
            raise AnswerRejected("; ".join(problems)) from error


class OutputSchemas:
    """Makes an OutputSchema for a type, and remembers the latest ones. One instance belongs to one runtime."""

    def __init__(self, remembered: int = 256) -> None:
        # A type is hashable in all but odd cases (Annotated with a list in it); those are made anew each time.
        self._cached = functools.lru_cache(maxsize=remembered)(output_schema)

    def of(self, output: Any) -> OutputSchema:
        """The OutputSchema of a type: ``str``, or anything that pydantic can describe as JSON.

        Raises ConfigError, naming the type, for one that has no JSON schema or no grammar.
        """
        try:
            hash(output)
        except TypeError:
            return output_schema(output)
        return self._cached(output)


def output_schema(output: Any) -> OutputSchema:
    """See ``OutputSchemas.of``; this one remembers nothing."""
    if output is str:
        return OutputSchema(adapter=None)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(output)
        schema = adapter.json_schema()
        grammar = schema_to_gbnf(schema)
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise ConfigError(f"output type {_name(output)} cannot be described as JSON: {error}") from error
    except UnsupportedSchema as error:
        raise ConfigError(f"output type {_name(output)} cannot be generated: {error}") from error
    return OutputSchema(adapter, json.dumps(schema, ensure_ascii=False), grammar)


def _name(output: Any) -> str:
    return getattr(output, "__qualname__", None) or repr(output)
