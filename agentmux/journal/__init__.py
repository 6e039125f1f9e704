"""Durable runs: what a run has done is written to one SQLite file, so that it can be resumed after its process ended.

``Journal`` is the file, ``RunRecord`` one run in it. Importing this loads neither sqlite3 nor anything else that takes
time; opening a journal does.
"""

from agentmux.journal.record import RunRecord
from agentmux.journal.records import (
    RecordedSession,
    RecordedTool,
    RecordedTurn,
    RunDetails,
    RunSummary,
    ShownTool,
    ShownTurn,
    Status,
)
from agentmux.journal.store import Journal

__all__ = [
    "Journal",
    "RecordedSession",
    "RecordedTool",
    "RecordedTurn",
    "RunDetails",
    "RunRecord",
    "RunSummary",
    "ShownTool",
    "ShownTurn",
    "Status",
]
