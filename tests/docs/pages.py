"""The pages of the documentation, and the blocks of code on them.

How a block is tested follows from how it is written:

- ``python`` with a ``title`` is a file of that name, for the page's commands to run.
- ``python`` without one is a program of its own, unless the comment ``<!-- not run: why -->`` stands above it: then it
  must compile, and everything that it imports or names must exist.
- ``console`` is a transcript: the commands after ``$`` print what is shown; ``...`` stands for anything
  within a line.
- ``sh`` is for readers to type: options and names of agentmux's commands must exist.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(
    r'(?:^<!-- not run: (?P<why>.+?) -->\n)?^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    number: int
    language: str
    title: str
    code: str
    why_not_run: str

    @property
    def id(self) -> str:
        """The same in every process."""
        return f"{self.page}-{self.number}"


def name_of(page: Path) -> str:
    """Path of a page below the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [
        Block(name_of(page), number, one["language"], one["title"] or "", one["code"], one["why"] or "")
        for number, one in enumerate(found)
    ]


ALL = [block for page in PAGES for block in blocks(page)]


def transcript(code: str) -> list[tuple[str, str]]:
    """(command, what it prints) for each ``$`` of a console block."""
    _, *parts = re.split(r"^\$ ", code, flags=re.MULTILINE)
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def commands(block: Block) -> list[list[str]]:
    """The words of each of agentmux's commands in a block of ``sh`` or ``console``, without the program's name."""
    lines = [command for command, _ in transcript(block.code)]
    if block.language == "sh":
        lines = block.code.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        for part in re.split(r" && | \| |; ", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words and words[0].removeprefix(".venv/bin/") == "agentmux":
                found.append(words[1:])
    return found


def fits(shown: str, printed: str) -> bool:
    """Whether ``printed`` is what is shown, where ``...`` stands for anything within a line."""
    pattern = "[^\\n]*".join(re.escape(part) for part in shown.rstrip().split("..."))
    return re.fullmatch(pattern, printed.rstrip()) is not None
