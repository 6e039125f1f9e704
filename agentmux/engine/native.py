"""The C++ engine behind the seam. Importing this module loads the native libraries; nothing else in agentmux does.

The order of imports matters and is decided here alone: ``llama_cpp`` loads the libllama that it installed, and the
extension, which needs the same soname, then finds that copy instead of mapping a second one. With a build against
another llama.cpp (``AGENTMUX_LLAMA_ROOT``), set ``LLAMA_CPP_LIB_PATH`` to its ``lib`` folder, so that both use that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import llama_cpp

from agentmux.engine import _native
from agentmux.engine.base import (
    EngineConfig,
    EngineEvent,
    EngineStats,
    FinishReason,
    Footprint,
    LoadProgress,
    LoadSpec,
    ModelStats,
    PrefillProgress,
    TextDelta,
    TokenLogprob,
    TurnFailed,
    TurnFinished,
    TurnParked,
    TurnRequest,
    TurnResumed,
    TurnStarted,
    TurnStats,
)
from agentmux.errors import ConfigError, EngineError, RequestInvalid, from_code
from agentmux.sampling import SamplingParams

LLAMA_CPP_PYTHON_VERSION = "0.3.36"
"""The extension is compiled against this version's headers; structures change between versions."""

_SHOWN_CHARACTERS = 80
"""Of a value in an error."""
_FIELDS_OF_TURN_STATS = tuple(TurnStats.__dataclass_fields__)
_FIELDS_OF_FOOTPRINT = tuple(f for f in Footprint.__dataclass_fields__ if f not in ("unit_bytes", "chat_template"))
_FIELDS_OF_ENGINE_STATS = tuple(f for f in EngineStats.__dataclass_fields__ if f != "models")
_FIELDS_OF_MODEL_STATS = tuple(ModelStats.__dataclass_fields__)
_FIELDS_OF_SAMPLING_PARAMS = tuple(SamplingParams.__dataclass_fields__)


class NativeEngine:
    """See ``agentmux.engine.base.Engine``. Two may live in one process; each has two threads of its own.

    Raises ConfigError for a device that does not exist, EngineError for another llama-cpp-python than the pinned one.
    """

    def __init__(self, config: EngineConfig | None = None) -> None:
        _require_pinned_version()
        config = config or EngineConfig()
        for name in ("device_bytes", "arena_bytes", "host_bytes", "contexts", "threads", "link_bytes_per_s"):
            if (value := getattr(config, name)) is not None and value < 0:
                raise ConfigError(f"{name} is {value}; it must not be negative")
        with _translated():
            self._engine = _native.Engine(_native_config(config))

    def load(self, spec: LoadSpec) -> Footprint:
        """See ``Engine.load``."""
        native = _native.LoadSpec()
        for name in ("model", "path", "slots", "batch_tokens"):
            setattr(native, name, getattr(spec, name))
        if spec.context_tokens == 0:
            raise ConfigError("context_tokens is 0; it must be at least 1")
        native.context_tokens = spec.context_tokens or 0
        with _translated():
            loaded = self._engine.load(native)
        return Footprint(
            unit_bytes=tuple(loaded.unit_bytes),
            chat_template=loaded.chat_template if loaded.has_chat_template else None,
            **_fields(loaded, _FIELDS_OF_FOOTPRINT),
        )

    def unload(self, model: str) -> None:
        """See ``Engine.unload``."""
        with _translated():
            self._engine.unload(model)

    def submit(self, request: TurnRequest) -> None:
        """See ``Engine.submit``."""
        with _translated():
            self._engine.submit(_native_request(request))

    def cancel(self, turn: int) -> None:
        """See ``Engine.cancel``."""
        self._engine.cancel(turn)

    def park(self, turn: int) -> None:
        """See ``Engine.park``."""
        self._engine.park(turn)

    def resume(self, turn: int) -> None:
        """See ``Engine.resume``."""
        self._engine.resume(turn)

    def forget(self, model: str, session: str) -> None:
        """See ``Engine.forget``."""
        with _translated():
            self._engine.forget(model, session)

    def prefetch(self, model: str) -> None:
        """See ``Engine.prefetch``."""
        with _translated():
            self._engine.prefetch(model)

    def poll(self) -> list[EngineEvent]:
        """See ``Engine.poll``."""
        return [_event(event) for event in self._engine.poll()]

    def fileno(self) -> int:
        """See ``Engine.fileno``."""
        return int(self._engine.fileno())

    def stats(self) -> EngineStats:
        """See ``Engine.stats``."""
        stats = self._engine.stats()
        models = tuple(ModelStats(**_fields(model, _FIELDS_OF_MODEL_STATS)) for model in stats.models)
        return EngineStats(models=models, **_fields(stats, _FIELDS_OF_ENGINE_STATS))

    def close(self) -> None:
        """See ``Engine.close``."""
        self._engine.close()


