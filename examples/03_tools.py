"""Tools: functions that a model may call, or an agent on its behalf, since the bundled models never learned to.

With a model that did, `tools` is all it takes: python examples/03_tools.py model.gguf
"""

from __future__ import annotations

import asyncio
import sys

from agentmux import Agent, ModelRetry, Run, Runtime, ToolReturned, tool
from agentmux.agents import prompts, run_examples

TASK, CODE = "Return the sum of the numbers in the list.", "def f(numbers):\n    return sum(numbers)"


@tool(idempotent=True, timeout_s=30)
async def run_tests(code: str, example: str = "f([1, 2]) == 3") -> str:
    """Run a Python function f, given as source, on an example such as f([1, 2]) == 3, in a sandbox."""
    if "def f" not in code:
        raise ModelRetry("the code must define a function f")
    return (await run_examples(code, [example])).text


class Critic(Agent):
    """Judges a program."""

    model = sys.argv[1] if len(sys.argv) > 1 else "critic"
    instructions = "Judge the program. Run its tests before you answer."
    tools = (run_tests,) if len(sys.argv) > 1 else ()

    async def run(self, ctx: Run, code: str) -> str:
        """Ask once; a model without tools gets the report with the question."""
        report = "" if self.tools else await ctx.call(run_tests, code=code)
        answer: str = await ctx.ask(prompts.critic_prompt(TASK, code, report))
        return answer


async def main() -> None:
    """Judge a program, and show the calls of tools as they happen."""
    async with Runtime() as mux:
        async for event in mux.stream(Critic, CODE):
            if isinstance(event, ToolReturned):
                print(f"{event.call.name}: {event.result}")
        print(event.result.output)  # type: ignore[union-attr]


if __name__ == "__main__":
    asyncio.run(main())
