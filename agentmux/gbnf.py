r"""JSON Schema to GBNF, the grammar language of llama.cpp.

llama-cpp-python brings a converter of its own; it is not used, because what it emits does not always hold: strings may
contain raw control characters and lone surrogates (which no JSON parser takes back), a literal with a backslash gives
a grammar that does not parse, a recursive type with an underscore in its name refers to a rule that does not exist,
and ``list[Any]`` raises KeyError. It also needs the native library to be loaded.

What a grammar cannot say, or only at great length (unique items, ranges of fractions, multiples, patterns with
look-around), is left out here and checked after generation. So a grammar accepts every answer that is valid as the
model would write it, and little else; whitespace is bounded everywhere, so that a model cannot run away in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from agentmux.gbnf_rules import CANONICAL_NAMES, Rules, literal, string_rule, whole_numbers
from agentmux.regular import Unsupported

Schema = Mapping[str, Any]

MAX_REPETITIONS = 1000
"""Bounds on items and characters above this are checked after generation: llama.cpp unrolls repetitions."""


class UnsupportedSchema(Exception):
    """The schema says something that no grammar is made for."""


def schema_to_gbnf(schema: Schema) -> str:
    """The grammar, with root rule ``root``, of JSON texts that match ``schema`` (see above for what is left out).

    Raises UnsupportedSchema for references out of the document, unknown types, and schemas that nothing matches.
    """
    rules = Rules()
    return rules.grammar(add_schema(rules, schema))


def add_schema(rules: Rules, schema: Schema, *, canonical: bool = False) -> str:
    """The same as an expression over ``rules``, to be part of a larger grammar.

    ``canonical``: spaced exactly as ``json.dumps`` does it, which is how chat templates write arguments.
    """
    return _Converter(schema, rules, canonical).expression()


class _Converter:
    """One schema document. Methods return a GBNF expression for a part of it."""

    def __init__(self, schema: Schema, rules: Rules, canonical: bool) -> None:
        self._schema = schema
        self._rules = rules
        self._canonical = canonical
        self._references: dict[str, str] = {}
        # Inside brackets, behind a comma, behind a colon.
        self._edge = "" if canonical else " ws "
        self._gap = '" "' if canonical else "ws"

    def expression(self) -> str:
        return self._visit(self._schema)

    def _rule(self, expression: str) -> str:
        return self._rules.add(expression)

    def _visit(self, schema: Any) -> str:
        if schema is True or schema == {}:
            return self._any_value("value")
        if not isinstance(schema, Mapping):
            raise UnsupportedSchema(f"nothing matches {json.dumps(schema)}")
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "const" in schema:
            return literal(schema["const"])
        if "enum" in schema:
            return self._any(literal(value) for value in schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._any(self._visit(option) for option in schema[word])
        if "allOf" in schema:
            return self._visit(self._merged(schema))
        return self._typed(schema)

    def _any_value(self, kind: str) -> str:
        return CANONICAL_NAMES.get(kind, kind) if self._canonical else kind

    def _typed(self, schema: Schema) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._any(self._typed({**schema, "type": one}) for one in kind)
        if kind is None:
            kind = next((k for k, words in _IMPLIED.items() if words & schema.keys()), "value")
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return self._string(schema)
        if kind == "integer":
            return self._integer(schema)
        if kind == "number":
            positive = schema.get("minimum", schema.get("exclusiveMinimum", -1)) >= 0
            return "positive-number" if positive else "number"
        if kind in ("boolean", "null", "value"):
            return self._any_value(kind)
        raise UnsupportedSchema(f"unknown type {kind!r}")

    def _any(self, options: Iterable[str]) -> str:
        distinct = list(dict.fromkeys(options))
        if not distinct:
            raise UnsupportedSchema("a choice without options")
        # A number may be whole: the same text in two ways, where one will do.
        if "number" in distinct:
            distinct = [option for option in distinct if option not in ("integer", "natural", "positive-number")]
        return self._rule(" | ".join(distinct))

    def _reference(self, reference: str) -> str:
        if reference not in self._references:
            # The name comes before the visit, so that a type may refer to itself.
            name = self._references[reference] = self._rules.reserve()
            self._rules.define(name, self._visit(self._target(reference)))
        return self._references[reference]

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise UnsupportedSchema(f"the reference {reference!r} leads out of the schema")
        target: Any = self._schema
        for part in reference.split("/")[1:]:
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        if target is None:
            raise UnsupportedSchema(f"the reference {reference!r} leads nowhere")
        return target

    def _merged(self, schema: Schema) -> Schema:
        merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            resolved = self._target(part["$ref"]) if "$ref" in part else part
            for key, value in resolved.items():
                if key == "properties":
                    merged[key] = {**merged.get(key, {}), **value}
                elif key == "required":
                    merged[key] = [*merged.get(key, []), *value]
                else:
                    merged.setdefault(key, value)
        return merged

    def _object(self, schema: Schema) -> str:
        if properties := schema.get("properties"):
            return self._members(properties, frozenset(schema.get("required", ())))
        patterns: Schema = schema.get("patternProperties", {})
        values = next(iter(patterns.values()), schema.get("additionalProperties", "properties" not in schema))
        low, high = _bounds(schema, "minProperties", "maxProperties")
        if values is False or high == 0:
            return f'"{{" {self._edge} "}}"'
        names = schema.get("propertyNames", {"type": "string"})
        if patterns:
            names = {"type": "string", **names, "pattern": next(iter(patterns))}
        member = self._rule(f'{self._key(names)} ":" {self._gap} {self._rule(self._visit(values))}')
        return self._listed("{", member, low, high, "}")

    def _key(self, schema: Any) -> str:
        """What names of members match: JSON has only strings there, so numbers and the like stand in quotes."""
        resolved = self._target(schema["$ref"]) if "$ref" in schema else schema
        if "enum" in resolved or "const" in resolved:
            return self._any(literal(name) for name in _names(resolved))
        if resolved.get("type") in ("integer", "number", "boolean"):
            return rf'"\"" {self._rule(self._typed(resolved))} "\""'
        for word in ("anyOf", "oneOf"):
            if word in resolved:
                return self._any(self._key(option) for option in resolved[word])
        if resolved.get("type", "string") != "string":
            raise UnsupportedSchema(f"names of members of type {resolved['type']!r}")
        return self._rule(self._string(resolved))

    def _listed(self, opening: str, item: str, low: int, high: int | None, closing: str) -> str:
        more = _repetition(max(low - 1, 0), None if high is None else high - 1)
        some = f'({item} ("," {self._gap} {item}){more} {self._edge}){"" if low else "?"}'
        return f'"{opening}" {self._edge} {some} "{closing}"'

    def _members(self, properties: Mapping[str, Any], required: frozenset[str]) -> str:
        names = list(properties)
        members = [
            self._rule(f'{literal(name)} ":" {self._gap} {self._rule(self._visit(properties[name]))}') for name in names
        ]

        # [i] what may follow once a member before the ith has been written: a rule each, so that all of them together
        # stay as long as the object is.
        rest = [""] * (len(names) + 1)
        for i in reversed(range(1, len(names))):
            mine = f'"," {self._gap} {members[i]}'
            mine = mine if names[i] in required else f"({mine})?"
            rest[i] = self._rule(f"{mine} {rest[i + 1]}".rstrip())

        # Members keep their order. Each that all before it may be left out can be the first, and then needs no comma.
        first_required = next((i for i, name in enumerate(names) if name in required), None)
        last_start = len(names) - 1 if first_required is None else first_required
        starts = " | ".join(f"{members[i]} {rest[i + 1]}".rstrip() for i in range(last_start + 1))
        optional = "?" if first_required is None else ""
        return f'"{{" {self._edge} ({starts}){optional} {self._edge} "}}"'

    def _array(self, schema: Schema) -> str:
        low, high = _bounds(schema, "minItems", "maxItems")
        if prefix := schema.get("prefixItems"):
            return self._tuple([self._rule(self._visit(item)) for item in prefix], schema, low, high)
        if high == 0:
            return f'"[" {self._edge} "]"'
        return self._listed("[", self._rule(self._visit(schema.get("items", True))), low, high, "]")

    def _tuple(self, prefix: list[str], schema: Schema, low: int, high: int | None) -> str:
        """Items with places of their own; the last of them may be left out, or more may follow."""
        # A schema that says nothing of how many there are means all of the prefix.
        least = min(low, len(prefix)) if "minItems" in schema else len(prefix)
        inner = ""
        if "items" in schema and schema["items"] is not False and (high is None or high > len(prefix)):
            item = self._rule(self._visit(schema["items"]))
            more = _repetition(max(low - len(prefix), 0), None if high is None else high - len(prefix))
            inner = f'("," {self._gap} {item}){more}'
        for i in reversed(range(len(prefix))):
            comma = f'"," {self._gap} ' if i else ""
            inner = f"{comma}{prefix[i]} {inner}".rstrip()
            inner = inner if i < least else f"({inner})?"
        return f'"[" {self._edge} {inner} {self._edge} "]"'

    def _integer(self, schema: Schema) -> str:
        low, high = schema.get("minimum"), schema.get("maximum")
        if (above := schema.get("exclusiveMinimum")) is not None:
            low = max(int(above) + 1, low if low is not None else int(above) + 1)
        if (below := schema.get("exclusiveMaximum")) is not None:
            high = min(int(below) - 1, high if high is not None else int(below) - 1)
        if low is None and high is None:
            return "integer"
        expression = whole_numbers(low, high)
        if not expression:
            raise UnsupportedSchema(f"no whole number is at least {low} and at most {high}")
        return self._rule(expression)

    def _string(self, schema: Schema) -> str:
        if (form := re.sub(r"^uuid[1-8]$", "uuid", schema.get("format", ""))) in _FORMATS:
            return form
        low, high = _bounds(schema, "minLength", "maxLength")
        if "pattern" in schema:
            try:
                return string_rule(self._rules, schema["pattern"], low, high)
            except Unsupported:
                pass  # checked afterwards
        if (low, high) == (0, None):
            return "string"
        # Of bytes, the length is that of UTF-8.
        character = "ascii" if schema.get("format") == "binary" else "char"
        return rf'"\"" {character}{_repetition(low, high)} "\""'


_FORMATS = frozenset({"date", "time", "date-time", "uuid", "duration", "decimal", "complex", "ipv4", "ipv6"})
_IMPLIED: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "additionalProperties", "patternProperties", "required"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"pattern", "minLength", "maxLength", "format"}),
}


def _names(schema: Schema) -> list[str]:
    """The given values that names of members can stand for: where numbers are meant, they are read out of text; where
    a value may be of several types, pydantic takes text for text."""
    values = schema.get("enum", [schema.get("const")])
    numbers = schema.get("type") in ("integer", "number")
    return [v if isinstance(v, str) else json.dumps(v) for v in values if isinstance(v, str) or numbers]


def _bounds(schema: Schema, low: str, high: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    return min(least, MAX_REPETITIONS), None if most is None or most > MAX_REPETITIONS else most


def _repetition(low: int, high: int | None) -> str:
    return "*" if (low, high) == (0, None) else f"{{{low},{'' if high is None else high}}}"
