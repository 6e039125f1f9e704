"""What an agent's answer must be: a JSON schema to show, a grammar to generate by, a check afterwards."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from agentmux.errors import ConfigError
from agentmux.gbnf import UnsupportedSchema, schema_to_gbnf

if TYPE_CHECKING:
    from pydantic_core import core_schema


class AnswerRejected(ValueError):
    """An answer did not validate. The message is fit to be shown to the model that gave it."""


@dataclass(frozen=True, slots=True, eq=False)
class OutputSchema:
    """How answers of one type are asked for, generated and checked. Equal only to itself."""

    adapter: TypeAdapter[Any] | None
    """None: the type is ``str``, and every text is an answer."""
    schema_text: str | None = None
    """JSON schema, as shown in the prompt."""
    grammar: str | None = None
    """GBNF that generation is held to."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema as a value."""

    def parse(self, text: str) -> Any:
        """The value that ``text`` stands for. Raises AnswerRejected if it is not of the type."""
        if self.adapter is None:
            return text
        try:
            return self.adapter.validate_json(text)
        except ValidationError as error:
            raise AnswerRejected(problems(error, "answer")) from error
        # Validators of the user's own may raise whatever they like, and pydantic lets most of it through.
        except Exception as error:
            raise AnswerRejected(f"answer: {type(error).__name__}: {error}") from error


def problems(error: ValidationError, whole: str) -> str:
    """What pydantic found wrong and where, in one line; ``whole`` is the name of what has no place in it."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or whole}: {e['msg']}" for e in found)


class SchemaGenerator(GenerateJsonSchema):
    """pydantic's JSON schemas, with what they leave out and a grammar has to know.

    They say nothing of names of members that are no strings in Python, nor how a Decimal or complex is written.
    """

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """With ``propertyNames`` also for numbers, enums and the like, as JSON has them: in quotes."""
        made = super().dict_schema(schema)
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        if keys and keys.get("type", "") != "string" and "patternProperties" not in made:
            made["propertyNames"] = keys
        return made

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A number, or one in quotes, which keeps all its digits."""
        number = {k: v for k, v in super().decimal_schema(schema)["anyOf"][0].items() if k != "format"}
        return {"anyOf": [number, {"type": "string", "format": "decimal"}]}

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        """Such as ``"1.5+2j"``."""
        return {**super().complex_schema(schema), "format": "complex"}


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
        schema = adapter.json_schema(schema_generator=SchemaGenerator)
        grammar = schema_to_gbnf(schema)
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise ConfigError(f"output type {_name(output)} cannot be described as JSON: {error}") from error
    except UnsupportedSchema as error:
        raise ConfigError(f"output type {_name(output)} cannot be generated: {error}") from error
    return OutputSchema(adapter, json.dumps(schema, ensure_ascii=False), grammar, schema)


def _name(output: Any) -> str:
    return getattr(output, "__qualname__", None) or repr(output)
