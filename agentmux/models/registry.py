"""The registry: ``models.toml`` in ``AGENTMUX_HOME``, which ``agentmux models add`` writes and people may edit.

Each change reads the file, changes it and puts a new one in its place, under a lock, so that two processes lose
nothing and a crash leaves the old file or the new one. Comments and order stay as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentmux.config import ModelSpec
from agentmux.errors import ConfigError, ModelCorrupt, ModelNotFound
from agentmux.models.gguf import part_paths
from agentmux.paths import home

FILE: Final = "models.toml"
LOCK_WAIT_S: Final = 10.0
"""A change takes milliseconds; who holds the lock for longer is stuck."""
_LOCK_POLL_S = 0.02
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_CHUNK_BYTES = 1 << 20


class Entry(BaseModel):
    """A registered model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Annotated[str, Field(min_length=1)]
    """The file, or the first part of a split one; absolute where ``models add`` wrote it, else as from the home
    folder of agentmux."""
    source: str | None = None
    """The name on the hub that it came from."""
    context_tokens: Annotated[int | None, Field(ge=1)] = None
    slots: Annotated[int, Field(ge=1)] = 1
    batch_tokens: Annotated[int, Field(ge=1)] = 256
    size_bytes: Annotated[int | None, Field(ge=0)] = None
    """Of all parts, when it was added."""
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None
    """Of all parts one after another, when it was added."""
    added: datetime | None = None

    @property
    def spec(self) -> ModelSpec:
        """The model as a runtime takes it."""
        return ModelSpec(self.path, self.context_tokens, self.slots, self.batch_tokens)

    def state(self) -> Literal["ok", "missing", "changed"]:
        """``ok``, ``missing`` (a part cannot be read), or ``changed`` (another size than when it was added)."""
        found = size_bytes(self.path)
        if found is None:
            return "missing"
        return "ok" if self.size_bytes in (None, found) else "changed"


