"""A run's limit on tokens, on the native engine: prompts are known only once it has read them, and it does not wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agentmux import Agent, LimitExceeded, Limits, Run, Runtime, pipeline
from agentmux.models import bundled_models

TASKS = (
    "Return the sum of the even numbers in the list.",
    "Return the longest word in the list.",
    "Return the list in reverse order.",
    "Return the largest number in the list.",
)


class Planner(Agent):
    model = "planner"
    max_tokens = 40


@pipeline
async def all_at_once(ctx: Run) -> list[Any]:
    return await asyncio.gather(*(ctx.run(Planner, task) for task in TASKS), return_exceptions=True)


@pytest.mark.parametrize("slots", [1, 4])
async def test_it_is_never_passed_and_what_others_give_back_is_used(slots: int) -> None:
    models = {"planner": replace(bundled_models()["planner"], slots=slots)}
    async with Runtime(models, device="cpu", threads=1, config=False) as mux:
        whole = await mux.run(all_at_once)
        needed = whole.usage.tokens
        enough = await mux.run(all_at_once, limits=Limits(tokens=needed + 1))
        assert enough.output == whole.output
        assert enough.usage == whole.usage
        for limit in range(10, needed, 17):
            result = await mux.run(all_at_once, limits=Limits(tokens=limit))
            assert result.usage.tokens <= limit
            given = [one for one in result.output if isinstance(one, str)]
            assert set(given) < set(whole.output)
            assert all(isinstance(one, str | LimitExceeded) for one in result.output)
        assert mux.stats().active == 0
