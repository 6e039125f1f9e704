"""The built-in tasks of ``agentmux demo``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be programmed, and how it is measured."""

    description: str
    examples: tuple[str, ...]
    """``f(literals) == literal``; the critic sees how the program does on these."""
    hidden: tuple[str, ...] = ()
    """Run once, on the final program, so that fitting the examples is not enough."""


def builtin_tasks() -> tuple[Task, ...]:
    """The tasks that are installed with the agents. Raises OSError or ValueError when the installation is damaged."""
    path = Path(__file__).with_name("tasks.json")
    entries = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Task(e["description"], tuple(e["examples"]), tuple(e.get("hidden", ()))) for e in entries)
