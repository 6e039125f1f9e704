"""From a name to a model file.

A name, in an agent's ``model``, in ``Runtime(models=...)``, in a configuration file or on the command line, is looked
up in this order; the first that knows it decides:

1. ``Runtime(models=...)``
2. the configuration file's ``[models]``
3. the registry, see ``agentmux models add``
4. the bundled models: planner, coder, critic
5. a path: it has a separator, or ends in ``.gguf``, or a file of that name exists
6. the hub: ``hf:owner/repo:*Q4_K_M.gguf``, ``hf:owner/repo/file.gguf``, or llama.cpp's ``owner/repo:Q4_K_M``

``hf:`` is always the hub's; write ``./name`` for a file that has another model's name. What 1 and 2 have under a name
may itself be a name, which is looked up further down only, so that there are no circles.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace

from agentmux.config import ModelSpec, RuntimeConfig, is_path
from agentmux.errors import ModelNotFound
from agentmux.models import hub
from agentmux.models.bundled import BUNDLED_MODELS, bundled_models
from agentmux.models.registry import Registry, require_unchanged

_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_EXPLICIT, _CONFIGURED, _REGISTERED, _BUNDLED, _PATHS = range(5)


@dataclass(frozen=True, slots=True)
class Names:
    """Everything that knows names."""

    explicit: Mapping[str, ModelSpec]
    configured: Mapping[str, ModelSpec]
    registry: Registry
    hub: hub.Hub

    @classmethod
    def of(cls, config: RuntimeConfig, environ: Mapping[str, str]) -> Names:
        """Those of a runtime's settings."""
        return cls(config.models, config.configured, Registry(environ), hub.Hub())

    def resolve(self, name: str) -> ModelSpec:
        """See ``resolve``."""
        return self._from(_EXPLICIT, name)

    def value(self, spec: ModelSpec) -> ModelSpec:
        """What a value of ``Runtime(models=...)`` stands for."""
        return self._further(spec, _CONFIGURED)

    def known(self) -> list[str]:
        """All names that are not paths or the hub's, sorted."""
        return sorted({*self.explicit, *self.configured, *self.registry.entries(), *BUNDLED_MODELS})

    def _from(self, level: int, name: str) -> ModelSpec:
        for here, table in ((_EXPLICIT, self.explicit), (_CONFIGURED, self.configured)):
            if level <= here and name in table:
                return self._further(table[name], here + 1)
        if _bare(name):
            entry = self.registry.entries().get(name)
            if entry is not None:
                require_unchanged(name, entry)
                return entry.spec
            if name in BUNDLED_MODELS:
                return bundled_models()[name]
        return self._file(name)

    def _further(self, spec: ModelSpec, level: int) -> ModelSpec:
        """What a table's value stands for. Where it is a name, its own settings go before those found there."""
        if not isinstance(spec.path, str):
            return self._existing(spec)
        found = self._from(level, spec.path)
        own = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "path"}
        return replace(found, **{name: value for name, value in own.items() if value != _DEFAULTS[name]})

    def _file(self, name: str) -> ModelSpec:
        on_hub = hub.parse(name)
        if not name.startswith("hf:"):
            if is_path(name):
                return self._existing(ModelSpec(name))
            if os.path.isfile(os.path.expanduser(name)):
                return ModelSpec(os.path.expanduser(name))
        if on_hub is not None:
            return ModelSpec(self.hub.pull(on_hub).path)
        raise ModelNotFound(self._unknown(name))

    def _existing(self, spec: ModelSpec) -> ModelSpec:
        path = expanded(spec)
        if not os.path.exists(path):
            text = os.fspath(spec.path)
            hint = f"; a model on the hub is written hf:{text}" if _REPO.fullmatch(text) else ""
            raise ModelNotFound(f"{path}: no such file{hint}")
        return replace(spec, path=path)

    def _unknown(self, name: str) -> str:
        known = self.known()
        near = difflib.get_close_matches(name, known, n=3)
        there = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(known)};"
        return f"no model named {name!r}; {there} `agentmux models add NAME FILE` registers one"


_DEFAULTS: Mapping[str, object] = {f.name: f.default for f in fields(ModelSpec)}


def _bare(name: str) -> bool:
    return not is_path(name) and not name.startswith("hf:")


def resolve(
    name: str,
    *,
    config: RuntimeConfig | None = None,
    environ: Mapping[str, str] | None = None,
) -> ModelSpec:
    """The model that ``name`` stands for, its file there; see the module for the order.

    A model on the hub that is not in its cache is downloaded, which may take long.

    Args:
        config: has the runtime's and the configuration file's models; None: the file that holds in this folder.
        environ: None: ``os.environ``.

    Raises ModelNotFound with near misses, or because a file is gone; ModelCorrupt if a registered file was changed;
    ConfigError for settings, a registry or a hub name that cannot be meant, and for what keeps a download from ending.
    """
    environ = os.environ if environ is None else environ
    return Names.of(config or RuntimeConfig.make(environ), environ).resolve(name)


class _OnHub(Exception):
    """A model that may have to be downloaded."""


class _NoHub(hub.Hub):
    def pull(self, name: hub.HubName) -> hub.Pulled:
        raise _OnHub


def resolve_all(config: RuntimeConfig, environ: Mapping[str, str], *, download: bool = True) -> dict[str, ModelSpec]:
    """The models of a runtime, by the names that agents use: those of ``config``, else the bundled ones; without
    ``download`` those are left out that the hub has to be asked for. Raises as ``resolve`` does."""
    names = Names.of(config, environ)
    if not download:
        names = replace(names, hub=_NoHub())
    # A runtime that was given no models at all, by an empty mapping, is meant to have none.
    chosen = config.models if "models" in config.model_fields_set else bundled_models()
    found: dict[str, ModelSpec] = {}
    for name, spec in chosen.items():
        with suppress(_OnHub):
            found[name] = names.value(spec)
    return found


def named(model: str) -> ModelSpec:
    """``resolve`` with what holds in this process and folder."""
    return resolve(model)


def expanded(spec: ModelSpec) -> str:
    """The model's path, with ``~`` resolved."""
    return os.path.expanduser(os.fspath(spec.path))


def known(model: str, names: Mapping[str, object]) -> str:
    """``model`` itself. Raises ModelNotFound, with the names that there are, if it is not one of ``names``."""
    if model not in names:
        choices = ", ".join(sorted(names)) or "none"
        raise ModelNotFound(f"no model named {model!r}; the runtime has: {choices}")
    return model
