"""Metadata of tiny random models, one for each kind of graph that the tests page. llama.cpp derives the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp

from agentmux.engine import _native

Metadata = dict[str, Any]

VOCABULARY_TOKENS = 512


def _common(architecture: str, **own: Any) -> Metadata:
    values: Metadata = {
        "vocab_size": VOCABULARY_TOKENS,
        "context_length": 1024,
        "embedding_length": 128,
        "block_count": 6,
        "feed_forward_length": 256,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": 32,
    } | {key.replace("__", "."): value for key, value in own.items()}
    prefixed = {f"{architecture}.{key}": value for key, value in values.items()}
    return {
        "general.architecture": architecture,
        "general.name": "random",
        "tokenizer.ggml.model": "no_vocab",
    } | prefixed


_SSM: Metadata = {
    "ssm__conv_kernel": 4,
    "ssm__inner_size": 256,
    "ssm__state_size": 32,
    "ssm__time_step_rank": 8,
    "ssm__group_count": 2,
}
_HEADS_OF_32: Metadata = {"attention__key_length": 32, "attention__value_length": 32}

MODELS: dict[str, Metadata] = {
    "llama": _common("llama"),
    "qwen3": _common("qwen3", **_HEADS_OF_32),
    # Mixture of experts: mul_mat_id, and fused operations that a stop in the wrong place would break.
    "qwen3moe": _common("qwen3moe", expert_count=8, expert_used_count=2, expert_feed_forward_length=64, **_HEADS_OF_32),
    # Hybrids: short convolutions or a state-space model beside attention; memory that cannot be cut at a token.
    "lfm2": _common("lfm2", **{"attention.head_count_kv": [0, 0, 2, 0, 2, 0]}, shortconv__l_cache=3),
    "falcon-h1": _common("falcon-h1", **_SSM, **_HEADS_OF_32),
    # Gated delta net: the graph of a prompt depends on its length.
    "qwen3next": _common(
        "qwen3next",
        block_count=4,
        expert_count=4,
        expert_used_count=2,
        expert_feed_forward_length=64,
        expert_shared_feed_forward_length=64,
        **{**_SSM, "ssm__inner_size": 256, "ssm__state_size": 32, "ssm__time_step_rank": 8, "ssm__group_count": 4},
        **_HEADS_OF_32,
    ),
    # Recurrent, no attention at all.
    "mamba2": _common("mamba2", **_SSM),
    # As wide as a small real model, so that its layers are worth uploading: 16 units of 50 MB.
    "llama-wide": _common(
        "llama",
        embedding_length=1024,
        feed_forward_length=2816,
        block_count=16,
        attention__head_count=16,
        attention__head_count_kv=4,
        rope__dimension_count=64,
    ),
    # Sliding window, embeddings tied to the output.
    "gemma3": _common("gemma3", attention__sliding_window=64, **_HEADS_OF_32),
}

TINY = tuple(name for name in MODELS if name != "llama-wide")


def write(name: str, folder: Path, *, seed: int = 1) -> Path:
    """The model's file in ``folder``, written unless it is there."""
    path = folder / f"{name}-{seed}.gguf"
    if not path.exists():
        _native.write_random_model(str(path), MODELS[name], seed)
    return path


def write_quantised(name: str, folder: Path, ftype: int, *, seed: int = 1) -> Path:
    """The same, quantised by llama.cpp; ``ftype`` is one of ``llama_cpp.LLAMA_FTYPE_*``."""
    path = folder / f"{name}-{seed}-{ftype}.gguf"
    if not path.exists():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = ftype
        failed = llama_cpp.llama_model_quantize(
            str(write(name, folder, seed=seed)).encode(), str(path).encode(), params
        )
        assert failed == 0
    return path


def prompt(n_tokens: int) -> tuple[int, ...]:
    """Token ids that wander over the vocabulary."""
    return tuple((i * 7919 + 13) % (VOCABULARY_TOKENS - 12) for i in range(n_tokens))
