"""The demonstration models that come with the installation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from agentmux.config import ModelSpec
from agentmux.errors import ModelNotFound

BUNDLED_MODELS = ("planner", "coder", "critic")
BUNDLED_CONTEXT_TOKENS = 1024
"""What they were trained on; beyond it they would answer without sense instead of refusing."""


def bundled_models() -> dict[str, ModelSpec]:
    """The demonstration models that are installed with the bundled agents, by name.

    Raises ModelNotFound where the installation lacks them.
    """
    folder = bundled_folder()
    return {
        name: ModelSpec(folder / f"{name}.gguf", context_tokens=BUNDLED_CONTEXT_TOKENS, system_messages=False)
        for name in BUNDLED_MODELS
    }


def bundled_folder() -> Path:
    """The folder of the demonstration models. Raises ModelNotFound where the installation lacks it."""
    # Located by name, not imported: agents are the layer above. A specification also knows the right folder in an
    # editable installation, where `agentmux.agents` lies outside of the package's own folder.
    found = importlib.util.find_spec("agentmux.agents")
    if found is None or not found.origin:
        raise ModelNotFound("the bundled agents are not installed; reinstall agentmux or pass models={name: path}")
    return Path(found.origin).parent / "models"