def _require_pinned_version() -> None:
    installed = llama_cpp.__version__
    if installed != LLAMA_CPP_PYTHON_VERSION:
        raise EngineError(
            f"llama-cpp-python {installed} is installed, but agentmux is built for {LLAMA_CPP_PYTHON_VERSION}: "
            f"pip install llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}"
        )


@contextmanager
def _translated() -> Iterator[None]:
    """Turns the extension's error, a code with its numbers, into the class that stands for it."""
    try:
        yield
    except _native.NativeError as error:
        code, message, numbers = error.args
        raise from_code(code, message, numbers) from None


def _fields(native: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(native, name) for name in names}


def _native_config(config: EngineConfig) -> _native.EngineConfig:
    # In a function of its own: where the engine cannot be made, the error's traceback would keep it until the end.
    native = _native.EngineConfig()
    native.device = config.device
    native.device_bytes = config.device_bytes or 0
    native.arena_bytes = config.arena_bytes or 0
    native.host_bytes = config.host_bytes or 0
    native.contexts = config.contexts or 0
    native.oversize = getattr(_native.Oversize, config.oversize)
    native.threads = config.threads or 0
    native.link_bytes_per_s = config.link_bytes_per_s or 0
    native.debug_poison = config.debug_poison
    native.debug_hash_logits = config.debug_hash_logits
    native.vet = str(Path(_native.__file__).with_name("agentmux-vet"))
    return native


def _native_request(request: TurnRequest) -> _native.TurnRequest:
    """Raises RequestInvalid for values that the engine's own types have no room for."""
    is_text = isinstance(request.prompt, str)
    given = {
        "is_text": is_text,
        "text" if is_text else "tokens": request.prompt if is_text else list(request.prompt),
        "grammar": request.grammar or "",
        "grammar_after": request.grammar_after or "",
        "logprobs": -1 if request.logprobs is None else request.logprobs,
        "stop": list(request.stop),
        "session": request.session or "",
        "fork": request.fork or "",
    }
    native = _native.TurnRequest()
    for name in ("turn", "model", "max_tokens", "ignore_eos", "show_special"):
        _set(native, name, getattr(request, name))
    for name, value in given.items():
        _set(native, name, value)
    sampling = _native.SamplingParams()
    for name in _FIELDS_OF_SAMPLING_PARAMS:
        _set(sampling, name, getattr(request.sampling, name))
    native.sampling = sampling
    return native


def _set(native: Any, name: str, value: Any) -> None:
    try:
        setattr(native, name, value)
    except (TypeError, ValueError, OverflowError) as error:  # also for half of a surrogate pair, which no text holds
        shown = ascii(value)
        shown = shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."
        raise RequestInvalid(f"{name}={shown} is nothing that a turn can be asked with") from error


def _event(event: _native.Event) -> EngineEvent:
    kind = _native.EventKind
    text = event.text.decode("utf-8", errors="replace")
    if event.kind == kind.started:
        return TurnStarted(event.turn)
    if event.kind == kind.prefill:
        return PrefillProgress(event.turn, event.done, event.total)
    if event.kind == kind.text:
        return TextDelta(event.turn, text, tuple(event.tokens), _logprobs(event))
    if event.kind == kind.loading:
        return LoadProgress(text, event.done, event.total)
    if event.kind == kind.parked:
        return TurnParked(event.turn)
    if event.kind == kind.resumed:
        return TurnResumed(event.turn)
    if event.kind == kind.finished:
        stats = TurnStats(**_fields(event.stats, _FIELDS_OF_TURN_STATS))
        reason = cast(FinishReason, event.reason)
        return TurnFinished(event.turn, reason, text, tuple(event.tokens), stats, _logprobs(event))
    return TurnFailed(event.turn, event.reason, text, dict(event.numbers))


def _logprobs(event: _native.Event) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(one.token, one.logprob, tuple(one.top)) for one in event.logprobs)
