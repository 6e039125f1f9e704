"""Models that never learned to call tools cannot make a malformed call: the grammar holds them to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum
from typing import Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field

from agentmux import (
    Agent,
    OutputInvalid,
    OutputRetried,
    Run,
    RunFinished,
    Runtime,
    SamplingParams,
    ToolCalled,
    ToolErrored,
    pipeline,
)
from agentmux.models import bundled_models

SEEDS = 6


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Point(BaseModel):
    x: Annotated[int, Field(ge=0, le=9)]
    y: bool = False


def paint(colour: Colour, where: Point, how: Literal["thick", "thin"] = "thin") -> str:
    """Paint a point.

    Args:
        colour: in which colour.
        where: which point.
        how: with which brush.
    """
    assert isinstance(colour, Colour)
    assert isinstance(where, Point)
    assert how in ("thick", "thin")
    return "painted"


def count(numbers: Annotated[list[Annotated[int, Field(ge=0, le=99)]], Field(max_length=4)]) -> int:
    """Count numbers."""
    return len(numbers)


class Painter(Agent):
    model = "planner"
    tools = (paint, count)
    tool_choice = "required"
    tool_rounds = 2
    max_tokens = 90


class Typed(Painter):
    output = Point


@pytest.mark.parametrize("target", [Painter, Typed])
async def test_every_call_is_one_of_the_declared_tools_with_valid_arguments(target: type[Painter]) -> None:
    spec = replace(bundled_models()["planner"], slots=4)
    async with Runtime(models={"planner": spec}, device="cpu", threads=1) as mux:

        @pipeline
        async def all_seeds(ctx: Run) -> list[Any]:
            def seeded(number: int) -> type[Painter]:
                sampling = SamplingParams(temperature=1.5, top_k=0, seed=number)
                return type(target.__name__, (target,), {"sampling": sampling})

            runs = (ctx.run(seeded(number), "Paint the picture.") for number in range(SEEDS))
            return await asyncio.gather(*runs, return_exceptions=True)

        events = [event async for event in mux.stream(all_seeds)]
    (finished,) = [event for event in events if isinstance(event, RunFinished)]
    outputs = cast(list[Any], finished.result.output)
    invalid = [output for output in outputs if isinstance(output, Exception)]
    calls = [event for event in events if isinstance(event, ToolCalled)]
    assert calls
    assert len(calls) + len(invalid) >= SEEDS
    assert not [event.error for event in events if isinstance(event, ToolErrored)]
    # What cannot be helped is an answer or a call that is too long for max_tokens; it says so.
    assert all(isinstance(error, OutputInvalid) for error in invalid)
    assert all("cut" in event.error for event in events if isinstance(event, OutputRetried))
