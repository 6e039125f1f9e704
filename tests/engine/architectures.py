"""Metadata of a tiny random model for each architecture that llama.cpp generates text with; it derives the tensors."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp

from agentmux.engine import _native

Metadata = dict[str, Any]

VOCABULARY_TOKENS = 256
LAYERS = 4
WINDOW_TOKENS = 16

# Four heads of 32, two of keys and values. Keys that an architecture does not know do no harm.
_BASE: Metadata = {
    "vocab_size": VOCABULARY_TOKENS,
    "context_length": 512,
    "embedding_length": 128,
    "block_count": LAYERS,
    "feed_forward_length": 192,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_epsilon": 1e-5,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.dimension_count": 32,
    "logit_scale": 1.0,
}
_SECTIONS: Metadata = {"rope.dimension_sections": [4, 4, 4, 4]}
_WINDOW: Metadata = {
    "attention.sliding_window": WINDOW_TOKENS,
    "attention.sliding_window_pattern": [1, 0, 1, 0],
}
_EXPERTS: Metadata = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_shared_count": 1,
    "expert_feed_forward_length": 64,
    "expert_shared_feed_forward_length": 64,
    "expert_gating_func": 2,
    "expert_weights_scale": 1.0,
    "leading_dense_block_count": 1,
    "feed_forward_length": 96,
    "interleave_moe_layer_step": 2,
}
# Keys and values come from one latent vector: 64 numbers, and 16 that carry the position.
_LATENT: Metadata = {
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 64,
    "attention.kv_lora_rank": 64,
    "attention.key_length": 80,
    "attention.value_length": 64,
    "attention.key_length_mla": 48,
    "attention.value_length_mla": 32,
    "rope.dimension_count": 16,
}
# A small attention of its own picks the tokens that are attended to.
_INDEXER: Metadata = {
    "attention.indexer.head_count": 8,
    "attention.indexer.key_length": 64,
    "attention.indexer.top_k": 8,
}
_HYPER: Metadata = {
    "hyper_connection.count": 4,
    "hyper_connection.sinkhorn_iterations": 2,
    "hyper_connection.epsilon": 1e-6,
    "hyper_connection.magnitude": 2.0,
}
_SSM: Metadata = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 256,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 8,
    "ssm.group_count": 2,
}
_DELTA_NET: Metadata = _SSM | {"ssm.state_size": 32, "ssm.group_count": 4, "full_attention_interval": 2}
_KDA: Metadata = {"ssm.conv_kernel": 4, "kda.head_dim": 32, "kda.gate_lower_bound": -5.0}
# Layers without heads are recurrent.
_EVERY_OTHER: Metadata = {"attention.head_count_kv": [0, 2, 0, 2]}
_LATENT_EVERY_OTHER: Metadata = _LATENT | {"attention.head_count_kv": [0, 1, 0, 1]}
_RWKV: Metadata = {
    "attention.head_count": 0,
    "attention.head_count_kv": 0,
    "wkv.head_size": 64,  # of all that were published; ggml's kernel reads past the end of a smaller one
    "time_mix_extra_dim": 16,
    "time_decay_extra_dim": 16,
    "attention.decay_lora_rank": 16,
    "attention.iclr_lora_rank": 16,
    "attention.value_residual_mix_lora_rank": 16,
    "attention.gate_lora_rank": 16,
}


def _each(names: str, *groups: Metadata) -> dict[str, Metadata]:
    own: Metadata = {}
    for group in groups:
        own |= group
    return {name: own for name in names.split()}


_MODELS: dict[str, Metadata] = (
    _each(
        "llama deci falcon gpt2 gptneox mpt baichuan starcoder refact bloom stablelm qwen qwen2 qwen3 phi2 phi3 plamo "
        "codeshell orion internlm2 minicpm gemma starcoder2 xverse command-r olmo openelm chatglm glm4 bitnet jais "
        "jais2 nemotron exaone granite arcee ernie4_5 hunyuan-dense smollm3 seed_oss apertus cogvlm "
        "pangu-embedded mistral3 maincoder talkie nanbeige llama+tied"
    )
    | _each("qwen2vl qwen3vl hunyuan_vl paddleocr", _SECTIONS)
    | _each("gemma2 gemma3 gemma3n gemma4 cohere2 olmo2 muse-glimmer exaone4 granite_swa spark2_5 plamo3", _WINDOW)
    | _each("minicpm3", _LATENT)
    | _each(
        "llama+experts mistral3+experts granite+experts minicpm+experts grok qwen2moe qwen3moe phimoe "
        "dbrx olmoe arctic deepseek deepseek2-ocr glm4moe granitemoe bailingmoe bailingmoe2 dots1 ernie4_5-moe "
        "hunyuan-moe hy_v3 grovemoe minimax-m2",
        _EXPERTS,
    )
    | _each("qwen3vlmoe", _EXPERTS, _SECTIONS)
    | _each(
        "llama4 cohere2moe exaone-moe afmoe laguna gpt-oss smallthinker mimo2 step35 mellum maple", _EXPERTS, _WINDOW
    )
    | _each("deepseek2 mistral4", _EXPERTS, _LATENT)
    | _each("deepseek32 glm-dsa", _EXPERTS, _LATENT, _INDEXER)
    | _each("dots3note", _EXPERTS, _LATENT, _INDEXER, _WINDOW)
    | _each("minimax-m3", _EXPERTS, _INDEXER)
    | _each("hy_v4", _EXPERTS, _LATENT, _INDEXER, _HYPER)
    | _each("mamba mamba2", _SSM)
    | _each("rwkv6 rwkv6qwen2 rwkv7 arwkv7", _RWKV)
    | _each("falcon-h1", _SSM)
    | _each("jamba plamo2 granitehybrid lfm2 nemotron_h", _SSM, _EVERY_OTHER)
    | _each("lfm2moe nemotron_h_moe", _SSM, _EVERY_OTHER, _EXPERTS)
    | _each("qwen35", _DELTA_NET, _SECTIONS)
    | _each("qwen3next", _DELTA_NET, _EXPERTS)
    | _each("qwen35moe", _DELTA_NET, _EXPERTS, _SECTIONS)
    | _each("qwen4exp", _DELTA_NET, _EXPERTS, _SECTIONS, _INDEXER, _HYPER)
    | _each("kimi-linear kimi-k3 bailingmoe3", _EXPERTS, _LATENT_EVERY_OTHER, _KDA)
    | _each("glm5-next", _EXPERTS, _LATENT_EVERY_OTHER, _KDA, _INDEXER, _HYPER)
    | _each("deepseek4", _EXPERTS, _WINDOW, _INDEXER, _HYPER)
    | _each("minimax-01", _EXPERTS)
    | _each("graniteswitch qwen3tts hrm_text pockettts")
)

# What goes beyond the groups, by architecture.
_OWN: dict[str, Metadata] = (
    _each("olmoe dots1 deepseek2-ocr", {"attention.head_count_kv": 4})
    | _each("rwkv6qwen2 arwkv7", {"token_shift_count": 1})
    | _each("lfm2 lfm2moe", {"shortconv.l_cache": 3})
    # A layer is recurrent, attention or feed-forward.
    | _each(
        "nemotron_h nemotron_h_moe", {"attention.head_count_kv": [0, 2, 0, 0], "feed_forward_length": [0, 0, 192, 0]}
    )
    | {
        "minicpm3": {"attention.head_count_kv": 4, "attention.key_length": 48, "attention.value_length": 32},
        "gptneox": {"use_parallel_residual": True},
        "dbrx": {"attention.clamp_kqv": 1.0},
        "apertus": {"xielu.alpha_n": 1.0, "xielu.alpha_p": 1.0, "xielu.beta": 1.0, "xielu.eps": 1e-7},
        "maple": {"swiglu_clamp_exp": 10.0},
        "grovemoe": {"expert_group_scale": 1.0, "experts_per_group": 2, "expert_chunk_feed_forward_length": 32},
        # The first 20 layers have keys and values of their own, the others use theirs.
        "gemma3n": {
            "block_count": 22,
            "embedding_length": 64,
            "feed_forward_length": 96,
            "attention.head_count": 2,
            "attention.head_count_kv": 1,
            "attention.sliding_window_pattern": [1, 0] * 11,
        },
        "gemma4": {
            "embedding_length_per_layer_input": 32,
            "attention.shared_kv_layers": 2,
            "attention.key_length_swa": 32,
            "attention.value_length_swa": 32,
        },
        # Layers that run more than once in a pass.
        "nanbeige": {"num_loops": 2},
        "hrm_text": {"block_count": 8, "hrm.layers_per_stack": 2, "hrm.h_cycles": 2, "hrm.l_cycles": 1},
        "qwen3tts": _SECTIONS | {"vocab_size": 3328},
        "graniteswitch": {
            "adapters.count": 2,
            "adapters.lora_rank": 8,
            "adapters.token_ids_activate": [13, 7],
            "adapters.token_ids_substitute": [14, 8],
        },
        "plamo2": {"ssm.group_count": 0},
        "minimax-01": {"residual_scale": 0.5, "full_attention_interval": 2, "attention.head_count_kv": 4},
        "minimax-m3": {
            "attention.indexer.head_count": 2,
            "attention.indexer.block_size": 4,
            "attention.indexer.local_blocks": 1,
        },
        "dots3note": {
            "attention.kv_lora_rank_swa": 64,
            "attention.key_length_swa": 80,
            "attention.value_length_swa": 64,
            "attention.key_length_mla_swa": 48,
            "attention.value_length_mla_swa": 32,
            "rope.freq_base_swa": 10000.0,
            "attention.indexer.types": [0, 1, 0, 1],
        },
        "hy_v4": {"attention.indexer.types": [1, 0, 1, 0], "swiglu_clamp_exp": 10.0},
        "kimi-k3": {
            "attn_res.block_size": 2,
            "activation.situ_beta": 4.0,
            "activation.situ_linear_beta": 25.0,
            "expert_latent_length": 64,
        },
        "glm5-next": {"attention.indexer.kpool": 2, "rope.dimension_count": 0, "attention.key_length": 64},
        "qwen4exp": {
            "hyper_connection.low_rank": 8,
            "attention.indexer.key_length": 32,
            "attention.compress_ratios": [4] * LAYERS,
            "ple.layers": [0],
            "ple.ngram_size": 3,
            "ple.heads_per_ngram": 2,
            "ple.conv_kernel": 4,
            "ple.eos_token_id": 0,
            "ple.layer_multipliers": _native.WideIntegers([1, 3, 5]),
            "ple.head_offsets": _native.WideIntegers([i * VOCABULARY_TOKENS for i in range(4)]),
            "ple.head_vocab_sizes": _native.WideIntegers([VOCABULARY_TOKENS] * 4),
            "embedding_length_per_layer_input": 32,
        },
        "deepseek4": {
            "attention.head_count_kv": 1,
            "attention.q_lora_rank": 64,
            "attention.key_length": 32,
            "attention.value_length": 32,
            "rope.dimension_count": 16,
            "attention.output_group_count": 2,
            "attention.output_lora_rank": 32,
            "attention.compress_ratios": [0, 0, 4, 128],
            "attention.compress_rope_freq_base": 160000.0,
            "hash_layer_count": 0,
            "swiglu_clamp_exp": 10.0,
            "expert_gating_func": 4,
            "expert_weights_norm": True,
        },
    }
)

# Optional tensors that are left out of the file: llama.cpp would make every one of them. Scales belong to quantised
# weights, and would put one more operation behind each product.
_SCALES = r".*\.(input_)?scale"
_TIED = _SCALES + r"|output\.weight"
_LEFT_OUT: dict[str, str] = {
    "bitnet": "",
    "llama+tied": _TIED,
    "gemma3": _TIED,
    "gemma4": _TIED,
    "cohere2": _TIED,
    "granitehybrid": _TIED,
    # With it the time mixing is RWKV 6's own instead of gated linear attention.
    "rwkv6qwen2": _SCALES + r"|blk\.\d+\.time_mix_first\.weight",
}

_UNPREFIXED = ("xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps")

MODELS = tuple(_MODELS)

# Models without text that can be written, for seeing that they are turned down.
_WITHOUT_TEXT: dict[str, Metadata] = (
    _each("dream llada neo-bert eurobert llama-embed")
    | _each("llada-moe rnd1", _EXPERTS)
    | _each("modern-bert gemma-embedding", _WINDOW)
    | _each("t5 t5encoder", {"attention.relative_buckets_count": 8, "attention.head_count_kv": 4})
    | _each("plm", _LATENT | {"attention.head_count_kv": 4, "attention.key_length": 48, "attention.value_length": 32})
)
REFUSED = tuple(_WITHOUT_TEXT)


_ENCODER = "computes embeddings, generates nothing"
_DIFFUSION = "refines a whole text at once instead of token by token"
_DRAFT = "drafts tokens for another model, from that model's state"
NOT_GENERATING: dict[str, str] = {
    "bert": _ENCODER,
    "modern-bert": _ENCODER,
    "nomic-bert": _ENCODER,
    "nomic-bert-moe": _ENCODER,
    "neo-bert": _ENCODER,
    "jina-bert-v2": _ENCODER,
    "jina-bert-v3": _ENCODER,
    "eurobert": _ENCODER,
    "gemma-embedding": _ENCODER,
    "llama-embed": _ENCODER,
    "t5encoder": _ENCODER,
    "t5": "has an encoder, whose output its decoder needs",
    "dream": _DIFFUSION,
    "llada": _DIFFUSION,
    "llada-moe": _DIFFUSION,
    "rnd1": _DIFFUSION,
    "eagle3": _DRAFT,
    "dflash": _DRAFT,
    "gemma4-assistant": _DRAFT,
    "clip": "a name for projectors of images; no language model",
    "wavtokenizer-dec": "turns codes into sound",
    "gptj": "a name without an implementation",
    "plm": "llama.cpp aborts when it builds the graph: the values have two dimensions where the cache asks for three",
    "chameleon": "llama.cpp aborts on a part of a prompt whose logits nobody asks for",
}
"""Architectures of llama.cpp that no text can be generated with, and why."""


def known_to_llama_cpp() -> tuple[str, ...]:
    """All architectures of the installed libllama, in its order. Exported for its own tools, in no header."""
    name_of = llama_cpp.llama_cpp._lib["_Z13llm_arch_name8llm_arch"]
    name_of.restype = ctypes.c_char_p
    names: list[str] = []
    while (name := name_of(len(names)).decode()) not in ("(unknown)", "unknown"):
        names.append(name)
    return tuple(names)


REMARKS: dict[str, str] = {
    "llama+tied": "the token embeddings are the output too",
    "gemma3": "the token embeddings are the output too",
    "gemma4": "layers share keys and values; the token embeddings are the output too",
    "gemma3n": "the last two of 22 layers use the keys and values of others",
    "cohere2": "the token embeddings are the output too",
    "granitehybrid": "the token embeddings are the output too",
    "nanbeige": "each layer runs twice in a pass",
    "hrm_text": "two groups of layers take turns in a pass",
    "cogvlm": "its experts for images are in the file and never used",
    "qwen3tts": "its tokens stand for sound",
    "pockettts": "its tokens stand for sound",
    "graniteswitch": "adapters of low rank, chosen by token",
    "deepseek32": "an indexer picks the tokens attended to",
    "glm-dsa": "an indexer picks the tokens attended to",
    "dots3note": "an indexer picks the tokens attended to",
    "minimax-m3": "an indexer picks the blocks attended to",
    "hy_v4": "an indexer; four residual streams",
    "glm5-next": "an indexer; four residual streams",
    "deepseek4": "compressed keys and values; an indexer; four residual streams",
    "qwen4exp": "an indexer; four residual streams; embeddings of n-grams",
}
"""What is peculiar to an architecture beyond its kind."""


def has_experts(name: str) -> bool:
    return "expert_count" in _MODELS[name]


def architecture(name: str) -> str:
    """``llama`` of ``llama+experts``."""
    return name.partition("+")[0]


def metadata(name: str) -> Metadata:
    values = _BASE | (_MODELS | _WITHOUT_TEXT)[name] | _OWN.get(name, {})
    prefix = f"{architecture(name)}."
    prefixed = {key if key in _UNPREFIXED else prefix + key: value for key, value in values.items()}
    return {
        "general.architecture": architecture(name),
        "general.name": name,
        "tokenizer.ggml.model": "no_vocab",
    } | prefixed


def write(name: str, folder: Path, *, seed: int = 1) -> Path:
    """The model's file in ``folder``, written unless it is there."""
    path = folder / f"arch-{name}-{seed}.gguf"
    if not path.exists():
        _native.write_random_model(str(path), metadata(name), seed, _LEFT_OUT.get(name, _SCALES))
    return path
