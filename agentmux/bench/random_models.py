"""Models of random weights, for measurements without a download: speed does not depend on what weights say."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

import llama_cpp  # before _native: see agentmux.engine.native

from agentmux.bench.shapes import PREFIX as PREFIX
from agentmux.engine import _native
from agentmux.errors import EngineError, ModelNotFound

_SEED = 1


def _llama(width: int, layers: int, inner: int, vocabulary: int) -> MappingProxyType[str, int | float | str]:
    heads = width // 64
    return MappingProxyType(
        {
            "general.architecture": "llama",
            "general.name": "random",
            "tokenizer.ggml.model": "no_vocab",
            "llama.vocab_size": vocabulary,
            "llama.context_length": 8192,
            "llama.embedding_length": width,
            "llama.block_count": layers,
            "llama.feed_forward_length": inner,
            "llama.attention.head_count": heads,
            "llama.attention.head_count_kv": max(1, heads // 4),
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.dimension_count": 64,
        }
    )


SHAPES = MappingProxyType(
    {
        "llama-tiny": _llama(256, 6, 704, 512),
        "llama-small": _llama(1024, 10, 2816, 16384),
    }
)
"""Name after ``random:`` -> metadata. Written as Q8_0: 6 MB and 150 MB."""


def write(name: str, folder: Path) -> Path:
    """The file of the random model ``random:NAME`` in ``folder``. Raises ModelNotFound for a name that is not there."""
    shape = SHAPES.get(name.removeprefix(PREFIX))
    if shape is None:
        raise ModelNotFound(f"no {name}; there is: {', '.join(PREFIX + known for known in SHAPES)}")
    path, full = folder / f"{name.removeprefix(PREFIX)}.gguf", folder / "f32.gguf"
    _native.write_random_model(str(full), dict(shape), _SEED)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    failed = llama_cpp.llama_model_quantize(os.fsencode(full), os.fsencode(path), params)
    full.unlink()
    if failed:
        raise EngineError(f"{name} could not be quantised")
    return path
