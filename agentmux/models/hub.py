"""Models on the Hugging Face hub, through ``huggingface_hub`` (the extra ``hub``) and its cache; nothing is copied.

The library is loaded when it is first needed. Its own settings hold: ``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``,
``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from agentmux.errors import AgentmuxError, ConfigError, ModelNotFound
from agentmux.models.gguf import parts_of

EXTRA: Final = "pip install 'agentmux[hub]'"
_REPO = r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w.-]+))?"
_LONG = re.compile(rf"hf:{_REPO}(?::(?P<pattern>.+)|/(?P<file>.+))?", re.ASCII | re.DOTALL)
_SHORT = re.compile(rf"{_REPO}:(?P<tag>[\w-]+)", re.ASCII)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHOWN = 20
"""File names in an error at most."""


@dataclass(frozen=True, slots=True)
class HubName:
    """Files in a repository of the hub."""

    text: str
    """As it was written."""
    repo: str
    revision: str | None
    """A branch, tag or commit; None: ``main``."""
    pattern: str | None
    """A glob, matched with the whole path in the repository or the file name alone; None: the only GGUF there is."""
    file: str | None = None
    """In place of a pattern: the very path in the repository."""
    tag: str | None = None
    """In place of a pattern: a part of the file's name between punctuation, such as ``Q4_K_M``, in any case."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that lies in the cache."""

    path: Path
    """The file, or the first part of a split one."""
    size_bytes: int
    """Of all parts."""
    sha256: str | None
    """As the hub has it; None for several parts, and where it was taken from the cache offline."""


def parse(text: str) -> HubName | None:
    """``hf:owner/repo[@revision]:pattern``, ``hf:owner/repo/file.gguf``, ``hf:owner/repo`` or ``owner/repo:TAG``; None
    for anything else. Raises ConfigError for what begins with ``hf:`` and is none of these."""
    if short := _SHORT.fullmatch(text):
        return HubName(text, short["repo"], short["revision"], None, tag=short["tag"])
    long = _LONG.fullmatch(text)
    if long is None:
        if text.startswith("hf:"):
            raise ConfigError(f"{text!r} is no name on the hub; write hf:owner/repo:*Q4_K_M.gguf")
        return None
    return HubName(text, long["repo"], long["revision"], long["pattern"], file=long["file"])


def select(name: HubName, files: Sequence[str]) -> tuple[str, ...]:
    """The model's parts, in order, among a repository's files; projectors (mmproj) are left out of patterns.

    Raises ModelNotFound if there is none or a part is missing, ConfigError if there are several, each with the names.
    """
    candidates = [file for file in files if file.lower().endswith(".gguf")]
    if name.file is not None:
        matching = [file for file in files if file == name.file]
    else:
        candidates = [file for file in candidates if "mmproj" not in _base(file).lower()]
        matching = [file for file in candidates if _matches(name, file)]
    models = sorted({parts_of(file) for file in matching})
    if not models:
        raise ModelNotFound(f"{name.text}: no such GGUF file in {name.repo}; it has {_listed(candidates)}")
    if len(models) > 1:
        choices = _listed([parts[0] for parts in models])
        raise ConfigError(f"{name.text} fits several models, name one of them: {choices}")
    missing = [part for part in models[0] if part not in files]
    if missing:
        raise ModelNotFound(f"{name.text}: parts of the model are missing: {_listed(missing)}")
    return models[0]


def _matches(name: HubName, file: str) -> bool:
    if name.tag is not None:
        return re.search(rf"(?:^|[-._/]){re.escape(name.tag)}[-.]", file, re.IGNORECASE) is not None
    return name.pattern is None or fnmatchcase(file, name.pattern) or fnmatchcase(_base(file), name.pattern)


def _base(file: str) -> str:
    return file.rpartition("/")[2]


