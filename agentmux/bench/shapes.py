"""Random models in the shapes of real ones, Q4_0, in seconds: speed does not depend on what weights say.

One block of random weights is made for each shape of matrix and written again, rotated, for each layer, so that making
a model of 4.5 GB takes as long as writing it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from agentmux.bench.gguf_writer import F32, Q4_0, Header, made_up_tokenizer, tokenizer_of
from agentmux.errors import ConfigError

_BLOCK_WEIGHTS, _BLOCK_BYTES = 32, 18
_ALIGNMENT = 32
PREFIX = "random:"
"""Before a shape's name, where a model can be named."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a llama.cpp architecture needs to know of a model."""

    architecture: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    context: int = 40960
    rope_base: float = 500000.0
    tied: bool = False
    """The output is the table of token embeddings."""
    head_norms: bool = False
    """Queries and keys are normalised by head (qwen3, gemma3)."""
    window: int = 0
    """Sliding window, in tokens; also stands for gemma3's norms after attention and feed-forward."""

    def metadata(self) -> dict[str, Any]:
        """GGUF's keys and values."""
        own = {
            "vocab_size": self.vocabulary,
            "context_length": self.context,
            "embedding_length": self.width,
            "block_count": self.layers,
            "feed_forward_length": self.inner,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head_width,
            "attention.value_length": self.head_width,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.dimension_count": self.head_width,
            "rope.freq_base": self.rope_base,
        }
        if self.window:
            own["attention.sliding_window"] = self.window
        prefixed = {f"{self.architecture}.{key}": value for key, value in own.items()}
        return {"general.architecture": self.architecture, "general.name": "random"} | prefixed

    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes, rows last as GGUF has it; those of one dimension are norms."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        layer: list[tuple[str, tuple[int, ...]]] = [
            ("attn_norm", (self.width,)),
            ("attn_q", (self.width, queries)),
            ("attn_k", (self.width, keys)),
            ("attn_v", (self.width, keys)),
            ("attn_output", (queries, self.width)),
            ("ffn_norm", (self.width,)),
            ("ffn_gate", (self.width, self.inner)),
            ("ffn_up", (self.width, self.inner)),
            ("ffn_down", (self.inner, self.width)),
        ]
        if self.head_norms:
            layer += [("attn_q_norm", (self.head_width,)), ("attn_k_norm", (self.head_width,))]
        if self.window:
            layer += [("post_attention_norm", (self.width,)), ("post_ffw_norm", (self.width,))]
        found: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (self.width, self.vocabulary))]
        found += [(f"blk.{i}.{name}.weight", shape) for i in range(self.layers) for name, shape in layer]
        found.append(("output_norm.weight", (self.width,)))
        return found if self.tied else [*found, ("output.weight", (self.width, self.vocabulary))]


SHAPES = MappingProxyType(
    {
        "smollm2-135m": ModelShape("llama", 30, 576, 1536, 9, 3, 64, 49152, context=8192, rope_base=1e5, tied=True),
        "llama3-1b": ModelShape("llama", 16, 2048, 8192, 32, 8, 64, 128256, tied=True),
        "llama3-3b": ModelShape("llama", 28, 3072, 8192, 24, 8, 128, 128256, tied=True),
        "llama3-8b": ModelShape("llama", 32, 4096, 14336, 32, 8, 128, 128256),
        "mistral-7b": ModelShape("llama", 32, 4096, 14336, 32, 8, 128, 32768, rope_base=1e6),
        "qwen3-8b": ModelShape("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, rope_base=1e6, head_norms=True),
        "qwen3-14b": ModelShape("qwen3", 40, 5120, 17408, 40, 8, 128, 151936, rope_base=1e6, head_norms=True),
        "gemma3-4b": ModelShape(
            "gemma3", 34, 2560, 10240, 8, 4, 256, 262144, rope_base=1e6, tied=True, head_norms=True, window=1024
        ),
        "tiny": ModelShape("llama", 6, 256, 704, 4, 2, 64, 512),
    }
)
"""The published models' shapes; ``tiny`` is for tests."""


def write_shape(name: str, path: str, seed: int = 1, tokenizer: str | None = None, *, named: bool = False) -> int:
    """Write a random model of that shape; returns the file's bytes.

    Args:
        name: one of ``SHAPES``.
        path: the file to write.
        seed: another seed, other weights.
        tokenizer: a GGUF file whose tokenizer the model gets, and as many tokens; without one it works with ids.
        named: without one, ids have names all the same: llama.cpp's server cannot do without.

    Raises ConfigError for a shape that is not there, ModelCorrupt for a tokenizer's file that is none, OSError.
    """
    shape = SHAPES.get(name)
    if shape is None:
        raise ConfigError(f"no shape {name}; there is: {', '.join(SHAPES)}")
    header = Header()
    if tokenizer is not None:
        raw, n_tokens = tokenizer_of(tokenizer)
        shape = ModelShape(**{field: getattr(shape, field) for field in shape.__slots__} | {"vocabulary": n_tokens})
        header.add_raw(raw)
    elif named:
        header.add_raw(made_up_tokenizer(shape.vocabulary))
    else:
        header.add("tokenizer.ggml.model", "no_vocab")
    for key, value in shape.metadata().items():
        header.add(key, value)
    tensors = shape.tensors()
    for tensor, dims in tensors:
        header.add_tensor(tensor, dims, *((F32, 4 * dims[0]) if len(dims) == 1 else (Q4_0, _q4_bytes(*dims))))
    with open(path, "wb") as file:
        file.write(header.packed(_ALIGNMENT))
        _write_weights(file, tensors, seed)
        return file.tell()


def _q4_bytes(columns: int, rows: int) -> int:
    return columns // _BLOCK_WEIGHTS * rows * _BLOCK_BYTES


def _write_weights(file: BinaryIO, tensors: list[tuple[str, tuple[int, ...]]], seed: int) -> None:
    random = np.random.default_rng(seed)
    blocks: dict[tuple[int, ...], memoryview] = {}
    for i, (_, dims) in enumerate(tensors):
        if len(dims) == 1:
            size = file.write(np.ones(dims[0], np.float32).tobytes())
        else:
            if dims not in blocks:
                blocks[dims] = _random_q4(random, *dims)
            data, size = blocks[dims], _q4_bytes(*dims)
            row = size // dims[1]
            at = (37 * i + seed) % dims[1] * row
            file.write(data[at:])
            file.write(data[:at])
        file.write(bytes(-size % _ALIGNMENT))


def _random_q4(random: np.random.Generator, columns: int, rows: int) -> memoryview:
    """Blocks of 32 weights: a scale as float16, then 16 bytes of two weights each."""
    n = columns * rows // _BLOCK_WEIGHTS
    blocks = np.empty((n, _BLOCK_BYTES), np.uint8)
    blocks[:, 2:] = np.frombuffer(random.bytes(n * 16), np.uint8).reshape(n, 16)
    scales = (random.uniform(0.5, 1.0, n) / (8 * np.sqrt(columns))).astype(np.float16)
    blocks[:, :2] = scales.view(np.uint8).reshape(n, 2)
    return memoryview(blocks.reshape(-1).data)


def shape_bytes(name: str) -> int:
    """About the bytes of the file that ``write_shape`` writes."""
    dims = [dims for _, dims in SHAPES[name].tensors()]
    return sum(4 * d[0] if len(d) == 1 else _q4_bytes(*d) for d in dims)


def free_bytes(folder: str) -> int:
    """Room on the disk that holds the folder."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize
