"""Write ``docs/demo-models.md`` from measured numbers, so that nobody has to type one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROWS = (
    ("plan_valid", "plans that are valid JSON (without a grammar)"),
    ("plan_right", "plans with exactly the right steps"),
    ("vague", "tasks whose description has several readings"),
    ("first_round", "tasks solved in the first round"),
    ("two_rounds", "tasks solved within two rounds"),
    ("three_rounds", "tasks solved within three rounds"),
    ("verdict_valid", "verdicts that are valid JSON (without a grammar)"),
    ("verdict_right", "verdicts that are right"),
    ("right_approved", "right programs that were approved"),
    ("wrong_rejected", "wrong programs that were rejected"),
    ("failing_report_rejected", "programs with a failing report that were rejected"),
)

HEAD = """# The demonstration models, measured

Written by `python -m agentmux.agents.training.evaluate --models agents/models --page docs/demo-models.md`;
do not edit it.

{tasks} held-out tasks (seed {seed}), compositions and phrasings that training never saw, 12 examples each: the agents
see {visible}, the other {hidden} decide. Greedy decoding, no grammar, {backend}.
A program is right when it passes all hidden examples; a verdict is right when it approves right programs and rejects
all others. Of a loop's programs the last that passes the visible examples counts, else the last one, whoever liked it.

Some descriptions have two or three readings, as people's have ("sort the words"), and the examples decide. The meant
reading is drawn at random; plan and first program follow the commonest, so that one round is often not enough.

| measured | share |
|---|---|
"""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def write_page(target: Path, numbers: Mapping[str, float], models: Path, visible: int, examples: int) -> None:
    """Write the page.

    Args:
        target: the Markdown file.
        numbers: what `evaluate.measure` returned, with ``seed``.
        models: the folder with the models; GGUF files in it are listed with their sizes.
        visible, examples: shown and all examples of a task.
    """
    files = sorted(models.glob("*.gguf"))
    backend = (
        "the GGUF files in agentmux's engine\non the CPU, paged through a budget of 4 MiB"
        if files
        else "PyTorch weights before quantisation"
    )
    text = HEAD.format(
        tasks=int(numbers["tasks"]),
        seed=int(numbers["seed"]),
        visible=visible,
        hidden=examples - visible,
        backend=backend,
    )
    text += "".join(f"| {label} | {_percent(numbers[key])} |\n" for key, label in ROWS)
    text += f"\n{int(numbers['verdicts'])} verdicts, {int(numbers['wrong_programs'])} of them on wrong programs.\n"
    text += (
        f"Of {int(numbers['later_programs'])} programs in later rounds, {int(numbers['repeated_programs'])} "
        "repeated one that had failed.\n"
    )
    if files:
        text += (
            f"\n{int(numbers['switches']):,} switches between models, {int(numbers['bytes_paged']):,} bytes paged. "
            f"Loading all three and the first token, in a\nfresh process on the CPU, median of 5: "
            f"{numbers['first_token_s']:.2f} s.\n"
        )
        text += "\n| file | bytes |\n|---|---|\n"
        text += "".join(f"| `{file.name}` | {file.stat().st_size:,} |\n" for file in files)
        text += f"| together | {sum(file.stat().st_size for file in files):,} |\n"
    target.write_text(text, encoding="utf-8")
