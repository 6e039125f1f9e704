"""What happened when, as a file to look at: Chrome's trace format, for Perfetto, or a page that shows itself.

``Trace`` records a runtime while it works; ``recorded`` makes the same of a run in the journal. A trace has names,
numbers, times and the texts of errors, but nothing that a model was asked or answered.
"""

from __future__ import annotations

from agentmux.tracing.files import TraceFile, is_page
from agentmux.tracing.recorded import recorded
from agentmux.tracing.trace import Trace

__all__ = ["Trace", "TraceFile", "is_page", "recorded"]
