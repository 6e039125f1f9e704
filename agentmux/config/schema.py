"""The JSON Schema of ``agentmux.toml``, for editors; ``docs/agentmux.schema.json`` is its published form."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from agentmux.config.settings import DERIVED, RuntimeConfig
from agentmux.config.values import JournalConfig, Limits, LogConfig, ModelSpec


def file_schema() -> dict[str, Any]:
    """The schema. Descriptions are the docstrings below the fields. Needs the package's sources."""
    schema = _without_null(RuntimeConfig.model_json_schema())
    for name in DERIVED:
        del schema["properties"][name]
    schema["properties"]["models"]["additionalProperties"].pop("title", None)
    for kind, table in ((RuntimeConfig, schema), *((k, schema["$defs"][k.__name__]) for k in _TABLES)):
        documented = _docstrings(kind)
        for name, field in table["properties"].items():
            field.pop("title", None)
            if name in documented:
                field["description"] = documented[name]
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agentmux.toml",
        "description": "Settings of agentmux, also as [tool.agentmux] in pyproject.toml.",
    }
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


_TABLES = (ModelSpec, Limits, JournalConfig, LogConfig)


def _without_null(schema: Any) -> Any:
    """TOML has no null: what is left out has its default."""
    if isinstance(schema, list):
        return [_without_null(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _without_null(value) for key, value in schema.items() if (key, value) != ("default", None)}
    if "anyOf" in result:
        kinds = [kind for kind in result.pop("anyOf") if kind != {"type": "null"}]
        kinds = [kind for kind in kinds if kind != {"type": "string", "format": "path"}]
        result |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return result


def _docstrings(kind: type) -> dict[str, str]:
    """Field -> the docstring below it, in one line."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = " ".join(text.replace("``", "`").split())
    return found
