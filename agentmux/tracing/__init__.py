"""What happened when, as a file to look at: Chrome's trace format, for Perfetto, or a page that shows itself.

``Trace`` records a runtime while it works; ``recorded`` makes the same of a run in the journal. ``read`` has the
records of such a file again, ``excerpt`` those of a part of it, and ``picture`` draws them. A trace has names, numbers,
times and the texts of errors, but nothing that a model was asked or answered.
"""

from __future__ import annotations

from agentmux.tracing.excerpt import excerpt, window
from agentmux.tracing.files import TraceFile, is_page
from agentmux.tracing.picture import picture
from agentmux.tracing.reading import read
from agentmux.tracing.recorded import recorded
from agentmux.tracing.trace import Trace

__all__ = ["Trace", "TraceFile", "excerpt", "is_page", "picture", "read", "recorded", "window"]
