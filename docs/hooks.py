"""What MkDocs is told beside its configuration."""

from __future__ import annotations

from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings mark a block of code by ``::`` before it, which Markdown would show."""
    return html.replace("<p>::</p>", "").replace("::</p>", ":</p>")
