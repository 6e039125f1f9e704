"""Write trained weights as GGUF: matrices in Q8_0, norms and biases in F32, tokenizer and template inside.

``python -m agents.training.export --runs runs/1 --out agents/models``
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from .model import SHAPES, Shape, Transformer
from .tokens import END, PAD, PRE_TOKENIZER, SPECIAL, TEMPLATE

BLOCKED = frozenset(
    {"token_embd", "output", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}
)
"""Matrices stored in Q8_0."""


def load_model(folder: Path, role: str) -> tuple[Transformer, Tokenizer]:
    """Return the trained model of `role`, in float32 on the CPU, and its tokenizer."""
    tokenizer = Tokenizer.from_file(str(folder / f"{role}.tokenizer.json"))
    model = Transformer(dataclasses.replace(SHAPES[role], vocab=tokenizer.get_vocab_size()))
    model.load_state_dict(
        {name: tensor.float() for name, tensor in torch.load(folder / f"{role}.pt", map_location="cpu").items()}
    )
    return model.eval(), tokenizer


def _write_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_vocab_size(shape.vocab)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    size = tokenizer.get_vocab_size()
    tokens = [tokenizer.id_to_token(number) for number in range(size)]
    kinds = [gguf.TokenType.CONTROL if number < len(SPECIAL) else gguf.TokenType.NORMAL for number in range(size)]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(END)
    writer.add_eot_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def export(folder: Path, role: str, target: Path) -> None:
    """Write the GGUF of `role` from `folder` to `target`."""
    model, tokenizer = load_model(folder, role)
    shape = model.shape
    writer = gguf.GGUFWriter(str(target), shape.arch)
    writer.add_name(f"agentmux demo {role}")
    writer.add_description(f"Demonstration model of agentmux: {role} for small Python functions, and nothing else.")
    writer.add_license("mit")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_shape(writer, shape)
    _write_tokenizer(writer, tokenizer)
    for name, tensor in model.state_dict().items():
        array = tensor.float().numpy().astype(np.float32)
        part = name.split(".")[-2]
        if array.ndim == 2 and part in BLOCKED:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Export all three models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder with the trained weights")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for role in SHAPES:
        target = options.out / f"{role}.gguf"
        export(options.runs, role, target)
        print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
