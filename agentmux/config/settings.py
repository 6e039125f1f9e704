"""All settings of a runtime, put together from their sources and checked."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from agentmux.config.sources import PREFIX, Variable, as_bool, as_float, as_int, find_file, read_file, variables_set
from agentmux.config.values import (
    JournalConfig,
    Limits,
    LogConfig,
    LogLevel,
    ModelSpec,
    Oversize,
    WaitForModels,
    parse_bytes,
)
from agentmux.errors import ConfigError

_Table = type[ModelSpec] | type[Limits] | type[JournalConfig] | type[LogConfig]
_TABLES: Mapping[str, _Table] = MappingProxyType({"limits": Limits, "journal": JournalConfig, "log": LogConfig})
_SHORT: Mapping[_Table, tuple[str, tuple[type, ...]]] = MappingProxyType(
    {
        ModelSpec: ("path", (str, os.PathLike)),
        JournalConfig: ("path", (str, os.PathLike)),
        LogConfig: ("level", (str,)),
    }
)
"""Table -> the key that a bare value stands for, and of what kind it is then."""
DERIVED: Final = frozenset({"source", "configured"})
"""Fields of RuntimeConfig that say where the settings came from, and cannot be set."""


def _checked(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A validator whose ConfigError gets the place that it belongs to."""

    def validate(value: Any) -> Any:
        try:
            return make(value)
        except ConfigError as error:
            raise PydanticCustomError("config", "{problem}", {"problem": str(error)}) from None

    return validate


def _as_bytes(value: Any) -> Any:
    return value if value is None else parse_bytes(value)


def _long(kind: _Table, value: Any) -> Any:
    """The table that a bare value stands for; anything else as it is."""
    key, kinds = _SHORT.get(kind, ("", ()))
    if kind is JournalConfig and isinstance(value, bool):
        return {"enabled": value}
    return {key: value} if isinstance(value, kinds) else value


def _as_table(kind: _Table) -> Callable[[Any], Any]:
    names = [field.name for field in fields(kind)]

    def table(value: Any) -> Any:
        value = _long(kind, value)
        if isinstance(value, kind) or value is None:
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{value!r} is neither a table nor a {kind.__name__}")
        for key in value:
            if key not in names:
                raise ConfigError(_unknown(key, names))
        if kind is ModelSpec and "path" not in value:
            raise ConfigError("it has no path")
        return kind(**value)

    return table


