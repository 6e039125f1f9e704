"""The published schema is the one that the code has, says what each key is, and knows the words of the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from agentmux.config import Oversize, RuntimeConfig
from agentmux.config.schema import file_schema
from agentmux.config.settings import DERIVED
from agentmux.engine import base

PUBLISHED = Path(__file__).parents[2] / "docs" / "agentmux.schema.json"


def test_the_published_schema_is_in_step() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == file_schema(), (
        "agentmux config schema > docs/agentmux.schema.json"
    )


def test_the_schema_has_every_setting_and_nothing_else() -> None:
    schema = file_schema()
    assert schema["properties"].keys() == RuntimeConfig.model_fields.keys() - DERIVED
    assert schema["additionalProperties"] is False
    assert all(table["additionalProperties"] is False for table in schema["$defs"].values())


def test_keys_say_what_they_are() -> None:
    schema = file_schema()
    assert all(field.get("description") for field in schema["properties"].values())
    told = [field for table in schema["$defs"].values() for field in table["properties"].values()]
    assert sum("description" in field for field in told) >= len(told) - 1
    assert "null" not in json.dumps(schema)


def test_oversize_has_the_engines_words() -> None:
    assert get_args(Oversize) == get_args(base.Oversize)
