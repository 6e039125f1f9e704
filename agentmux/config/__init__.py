"""Settings: keyword arguments over ``AGENTMUX_*`` environment variables over a TOML file over defaults.

Unknown keys are errors, and every error names where the value came from. Nothing here looks for a model: see
``agentmux.models``.
"""

from agentmux.config.settings import RuntimeConfig
from agentmux.config.values import (
    JournalConfig,
    Limits,
    LogConfig,
    ModelSpec,
    Oversize,
    WaitForModels,
    is_path,
    parse_bytes,
)

__all__ = [
    "JournalConfig",
    "Limits",
    "LogConfig",
    "ModelSpec",
    "Oversize",
    "RuntimeConfig",
    "WaitForModels",
    "is_path",
    "parse_bytes",
]