def _unknown(key: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(key), list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"
    return f"{key!r} is not known; {hint}"


Bytes = Annotated[
    int | None, BeforeValidator(_checked(_as_bytes), json_schema_input_type=Annotated[int, Field(ge=1)] | str | None)
]
Model = Annotated[ModelSpec, BeforeValidator(_checked(_as_table(ModelSpec)), json_schema_input_type=ModelSpec | str)]
Journal = Annotated[
    JournalConfig | None,
    BeforeValidator(_checked(_as_table(JournalConfig)), json_schema_input_type=JournalConfig | str | bool | None),
]
Log = Annotated[LogConfig, BeforeValidator(_checked(_as_table(LogConfig)), json_schema_input_type=LogConfig | LogLevel)]
RunLimits = Annotated[Limits, BeforeValidator(_checked(_as_table(Limits)), json_schema_input_type=Limits)]


class RuntimeConfig(BaseModel):
    """All settings of a runtime, checked. Made by ``RuntimeConfig.make``, which raises ConfigError."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    models: dict[str, Model] = Field(default_factory=dict)
    """[name that agents use] the model. As keyword argument they take the place of all of the file's."""
    wait_for_models: WaitForModels = "all"
    """What opening waits for: ``all`` models, or the ``first``, so that its turns can start while the others are loaded
    in the background."""
    vram: Bytes = None
    """Bytes of device memory for everything, or text such as "7GiB"; None: nine tenths of what the device has free."""
    device: str = Field(default="auto", min_length=1)
    """``auto``, ``cpu`` or a ggml device name such as ``CUDA0``."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads for computing; None: the cores this process may use."""
    host_bytes: Bytes = None
    """Host memory for page-locked copies of weights and for sessions that are away from the device; None: no limit."""
    contexts: int | None = Field(default=None, ge=1)
    """How many models may hold a context (KV cache and compute buffers) at once; None: as the budget allows."""
    oversize: Oversize = "auto"
    """What a model larger than the arena does with the layers that do not fit: ``stream`` them in each pass, have the
    CPU compute them (``host``), or ``auto``, whichever has proved faster."""
    arena_bytes: Bytes = None
    """Cap on the arena below what ``vram`` leaves for it, for measurements."""
    link_bytes_per_s: int | None = Field(default=None, ge=1)
    """Hold uploads to this rate, for measurements."""
    debug_poison: bool = False
    """Overwrite evicted memory, for tests."""
    limits: RunLimits = Field(default_factory=Limits)
    """For each run that brings none of its own."""
    queue_limit: int = Field(default=1024, ge=0)
    """Turns that may wait at the same time."""
    max_wait_s: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    """A turn that has waited longer goes before turns of the model that is resident."""
    min_residency_s: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """A model that became resident keeps its turns first for this long, whatever else waits."""
    switches_per_quantum: float = Field(default=8.0, ge=0, allow_inf_nan=False)
    """Where more models want to decode than fit, a time slice lasts at least as long as so many uploads of its model
    take, and at least ``min_residency_s``."""
    max_active_slots: int | None = Field(default=None, ge=1)
    """Turns of all models together that may decode at the same time; None: the sum of the models' slots."""
    journal: Journal = None
    """Where runs are recorded so that they can be resumed; None: they are not."""
    log: Log = Field(default_factory=LogConfig)
    """What is logged, and how."""
    source: Path | None = None
    """The configuration file that was read, if any. Not a setting."""
    configured: dict[str, Model] = Field(default_factory=dict)
    """The configuration file's models, also where ``models`` are others. Not a setting."""

    @classmethod
    def make(
        cls,
        environ: Mapping[str, str],
        *,
        config: str | os.PathLike[str] | Literal[False] | None = None,
        **settings: Any,
    ) -> RuntimeConfig:
        """Put the settings together: ``settings`` that are not None, else ``environ``, else the file, else defaults.

        Args:
            environ: ``AGENTMUX_VRAM``, ``AGENTMUX_LIMITS_TURNS`` and so on; ``AGENTMUX_CONFIG`` is the file.
            config: the file; None: it is looked for, see ``agentmux.config.sources``; False: none.
            settings: fields of this class. A table given here, such as ``limits``, replaces the whole table.

        Raises ConfigError that names the setting, and the file or variable that it came from.
        """
        values: dict[str, Any] = {}
        source: Path | None = None
        configured: dict[str, ModelSpec] = {}
        if config is not False:
            folder = _current_folder()
            chosen = None if config is None else Path(config).expanduser()
            found = find_file(environ, folder) if chosen is None else read_file(chosen, environ, folder)
            if found is not None:
                values, source = dict(found.table), found.path
                configured = cls._from(values, f"{source}: ").models
        for variable, value in variables_set(VARIABLES, environ):
            _set(values, variable.keys, value)
            cls._from(values, f"the environment variable {variable.name}={environ[variable.name]!r}: ")
        values |= {name: value for name, value in settings.items() if value is not None}
        made = cls._from(values, "invalid runtime settings: ")
        return made.model_copy(update={"source": source, "configured": configured})

    @classmethod
    def _from(cls, values: Mapping[str, Any], where: str) -> RuntimeConfig:
        """Called after each source was added, so that what is wrong comes from that source."""
        names = [name for name in cls.model_fields if name not in DERIVED]
        for name in values:
            if name not in names:
                raise ConfigError(where + _unknown(name, names))
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(where + "; ".join(_problem(e) for e in error.errors())) from error


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "settings"
    found = "" if error["type"] == "config" else f", not {error['input']!r}"
    return f"{place}: {error['msg']}{found}"


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was removed; nothing can lie in it
        return Path("/")


def _set(values: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    """A value by its key, or by table and key; the table's other keys stay."""
    first, *rest = keys
    if rest:
        table = _long(_TABLES[first], values.get(first)) or {}
        value = {**table, rest[0]: value}
    values[first] = value


def _variables() -> Iterator[Variable]:
    hints = get_type_hints(RuntimeConfig, include_extras=True)
    for name in RuntimeConfig.model_fields:
        if name in DERIVED or name == "models":
            continue
        if name in _TABLES:
            for key, hint in get_type_hints(_TABLES[name], include_extras=True).items():
                if key in {field.name for field in fields(_TABLES[name])}:
                    yield Variable(f"{PREFIX}{name}_{key}".upper(), (name, key), _converter(hint))
        else:
            yield Variable(f"{PREFIX}{name}".upper(), (name,), _converter(hints[name]))


def _converter(hint: Any) -> Callable[[str], Any]:
    """How an environment variable's text becomes a value of that type."""
    if hint == Bytes:
        return str  # the field takes text with units
    kinds = set(_leaves(hint))
    for kind, convert in ((bool, as_bool), (int, as_int), (float, as_float)):
        if kind in kinds:
            return convert
    return str


def _leaves(hint: Any) -> Iterator[Any]:
    inner = get_args(hint)
    if not inner:
        yield hint
    for one in inner:
        yield from _leaves(one)


VARIABLES: tuple[Variable, ...] = tuple(_variables())
"""The environment variables of all scalar settings."""
