"""The guide to testing: what its blocks define and test works. That they compile and run is shown by test_pages."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.docs.pages import DOCS, blocks


def test_the_scripts_of_the_testing_guide_work() -> None:
    plan, by_prompt, *_ = [block.code for block in blocks(DOCS / "testing.md") if block.language == "python"]
    defined: dict[str, Any] = {"__name__": "guide"}
    exec(plan, defined)
    asyncio.run(defined["test_plan"]())
    exec(by_prompt, defined)
    defined["engine"]._strict = False
    defined["engine"].close()