def _listed(files: Sequence[str]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(files[:_SHOWN]) + more or "none"


class Hub:
    """The hub, as this process reaches it.

    Args:
        endpoint: the server; None: ``HF_ENDPOINT``, else huggingface.co.
        cache: the library's cache folder; None: ``HF_HUB_CACHE`` or ``HF_HOME``, else ``~/.cache/huggingface/hub``.
    """

    def __init__(self, endpoint: str | None = None, cache: Path | None = None) -> None:
        self._endpoint = endpoint
        self._cache = cache

    def pull(self, name: HubName) -> Pulled:
        """Bring the model into the cache, as far as it is not there, and say where it lies. May take long.

        A download that breaks off is taken up again a few times by the library. If the hub cannot be reached, what the
        cache has is used.

        Raises ModelNotFound (no such repository, revision or file, or no access), ConfigError (several files match, no
        network, no room, the extra is missing).
        """
        library = _library()
        try:
            with _translated(name):
                return self._downloaded(library, name)
        except _Unreachable as unreachable:
            return self._cached(library, name, unreachable)

    def _downloaded(self, library: Any, name: HubName) -> Pulled:
        api = library.HfApi(endpoint=self._endpoint)
        info = api.model_info(name.repo, revision=name.revision, files_metadata=True)
        siblings = {one.rfilename: one for one in info.siblings or ()}
        parts = select(name, tuple(siblings))
        place = {"revision": info.sha, "cache_dir": self._cache}
        absent = [p for p in parts if not isinstance(library.try_to_load_from_cache(name.repo, p, **place), str)]
        self._require_room(library, name, sum(siblings[part].size or 0 for part in absent))
        # All parts from one commit: a branch may move while they come.
        paths = [library.hf_hub_download(name.repo, p, endpoint=self._endpoint, **place) for p in parts]
        stored = siblings[parts[0]].lfs
        return Pulled(
            Path(paths[0]),
            sum(os.stat(path).st_size for path in paths),
            stored.sha256 if stored is not None and len(parts) == 1 else None,
        )

    def _require_room(self, library: Any, name: HubName, needed_bytes: int) -> None:
        folder = existing = Path(self._cache or library.constants.HF_HUB_CACHE).absolute()
        while not existing.exists():
            existing = existing.parent
        free_bytes = shutil.disk_usage(existing).free
        if needed_bytes > free_bytes:
            raise ConfigError(
                f"{name.text}: no room in {folder} for {needed_bytes} bytes, {free_bytes} are free; HF_HOME moves it",
                needed_bytes=needed_bytes,
                available_bytes=free_bytes,
            )

    def _cached(self, library: Any, name: HubName, unreachable: _Unreachable) -> Pulled:
        """What the cache has of it; of several commits the one that the branch was at, else the latest."""
        try:
            repos = library.scan_cache_dir(self._cache).repos
        except library.CacheNotFound:
            repos = ()
        mine = [repo for repo in repos if (repo.repo_type, repo.repo_id) == ("model", name.repo)]
        snapshots = [snapshot for repo in mine for snapshot in repo.revisions]
        wanted = name.revision or "main"
        named = [s for s in snapshots if wanted in s.refs or s.commit_hash.startswith(wanted)]
        for snapshot in named or ([] if name.revision else sorted(snapshots, key=lambda s: -s.last_modified)):
            files = {str(file.file_path.relative_to(snapshot.snapshot_path)): file for file in snapshot.files}
            try:
                parts = select(name, tuple(files))
            except ModelNotFound:
                continue
            return Pulled(files[parts[0]].file_path, sum(files[part].size_on_disk for part in parts), None)
        raise ConfigError(f"{name.text} is not in the cache, and {unreachable}") from unreachable


class _Unreachable(Exception):
    """The hub does not answer; the text says why."""


def _library() -> Any:
    """``huggingface_hub``; typed as Any, since it is there only with the extra."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise ConfigError(f"models on the hub need huggingface_hub ({error}): {EXTRA}") from None
    return huggingface_hub


@contextmanager
def _translated(name: HubName) -> Iterator[None]:
    """One clear error for each of the library's. Raises _Unreachable where the cache may help."""
    try:
        yield
    except AgentmuxError:
        raise
    except Exception as error:
        raise _explained(name, error) from error


def _explained(name: HubName, error: Exception) -> Exception:
    errors = _library().errors
    for kind, problem in (
        (
            errors.GatedRepoError,
            f"gated; ask for access at https://huggingface.co/{name.repo}, set HF_TOKEN",
        ),
        (errors.RepositoryNotFoundError, f"no repository {name.repo}, or it is private and needs HF_TOKEN"),
        (errors.RevisionNotFoundError, f"{name.repo} has no revision {name.revision!r}"),
        (errors.RemoteEntryNotFoundError, f"the file is gone from {name.repo}"),
    ):
        if isinstance(error, kind):
            return ModelNotFound(f"{name.text}: {problem}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return _Unreachable("HF_HUB_OFFLINE is set")
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(name, error)
    if isinstance(error, errors.HFValidationError):
        return ConfigError(f"{name.text}: {_first_line(error)}")
    if isinstance(error, OSError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return _os_problem(name, error)
    # The library's transport has errors of its own, whose classes change from version to version.
    return _Unreachable(f"the hub cannot be reached: {type(error).__name__}: {_first_line(error)}")


def _answered(name: HubName, error: Any) -> Exception:
    status = error.response.status_code if error.response is not None else 0
    if status >= 500 or status == 429:
        return _Unreachable(f"the hub answers with status {status}")
    if status in (401, 403):
        return ModelNotFound(f"{name.text}: the hub refuses access to {name.repo} (status {status}); set HF_TOKEN")
    return ConfigError(f"{name.text}: the hub answers with status {status}: {_first_line(error)}")


def _os_problem(name: HubName, error: OSError) -> Exception:
    if error.errno in _NO_ROOM:
        return ConfigError(f"{name.text}: no room for it in the cache: {error.strerror}; HF_HOME moves it")
    if isinstance(error, ConnectionError | TimeoutError):
        return _Unreachable(f"the hub cannot be reached: {_first_line(error)}")
    return ConfigError(f"{name.text}: cannot be downloaded: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
