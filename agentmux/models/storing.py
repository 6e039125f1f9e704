"""What ``agentmux models add``, ``pull`` and ``remove`` do."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentmux.config import ModelSpec, is_path
from agentmux.errors import ConfigError, ModelNotFound
from agentmux.models import hub
from agentmux.models.gguf import part_paths, parts_of, read_header
from agentmux.models.names import Names, expanded
from agentmux.models.registry import Entry, require_name, sha256, size_bytes


def add(
    names: Names, name: str, source: str, settings: dict[str, int | None], *, replace: bool, checksum: bool
) -> Entry:
    """Register a model under ``name``, after a look at the front of its file.

    Args:
        source: a GGUF file (of a split one, any part), or a name on the hub, which is downloaded.
        settings: ``context_tokens``, ``slots``, ``batch_tokens``; None: the default.
        replace: whether a model of that name may be there.
        checksum: read the file whole for its sha256; models from the hub have theirs from there.

    Raises ConfigError, ModelNotFound, ModelCorrupt, ModelUnsupported.
    """
    require_name(name)
    if not replace and name in (entries := names.registry.entries()):  # asked before gigabytes are downloaded
        raise ConfigError(f"{name!r} is registered already, as {entries[name].path}; --replace replaces it")
    entry = _entry(names, source, checksum)
    given = {key: value for key, value in settings.items() if value is not None}
    # Not `model_copy`: what is set has to be checked, and to be known as set.
    entry = Entry(**{**entry.model_dump(exclude_unset=True), **given})
    names.registry.add(name, entry, replace=replace)
    return entry


def _entry(names: Names, source: str, checksum: bool) -> Entry:
    name = None if _is_file(source) else hub.parse(source)
    if name is not None:
        return _from_hub(names, name)
    first = os.path.abspath(part_paths(os.path.expanduser(source))[0])
    size = _checked(first)
    found: dict[str, Any] = {"path": first, "size_bytes": size, "added": _now()}
    return Entry(**found, sha256=sha256(first)) if checksum else Entry(**found)


def _from_hub(names: Names, name: hub.HubName) -> Entry:
    pulled = names.hub.pull(name)
    _checked(str(pulled.path))
    found: dict[str, Any] = {
        "path": str(pulled.path),
        "source": name.text,
        "size_bytes": pulled.size_bytes,
        "added": _now(),
    }
    return Entry(**found, sha256=pulled.sha256) if pulled.sha256 else Entry(**found)


def _is_file(source: str) -> bool:
    return not source.startswith("hf:") and (is_path(source) or os.path.isfile(os.path.expanduser(source)))


def _checked(path: str) -> int:
    """Bytes of all parts, each of which is a GGUF file."""
    for part in part_paths(path):
        read_header(part) if part == Path(path) else _require_readable(part)
    found = size_bytes(path)
    if found is None:
        raise ModelNotFound(f"{path}: the model has {len(parts_of(Path(path).name))} parts, and not all are there")
    return found


def _require_readable(part: Path) -> None:
    try:
        with open(part, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ModelNotFound(f"{part}: {error.strerror}; a split model needs all of its parts") from None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def pull(names: Names, name: str) -> Path:
    """Bring a model's latest file from the hub: one that was registered or configured with such a name, or that name
    itself. The registry is brought up to date.

    Raises ModelNotFound if the name is not known; ConfigError if it has nothing to do with the hub; as ``Hub.pull``.
    """
    entry = names.registry.entries().get(name)
    if name in names.configured:
        return _pulled(names, name, names.configured[name])
    if entry is None:
        return _pulled(names, name, ModelSpec(name))
    if entry.source is None:
        raise ConfigError(f"{name!r} was added as a file, {entry.path}, and is on no hub")
    on_hub = hub.parse(entry.source)
    if on_hub is None:
        raise ConfigError(f"{name!r} is registered with source {entry.source!r}, which is no name on the hub")
    latest = _from_hub(names, on_hub)
    if (latest.path, latest.size_bytes) != (entry.path, entry.size_bytes):
        kept = entry.model_dump(include={"context_tokens", "slots", "batch_tokens"}, exclude_unset=True)
        names.registry.add(name, Entry(**{**latest.model_dump(exclude_unset=True), **kept}), replace=True)
    return Path(latest.path)


def _pulled(names: Names, name: str, spec: ModelSpec) -> Path:
    text = expanded(spec)
    on_hub = hub.parse(text)
    if on_hub is None:
        raise ConfigError(f"{name!r} is the file {expanded(names.resolve(name))}, on no hub")
    return names.hub.pull(on_hub).path


def remove(names: Names, name: str, *, delete_file: bool) -> tuple[Path, ...]:
    """Take a model out of the registry; the files that were deleted, none unless ``delete_file``.

    A file in the hub's cache is deleted together with what it links to there. Raises ModelNotFound; ConfigError, with
    nothing done, if another registered model has the same file, or, with the model removed, if it cannot be deleted.
    """
    entries = names.registry.entries()
    if delete_file and name in entries:
        mine = os.path.realpath(entries[name].path)
        others = [o for o, entry in entries.items() if o != name and os.path.realpath(entry.path) == mine]
        if others:
            raise ConfigError(f"{entries[name].path} is also the file of {', '.join(others)}")
    entry = names.registry.remove(name)
    return tuple(_delete(part) for part in part_paths(entry.path)) if delete_file else ()


def _delete(part: Path) -> Path:
    target = part.resolve()
    try:
        part.unlink(missing_ok=True)
        if target != part and target.parent.name == "blobs":  # the cache's own copy; any other link is only a link
            target.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{part} cannot be deleted: {error.strerror}; the registry no longer has it") from None
    return part
