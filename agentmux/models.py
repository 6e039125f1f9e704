"""Which names stand for which model files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
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
    return {name: ModelSpec(folder / f"{name}.gguf", context_tokens=BUNDLED_CONTEXT_TOKENS) for name in BUNDLED_MODELS}


def bundled_folder() -> Path:
    """The folder of the demonstration models. Raises ModelNotFound where the installation lacks it."""
    # Located by name, not imported: agents are the layer above. A specification also knows the right folder in an
    # editable installation, where `agentmux.agents` lies outside of the package's own folder.
    found = importlib.util.find_spec("agentmux.agents")
    if found is None or not found.submodule_search_locations:
        raise ModelNotFound("the bundled agents are not installed; reinstall agentmux or pass models={name: path}")
    return Path(next(iter(found.submodule_search_locations))) / "models"


def named(model: str) -> ModelSpec:
    """A bundled model by its name, or the file at that path; write ``./coder`` for a file with such a name.

    Raises ModelNotFound where the bundled models are missing, ConfigError for an empty text.
    """
    return bundled_models()[model] if model in BUNDLED_MODELS else ModelSpec(model)


def expanded(spec: ModelSpec) -> str:
    """The model's path, with ``~`` resolved."""
    return os.path.expanduser(os.fspath(spec.path))


def known(model: str, names: Mapping[str, object]) -> str:
    """``model`` itself. Raises ModelNotFound, with the names that there are, if it is not one of ``names``."""
    if model not in names:
        choices = ", ".join(sorted(names)) or "none"
        raise ModelNotFound(f"no model named {model!r}; the runtime has: {choices}")
    return model
