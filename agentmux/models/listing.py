"""Every model that has a name here, with what can be said of it without loading it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agentmux.config import ModelSpec, is_path
from agentmux.errors import ModelError
from agentmux.models.bundled import bundled_models
from agentmux.models.gguf import read_header
from agentmux.models.names import Names, expanded
from agentmux.models.registry import Entry, sha256, size_bytes

Origin = Literal["config", "registry", "bundled"]
State = Literal["ok", "missing", "changed", "damaged", "refers"]


class Row(BaseModel):
    """One model of ``agentmux models list --json``. Fields may be added, those here stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="what agents call it")
    origin: Origin = Field(description="what knows it: config (the configuration file), registry or bundled")
    hidden: bool = Field(description="another of the same name goes before it")
    state: State = Field(
        description="ok; missing: a file is not there; changed: not the file that was added; damaged: no sound header; "
        "refers: the configuration file has another name here, to be looked up when it is used"
    )
    path: str = Field(description="the file, the first part of a split one, or what it refers to")
    source: str | None = Field(description="name on the hub that it was pulled from")
    size_bytes: int | None = Field(description="of all parts")
    architecture: str | None = Field(description="general.architecture of the GGUF")
    training_context_tokens: int | None = Field(description="context that it was trained with, as the GGUF says")
    context_tokens: int | None = Field(description="of each slot; null: 4096, or what it was trained with if less")
    slots: int = Field(description="turns in one batch")
    batch_tokens: int = Field(description="tokens in one step at most")
    sha256: str | None = Field(description="of all parts one after another, when it was added")
    added: datetime | None = Field(description="when it was added to the registry")


def rows(names: Names, *, verify: bool = False) -> list[Row]:
    """All models with names: the configuration file's, the registry's and the bundled ones, in order of precedence.

    ``verify`` reads the registered files whole, to compare their sha256. Raises ConfigError for a damaged registry.
    """
    seen: set[str] = set()
    result: list[Row] = []
    for origin, name, spec, entry in _all(names):
        result.append(_row(origin, name, spec, entry, hidden=name in seen, verify=verify))
        seen.add(name)
    return result


def _all(names: Names) -> Iterator[tuple[Origin, str, ModelSpec, Entry | None]]:
    for name, spec in sorted(names.configured.items()):
        yield "config", name, spec, None
    for name, entry in sorted(names.registry.entries().items()):
        yield "registry", name, entry.spec, entry
    for name, spec in bundled_models().items():
        yield "bundled", name, spec, None


def row_of(name: str, entry: Entry) -> Row:
    """A registered model."""
    return _row("registry", name, entry.spec, entry, hidden=False, verify=False)


def _row(origin: Origin, name: str, spec: ModelSpec, entry: Entry | None, *, hidden: bool, verify: bool) -> Row:
    path = expanded(spec)
    refers = origin == "config" and not is_path(path)
    state, header = _state(path, entry, verify), None
    if refers:
        state = "refers"
    elif state != "missing":
        try:
            header = read_header(path)
        except ModelError:
            state = "damaged"
    return Row(
        name=name,
        origin=origin,
        hidden=hidden,
        state=state,
        path=os.fspath(spec.path) if refers else path,
        source=entry.source if entry else None,
        size_bytes=None if refers else size_bytes(path),
        architecture=header.architecture if header else None,
        training_context_tokens=header.training_context_tokens if header else None,
        context_tokens=spec.context_tokens,
        slots=spec.slots,
        batch_tokens=spec.batch_tokens,
        sha256=entry.sha256 if entry else None,
        added=entry.added if entry else None,
    )


def _state(path: str, entry: Entry | None, verify: bool) -> State:
    if size_bytes(path) is None:
        return "missing"
    if entry is None:
        return "ok"
    state = entry.state()
    if state == "ok" and verify and entry.sha256 not in (None, sha256(path)):
        return "changed"
    return state
