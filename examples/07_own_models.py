"""Models of one's own: python examples/07_own_models.py writer.gguf editor.gguf 7GiB

Without arguments, two bundled models stand in for them.
"""

from __future__ import annotations

import asyncio
import sys

from agentmux import Agent, ModelSpec, Run, Runtime, SamplingParams, pipeline
from agentmux.models import bundled_models


class Writer(Agent):
    """Writes a draft."""

    model = "writer"
    instructions = "Answer in two sentences."
    sampling = SamplingParams(temperature=0.7, seed=1)
    max_tokens = 60


class Editor(Agent):
    """Shortens it."""

    model = "editor"
    instructions = "Make the text shorter. Answer with the text only."
    max_tokens = 60


@pipeline
async def write(ctx: Run, topic: str) -> str:
    """A draft, then its short form; the editor's model is uploaded while the writer still writes."""
    draft = await ctx.before(Editor).run(Writer, topic)
    return str(await ctx.run(Editor, draft))


async def main(writer: str, editor: str, vram: str) -> None:
    """Run the pipeline, and say what each turn took."""
    models = {"writer": ModelSpec(writer, context_tokens=1024), "editor": ModelSpec(editor, context_tokens=1024)}
    async with Runtime(models=models, vram=vram) as mux:
        print({name: mux.footprint(name).weight_bytes for name in models})
        for turn in (await mux.run(write, "paging")).turns:
            print(f"{turn.model}: first token after {turn.time_to_first_token_s:.3f} s, {turn.generated_tokens} tokens")


if __name__ == "__main__":
    bundled = [str(bundled_models()[name].path) for name in ("coder", "critic")]
    asyncio.run(main(*(sys.argv[1:4] if len(sys.argv) > 3 else [*bundled, "4MiB"])))
