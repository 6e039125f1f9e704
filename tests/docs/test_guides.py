"""The Python blocks of the guides are sound: they compile, and what they define and test works."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("testing.md", "telemetry.md")


def blocks(guide: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / guide).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("guide", GUIDES)
def test_blocks_compile(guide: str) -> None:
    assert blocks(guide)
    for code in blocks(guide):
        compile(code, guide, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_scripts_of_the_testing_guide_work() -> None:
    plan, by_prompt, *_ = blocks("testing.md")
    defined: dict[str, Any] = {"__name__": "guide"}
    exec(plan, defined)
    asyncio.run(defined["test_plan"]())
    exec(by_prompt, defined)
    defined["engine"]._strict = False
    defined["engine"].close()


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_to_files(guide: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / guide).read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target
