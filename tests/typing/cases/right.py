"""Users' code as it should be: nothing here is flagged. ``assert_type`` is itself checked by the type checker."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, assert_type

from pydantic import BaseModel, Field

from agentmux import Agent, Limits, Run, RunFinished, RunResult, Runtime, SamplingParams, TextStreamed, pipeline


class Plan(BaseModel):
    steps: list[str]


class Planner(Agent):
    """The declaration as it is usually written."""

    model = "planner"
    instructions = "Plan."
    output = Plan
    sampling = SamplingParams(temperature=0.5)
    max_tokens = 64


class ShortPlanner(Planner):
    max_tokens = 16


class Coder(Agent):
    model = "coder"
    stop = ("END",)


class Writer(Agent):
    model = "coder"
    output = str


class Numbers(Agent):
    model = "coder"
    output = list[int]


class Rating(Agent):
    model = "critic"
    output: Any = Annotated[int, Field(ge=1, le=5)]  # pyright does not know Annotated as a value


class Choice(Agent):
    model = "critic"
    output = Literal["yes", "no"]


class Maybe(Agent):
    model = "critic"
    output = int | None


class Critic(Agent):
    """What it returns is not what its model answers."""

    model = "critic"
    output = Plan

    async def run(self, ctx: Run, code: str, *, strict: bool = False) -> bool:
        plan = await ctx.ask(code, output=Plan)
        assert_type(plan, Plan)
        lines: list[str] = await ctx.ask(code)
        number: int | None = await ctx.ask(code, output=int | None)
        word: str = await ctx.ask(code, output=Literal["yes", "no"])
        of_any: Any = Annotated[int, Field(le=5)]  # pyright does not know Annotated as a value
        rating: int = await ctx.ask(code, output=of_any)
        assert lines or number or word or rating
        return strict or not plan.steps


class Patient(Planner):
    async def run(self, ctx: Run, task: str) -> Plan:
        plan: Plan = await super().run(ctx, task)
        return plan


@pipeline
async def write_code(ctx: Run, task: str, rounds: int = 1) -> list[str]:
    plan = await ctx.run(Planner, task)
    assert_type(plan, Plan)
    assert_type(await ctx.run(Planner(), task), Plan)
    assert_type(await ctx.run(Critic, task, strict=True), bool)
    assert_type(await ctx.run(Critic(), task), bool)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.run(Writer, step)) for step in plan.steps]
    return [task.result() for task in tasks]


async def declared(mux: Runtime) -> None:
    assert_type(await mux.run(Planner, "task"), RunResult[Plan])
    assert_type(await mux.run(Planner(), "task"), RunResult[Plan])
    assert_type(await mux.run(ShortPlanner, "task", limits=Limits(turns=1)), RunResult[Plan])
    assert_type(await mux.run(ShortPlanner, "task", session="kept"), RunResult[Plan])
    assert_type(await mux.run(Writer, "task"), RunResult[str])
    assert_type(await mux.run(Numbers, "task"), RunResult[list[int]])
    assert_type(Planner.output, type[Plan])


async def own_run(mux: Runtime) -> None:
    assert_type(await mux.run(Critic, "code"), RunResult[bool])
    assert_type(await mux.run(Critic(), "code", strict=True), RunResult[bool])
    assert_type(await mux.run(Patient, "task"), RunResult[Plan])
    assert_type(await mux.run(write_code, "task"), RunResult[list[str]])
    assert_type(await mux.run(write_code, "task", rounds=2), RunResult[list[str]])
    await mux.run(Critic, "code", limits=Limits(turns=1))


async def unknown(mux: Runtime, some: type[Agent], one: Agent) -> None:
    """What no class says is not checked, and not complained about."""
    results: list[RunResult[Any]] = [
        await mux.run(Coder, "task"),
        await mux.run(Rating, "task"),
        await mux.run(Choice, "task"),
        await mux.run(Maybe, "task"),
        await mux.run(some, "task"),
        await mux.run(one, "task"),
    ]
    assert results


async def events(mux: Runtime) -> None:
    async for event in mux.stream(Planner, "task"):
        if isinstance(event, TextStreamed):
            print(event.text, event.turn)
        elif isinstance(event, RunFinished):
            print(event.result.usage.tokens)
