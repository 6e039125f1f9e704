"""What a model file is and what it needs, as the engine measured it: the model is loaded, nothing is estimated.

Importing this module loads the native libraries.
"""

from __future__ import annotations

import ctypes
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from llama_cpp import _ggml
from pydantic import BaseModel, ConfigDict, Field

from agentmux.config import ModelSpec
from agentmux.engine.base import EngineConfig, LoadSpec
from agentmux.engine.native import NativeEngine
from agentmux.errors import EngineError, ModelNotFound, NeverFits
from agentmux.models import expanded

_LEAST_BUDGET_BYTES = 1
"""A budget that every model is refused with; the refusal says what it would need."""


class TypeShare(BaseModel):
    """The tensors of one type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="ggml's name of the type, such as q4_K or f32")
    tensors: int = Field(description="how many tensors have it")
    bytes: int = Field(description="their bytes in the file, padding between tensors excluded")


class Inspection(BaseModel):
    """The document of ``agentmux models inspect --json``. Fields may be added, those here stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="the file or bundled model, as it was named")
    architecture: str = Field(description="general.architecture of the GGUF")
    file_bytes: int = Field(description="size of the file")
    types: tuple[TypeShare, ...] = Field(description="the mix of tensor types, the one with most bytes first")
    device: str = Field(description="the ggml device that it was measured on")
    context_tokens: int = Field(description="context of each slot that it was measured with")
    slots: int = Field(description="turns in one batch that it was measured with")
    training_context_tokens: int = Field(description="context that the model was trained with, as the GGUF says")
    vocabulary_tokens: int = Field(description="size of the vocabulary; 0: none, the model works with token ids")
    chat_template: bool = Field(description="whether the GGUF has one")
    unit_bytes: tuple[int, ...] = Field(description="[unit, in the order of first use] bytes in the arena")
    weight_bytes: int = Field(description="sum of unit_bytes")
    min_arena_bytes: int = Field(description="smallest arena that the model can decode in")
    static_bytes: int = Field(description="small tensors that stay on the device for good; 0 on the CPU")
    context_bytes: int = Field(description="KV cache and compute buffers on the device, all slots; 0 on the CPU")
    kv_bytes_per_token: int = Field(description="KV cache of a token of a slot; 0: it does not grow with tokens")
    host_bytes: int = Field(description="host memory that holds the weights")
    min_budget_bytes: int = Field(description="smallest budget with which the model runs alone; the arena on the CPU")
    resident_budget_bytes: int = Field(description="budget with which it is fully resident, alone")


def inspect_model(name: str, spec: ModelSpec, device: str = "auto") -> Inspection:
    """Load the model, read off what it takes, free it again.

    Args:
        name: what the model is called in the result.
        spec: the file, and the context and slots to measure with.
        device: see ``EngineConfig.device``.

    It is loaded twice, the second time with a budget of one byte: the engine's refusal says what it would need, the
    driver's share and the contexts included. Where there is little room its units are smaller.

    Raises ModelNotFound, ModelCorrupt, ModelUnsupported, ConfigError, NeverFits (no room to measure it), EngineError.
    """
    path = expanded(spec)
    load = LoadSpec(name, path, spec.context_tokens, spec.slots, spec.batch_tokens)
    with _engine(EngineConfig(device=device)) as engine:
        footprint = engine.load(load)
        device_name = engine.stats().device
    refusal = _refusal(load, device)
    min_budget_bytes, min_arena_bytes = int(refusal.numbers["needed_bytes"]), int(refusal.numbers["unit_bytes"])
    return Inspection(
        model=name,
        architecture=footprint.architecture,
        file_bytes=_file_bytes(path),
        types=tensor_types(path),
        device=device_name,
        context_tokens=footprint.context_tokens,
        slots=footprint.slots,
        training_context_tokens=footprint.training_context_tokens,
        vocabulary_tokens=footprint.vocabulary_tokens,
        chat_template=footprint.chat_template is not None,
        unit_bytes=footprint.unit_bytes,
        weight_bytes=footprint.weight_bytes,
        min_arena_bytes=min_arena_bytes,
        static_bytes=footprint.static_bytes,
        context_bytes=footprint.context_bytes,
        kv_bytes_per_token=footprint.kv_bytes_per_token,
        host_bytes=footprint.host_bytes,
        min_budget_bytes=min_budget_bytes,
        resident_budget_bytes=min_budget_bytes - min_arena_bytes + footprint.weight_bytes,
    )


def tensor_types(path: str) -> tuple[TypeShare, ...]:
    """The mix of tensor types in a GGUF file that the engine has loaded before: ggml trusts what it reads."""
    ggml = _gguf_functions()
    gguf = ggml.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not gguf:
        raise EngineError(f"{path}: its header cannot be read any more")
    tensors: defaultdict[int, int] = defaultdict(int)
    size: defaultdict[int, int] = defaultdict(int)
    for i in range(ggml.gguf_get_n_tensors(gguf)):
        kind = ggml.gguf_get_tensor_type(gguf, i)
        tensors[kind] += 1
        size[kind] += ggml.gguf_get_tensor_size(gguf, i)
    ggml.gguf_free(gguf)
    shares = (TypeShare(type=ggml.ggml_type_name(t).decode(), tensors=tensors[t], bytes=size[t]) for t in tensors)
    return tuple(sorted(shares, key=lambda share: (-share.bytes, share.type)))


def _refusal(load: LoadSpec, device: str) -> NeverFits:
    with _engine(EngineConfig(device=device, device_bytes=_LEAST_BUDGET_BYTES)) as engine:
        try:
            engine.load(load)
        except NeverFits as refusal:
            return refusal
    raise EngineError(f"{load.model} was loaded with a budget of {_LEAST_BUDGET_BYTES} byte")


@contextmanager
def _engine(config: EngineConfig) -> Iterator[NativeEngine]:
    engine = NativeEngine(config)
    try:
        yield engine
    finally:
        engine.close()


def _file_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise ModelNotFound(f"cannot read the model {path}: {error.strerror}") from None


class _InitParams(ctypes.Structure):
    """``gguf_init_params``."""

    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


def _gguf_functions() -> ctypes.CDLL:
    """The few functions of gguf.h that are needed, through a handle of our own, so that no one else's types change."""
    ggml = ctypes.CDLL(_ggml.libggml._name)
    for name, result, arguments in (
        ("gguf_init_from_file", ctypes.c_void_p, [ctypes.c_char_p, _InitParams]),
        ("gguf_free", None, [ctypes.c_void_p]),
        ("gguf_get_n_tensors", ctypes.c_int64, [ctypes.c_void_p]),
        ("gguf_get_tensor_type", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_tensor_size", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
        ("ggml_type_name", ctypes.c_char_p, [ctypes.c_int]),
    ):
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    return ggml
