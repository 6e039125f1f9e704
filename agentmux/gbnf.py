r"""JSON Schema to GBNF, the grammar language of llama.cpp.

llama-cpp-python brings a converter of its own; it is not used, because what it emits does not always hold: strings may
contain raw control characters and lone surrogates (which no JSON parser takes back), a literal with a backslash gives
a grammar that does not parse, a recursive type with an underscore in its name refers to a rule that does not exist,
and ``list[Any]`` raises KeyError. It also needs the native library to be loaded.

What a grammar cannot say, or only at great length (``pattern``, number ranges, unique items, days of a month), is left
out here and checked after generation. So a grammar accepts every answer that is valid as the model would write it, and
little else; whitespace is bounded everywhere, so that a model cannot run away in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

Schema = Mapping[str, Any]

MAX_REPETITIONS = 1000
"""Bounds on items and characters above this are checked after generation: llama.cpp unrolls repetitions."""

_HEX = "[0-9a-fA-F]"
_YEAR = '("000" [1-9] | "00" [1-9] [0-9] | "0" [1-9] [0-9]{2} | [1-9] [0-9]{3})'
_DATE = f'{_YEAR} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_TIME = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})?'
_ZONE = '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])?'

_PRIMITIVES: Mapping[str, str] = MappingProxyType(
    {
        "ws": r'(" " | "\n" [ \t]{0,20})?',
        # Control characters must be escaped in JSON; a surrogate stands for nothing, raw or escaped. llama.cpp takes
        # bytes that are no UTF-8 for characters above U+10FFFF.
        "char": r'[^"\\\x00-\x1F\x7F\uD800-\uDFFF\U00110000-\U003FFFFF] | "\\" (["\\/bfnrt] | "u" unit)',
        "unit": f"[0-9a-cA-CefEF] {_HEX}{{3}} | [dD] [0-7] {_HEX}{{2}}",
        "string": r'"\"" char* "\""',
        "natural": '"0" | [1-9] [0-9]{0,15}',
        "integer": '"-"? natural',
        "fraction": '("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
        "number": "integer fraction",
        "positive-number": "natural fraction",
        "boolean": '"true" | "false"',
        "null": '"null"',
        "value": "object | array | string | number | boolean | null",
        "member": 'string ":" ws value',
        "object": '"{" ws (member ("," ws member)* ws)? "}"',
        "array": '"[" ws (value ("," ws value)* ws)? "]"',
        "date": rf'"\"" {_DATE} "\""',
        "time": rf'"\"" {_TIME} {_ZONE} "\""',
        "date-time": rf'"\"" {_DATE} "T" {_TIME} {_ZONE} "\""',
        "uuid": r'"\"" ' + ' "-" '.join(f"{_HEX}{{{n}}}" for n in (8, 4, 4, 4, 12)) + r' "\""',
    }
)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[0-9,]*\}|([a-z][a-z0-9-]*)')


class UnsupportedSchema(Exception):
    """The schema says something that no grammar is made for."""


def schema_to_gbnf(schema: Schema) -> str:
    """The grammar, with root rule ``root``, of JSON texts that match ``schema`` (see above for what is left out).

    Raises UnsupportedSchema for references out of the document, unknown types, and schemas that nothing matches.
    """
    return _Converter(schema).grammar()


class _Converter:
    """Holds the rules made so far. Methods return a GBNF expression for a part of the schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}  # expression -> name of its rule, so that equal parts share one
        self._references: dict[str, str] = {}

    def grammar(self) -> str:
        root = self._visit(self._schema)
        used: dict[str, str] = {}
        pending = [("root", root)]
        while pending:
            name, expression = pending.pop()
            used[name] = expression
            for match in _WORD.finditer(expression):
                word = match[1]
                if word and word not in used:
                    pending.append((word, self._rules.get(word) or _PRIMITIVES[word]))
        return "\n".join(f"{name} ::= {used[name]}" for name in sorted(used, key=lambda name: (name != "root", name)))

    def _rule(self, expression: str) -> str:
        if re.fullmatch(r"[a-z][a-z0-9-]*", expression):
            return expression
        if expression not in self._names:
            name = f"r{len(self._rules)}"
            self._names[expression] = name
            self._rules[name] = expression
        return self._names[expression]

    def _visit(self, schema: Any) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            raise UnsupportedSchema(f"nothing matches {json.dumps(schema)}")
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "const" in schema:
            return _literal(schema["const"])
        if "enum" in schema:
            return self._any(_literal(value) for value in schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._any(self._visit(option) for option in schema[word])
        if "allOf" in schema:
            return self._visit(self._merged(schema))
        return self._typed(schema)

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
        if kind in ("integer", "number"):
            positive = schema.get("minimum", schema.get("exclusiveMinimum", -1)) >= 0
            return {"integer": "natural", "number": "positive-number"}[kind] if positive else kind
        if kind in ("boolean", "null", "value"):
            return kind
        raise UnsupportedSchema(f"unknown type {kind!r}")

    def _any(self, options: Iterable[str]) -> str:
        distinct = list(dict.fromkeys(options))
        if not distinct:
            raise UnsupportedSchema("a choice without options")
        return self._rule(" | ".join(distinct))

    def _reference(self, reference: str) -> str:
        if reference in self._references:
            return self._references[reference]
        # The name comes before the visit, so that a type may refer to itself.
        name = f"d{len(self._references)}"
        self._references[reference] = name
        self._rules[name] = self._visit(self._target(reference))
        return name

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
        if values is False:
            return '"{" ws "}"'
        key = self._visit({"type": "string", **schema["propertyNames"]}) if "propertyNames" in schema else "string"
        member = self._rule(f'{key} ":" ws {self._rule(self._visit(values))}')
        return f'"{{" ws ({member} ("," ws {member})* ws)? "}}"'

    def _members(self, properties: Mapping[str, Any], required: frozenset[str]) -> str:
        names = list(properties)
        members = [self._rule(f'{_literal(name)} ":" ws {self._grouped(properties[name])}') for name in names]

        def rest(start: int) -> str:
            parts = (
                f'"," ws {members[i]}' if names[i] in required else f'("," ws {members[i]})?'
                for i in range(start, len(names))
            )
            return " ".join(parts)

        # Members keep their order. Each that all before it may be left out can be the first, and then needs no comma.
        first_required = next((i for i, name in enumerate(names) if name in required), None)
        last_start = len(names) - 1 if first_required is None else first_required
        starts = " | ".join(f"{members[i]} {rest(i + 1)}".rstrip() for i in range(last_start + 1))
        return f'"{{" ws ({starts}){"?" if first_required is None else ""} ws "}}"'

    def _grouped(self, schema: Any) -> str:
        return self._rule(self._visit(schema))

    def _array(self, schema: Schema) -> str:
        if prefix := schema.get("prefixItems"):
            return '"[" ws ' + ' "," ws '.join(self._grouped(item) for item in prefix) + ' ws "]"'
        low, high = _bounds(schema, "minItems", "maxItems")
        if high == 0:
            return '"[" ws "]"'
        item = self._grouped(schema.get("items", True))
        more = _repetition(max(low - 1, 0), None if high is None else high - 1)
        return f'"[" ws ({item} ("," ws {item}){more} ws){"" if low else "?"} "]"'

    def _string(self, schema: Schema) -> str:
        if (form := re.sub(r"^uuid[1-8]$", "uuid", schema.get("format", ""))) in ("date", "time", "date-time", "uuid"):
            return form
        low, high = _bounds(schema, "minLength", "maxLength")
        return "string" if (low, high) == (0, None) else rf'"\"" char{_repetition(low, high)} "\""'


_IMPLIED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "object": frozenset({"properties", "additionalProperties", "patternProperties", "required"}),
        "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
        "string": frozenset({"pattern", "minLength", "maxLength"}),
    }
)


def _bounds(schema: Schema, low: str, high: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    return min(least, MAX_REPETITIONS), None if most is None or most > MAX_REPETITIONS else most


def _repetition(low: int, high: int | None) -> str:
    return "*" if (low, high) == (0, None) else f"{{{low},{'' if high is None else high}}}"


def _literal(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
