"""Users' code with mistakes, each of which the type checker has to flag where it is marked."""

from __future__ import annotations

from pydantic import BaseModel

from agentmux import Agent, Limits, Run, Runtime, pipeline


class Plan(BaseModel):
    steps: list[str]


class Planner(Agent):
    model = "planner"
    output = Plan


class Writer(Agent):
    model = "coder"
    output = str


class Critic(Agent):
    model = "critic"
    output = Plan

    async def run(self, ctx: Run, code: str, *, strict: bool = False) -> bool:
        return bool(await ctx.ask(code, output=Plan))


class Forgetful(Agent):
    model = "critic"

    async def run(self, ctx: Run, code: str) -> str:
        return await ctx.ask(code, output=Plan)  # E: arg-type call-overload return-value | reportReturnType


class Misdeclared(Agent):
    model = 7  # E: assignment | reportAssignmentType
    retries = "two"  # E: assignment | reportAssignmentType


@pipeline
async def write_code(ctx: Run, task: str) -> str:
    plan = await ctx.run(Planner, task)
    plan.upper()  # E: attr-defined | reportAttributeAccessIssue
    await ctx.run(Planner, 3)  # E: arg-type call-overload | reportCallIssue
    await ctx.run(Critic, 3)  # E: arg-type call-overload | reportCallIssue
    await ctx.ask()  # E: arg-type call-overload | reportCallIssue
    number: int = await ctx.ask(task, output=str)  # E: arg-type call-overload assignment | reportAssignmentType
    again: str = await ctx.run(Planner, task)  # E: arg-type assignment | reportAssignmentType
    print(number, again)
    return await ctx.run(Planner, task)  # E: arg-type return-value | reportReturnType


async def results(mux: Runtime) -> str:
    plan = (await mux.run(Planner, "task")).output
    plan.upper()  # E: attr-defined | reportAttributeAccessIssue
    text: str = (await mux.run(Planner(), "task")).output  # E: assignment | reportAssignmentType
    limited: str = (await mux.run(Planner, "x", limits=Limits())).output  # E: assignment | reportAssignmentType
    print((await mux.run(Writer, "task")).output.steps)  # E: attr-defined | reportAttributeAccessIssue
    print((await mux.run(Critic, "code")).output.steps)  # E: attr-defined | reportAttributeAccessIssue
    return (await mux.run(write_code, "task")).output + text + limited


async def arguments(mux: Runtime) -> None:
    await mux.run(Planner)  # E: arg-type call-overload | reportCallIssue
    await mux.run(Planner, 3)  # E: arg-type call-overload | reportCallIssue
    await mux.run(Planner, "task", "more")  # E: arg-type call-overload | reportCallIssue
    await mux.run(Critic, "code", lenient=True)  # E: arg-type call-overload | reportCallIssue
    await mux.run(write_code, 3)  # E: arg-type call-overload | reportCallIssue
    await mux.run(write_code, "task", limits=3)  # E: arg-type call-overload | reportCallIssue
    await mux.run("write_code", "task")  # E: arg-type call-overload | reportCallIssue