class Registry:
    """The registered models of one home folder. Nothing is kept in memory: each call reads the file."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.path = home(environ) / FILE

    def entries(self) -> dict[str, Entry]:
        """All models by name, in the file's order; none without a file. Raises ConfigError naming file and line."""
        return self._parsed(self._text())

    def add(self, name: str, entry: Entry, *, replace: bool = False) -> None:
        """Register a model. Raises ConfigError for a name that cannot be one or that is taken."""
        require_name(name)
        # Loaded here, because only changing the registry needs it.
        import tomlkit

        values = entry.model_dump(exclude_unset=True, exclude_none=True)

        def change(document: Any, entries: dict[str, Entry]) -> None:
            if name in entries and not replace:
                raise ConfigError(f"{name!r} is registered already, as {entries[name].path}; --replace replaces it")
            entries[name] = Entry(**values)
            models = document.setdefault("models", tomlkit.table(is_super_table=True))
            if not isinstance(models.get(name), dict):
                # By hand it may be `NAME = "path"`, in whose place a table needs to be in line too.
                models[name] = tomlkit.inline_table() if name in models else tomlkit.table()
            table = models[name]
            for key in [key for key in table if key not in values]:
                del table[key]
            table.update(values)

        self._change(change)

    def remove(self, name: str) -> Entry:
        """Take a model out of the registry; its file stays. Raises ModelNotFound."""
        removed: list[Entry] = []

        def change(document: Any, entries: dict[str, Entry]) -> None:
            if name not in entries:
                choices = ", ".join(sorted(entries)) or "none"
                raise ModelNotFound(f"no model {name!r} is registered in {self.path}; there are: {choices}")
            removed.append(entries.pop(name))
            del document["models"][name]

        self._change(change)
        return removed[0]

    def _change(self, change: Callable[[Any, dict[str, Entry]], None]) -> None:
        import tomlkit

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.with_suffix(".lock")):
                text = self._text()
                entries = self._parsed(text)
                document = tomlkit.parse(text)
                change(document, entries)
                changed = tomlkit.dumps(document)
                # Whatever the file was like: nothing is written that reads as anything else than was meant.
                if self._parsed(changed) != {key: self._anchored(entry) for key, entry in entries.items()}:
                    raise ConfigError(f"the registry {self.path} is written in a way that only people can change")
                _replace(self.path, changed)
        except OSError as error:
            raise ConfigError(f"the registry {self.path} cannot be changed: {error.strerror or error}") from None

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ConfigError(f"the registry {self.path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigError(f"the registry {self.path} is damaged in line {line}: no UTF-8") from None

    def _parsed(self, text: str) -> dict[str, Entry]:
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the registry {self.path} is damaged: {error}; mend it or move it away") from None
        models = document.pop("models", {})
        if document or not isinstance(models, dict):
            key = next(iter(document), "models")
            raise ConfigError(f"the registry {self.path}, line {_line(text, key)}: {key!r} is not known; "
                              "it has tables [models.NAME] only")  # fmt: skip
        return {name: self._entry(name, table, text) for name, table in models.items()}

    def _entry(self, name: str, table: Any, text: str) -> Entry:
        try:
            entry = Entry.model_validate({"path": table} if isinstance(table, str) else table)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            line = _line(text, name, key)
            problem = f"models.{name}{'.' if key else ''}{key}: {first['msg']}, not {first['input']!r}"
            raise ConfigError(f"the registry {self.path} is damaged in line {line}: {problem}") from None
        return self._anchored(entry)

    def _anchored(self, entry: Entry) -> Entry:
        return entry.model_copy(update={"path": str(self.path.parent / Path(entry.path).expanduser())})


def require_name(name: str) -> None:
    """Raises ConfigError unless it is letters, digits, ``_``, ``-`` and ``.``, and cannot be taken for a path."""
    if not _NAME.fullmatch(name) or name.lower().endswith(".gguf"):
        raise ConfigError(
            f"{name!r} cannot be a model's name; use letters, digits, '-', '_' and '.', no .gguf at its end"
        )


def size_bytes(path: str | os.PathLike[str]) -> int | None:
    """Of all parts of the model; None if one is not there."""
    try:
        return sum(part.stat().st_size for part in part_paths(path))
    except OSError:
        return None


def sha256(path: str | os.PathLike[str]) -> str:
    """Of all parts of the model one after another. Raises ModelNotFound."""
    digest = hashlib.sha256()
    try:
        for part in part_paths(path):
            with open(part, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
    except OSError as error:
        raise ModelNotFound(f"{error.filename}: {error.strerror}") from None
    return digest.hexdigest()


def require_unchanged(name: str, entry: Entry) -> None:
    """Raises ModelNotFound or ModelCorrupt if the file is gone or is of another size than when it was added."""
    state = entry.state()
    if state == "missing":
        again = f"agentmux models pull {name}" if entry.source else f"agentmux models add {name} FILE --replace"
        raise ModelNotFound(f"the file of the model {name!r} is gone: {entry.path}; {again}")
    if state == "changed":
        found = size_bytes(entry.path)
        raise ModelCorrupt(
            f"the file of the model {name!r} has changed: {entry.path} has {found} bytes, not {entry.size_bytes}; "
            f"if that is meant, agentmux models add {name} FILE --replace"
        )


def _line(text: str, table: str, key: str = "") -> int:
    """Where a table, or a key in it, is written; the TOML parser does not say."""
    lines = text.splitlines()
    begins = re.compile(rf"""\s*(?:\[\s*(?:models\s*\.\s*)?)?["']?{re.escape(table)}["']?\s*[\]=.]""")
    start = next((i for i, line in enumerate(lines) if begins.match(line)), 0)
    if key:
        within = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
        for i, line in enumerate(lines[start + 1 :], start + 1):
            if line.lstrip().startswith("["):
                break
            if within.match(line):
                return i + 1
    return start + 1


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "a") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError(f"another process has held {path} for {LOCK_WAIT_S:.0f} s") from None
                time.sleep(_LOCK_POLL_S)
        yield  # closing the file gives the lock back


def _replace(path: Path, text: str) -> None:
    """The new file in the old one's place, all or nothing, also where the old one is a link."""
    target = Path(os.path.realpath(path))
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, target.stat().st_mode & 0o777 if target.exists() else 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
