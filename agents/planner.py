"""Breaks a task into steps."""

from __future__ import annotations

from pydantic import BaseModel

from agentmux.agent import Agent, Run
from agentmux.agents import prompts


class Plan(BaseModel):
    """What the planner answers."""

    steps: list[str]


class Planner(Agent):
    """Description of a task -> `Plan`."""

    model = "planner"
    instructions = (
        "You plan small Python functions. The user describes a function f. Answer with JSON only, "
        '{"steps": ["...", "..."]}: two to five short steps in plain English, each one thing that f does, in order. '
        "No code."
    )
    output = Plan
    show_schema = False  # the instructions say it shorter
    max_tokens = 256

    async def run(self, ctx: Run, description: str) -> Plan:
        """Plan the function that ``description`` asks for."""
        plan: Plan = await ctx.ask(prompts.planner_prompt(description))
        return plan
