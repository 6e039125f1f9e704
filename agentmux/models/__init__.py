"""Which names stand for which model files: see ``agentmux.models.names`` for the names, and in which order they are
looked up."""

from agentmux.models.bundled import BUNDLED_CONTEXT_TOKENS, BUNDLED_MODELS, bundled_folder, bundled_models
from agentmux.models.files import check_file, read_ahead
from agentmux.models.names import Names, expanded, known, named, resolve, resolve_all
from agentmux.models.registry import Entry, Registry

__all__ = [
    "BUNDLED_CONTEXT_TOKENS",
    "BUNDLED_MODELS",
    "Entry",
    "Names",
    "Registry",
    "bundled_folder",
    "bundled_models",
    "check_file",
    "expanded",
    "known",
    "named",
    "read_ahead",
    "resolve",
    "resolve_all",
]
