"""A decoder-only transformer in plain PyTorch, as llama, qwen2 or qwen3.

The three differ where llama.cpp does: llama rotates neighbouring pairs of a head, the qwens its two
halves; qwen2 has biases on q, k and v; qwen3 normalises q and k. Parameter names are GGUF's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """One model's architecture.

    Attributes:
        arch: ``llama``, ``qwen2`` or ``qwen3``.
        vocab, width, layers, heads, kv_heads, head, hidden: sizes; multiples of 32 where Q8_0 needs it.
    """

    arch: str
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    hidden: int
    context: int = 1024
    rope_base: float = 10000.0
    eps: float = 1e-6


SHAPES = {
    "planner": Shape("qwen3", 1536, 192, 5, 6, 2, 32, 448),
    "coder": Shape("llama", 2048, 256, 8, 8, 4, 32, 640),
    "critic": Shape("qwen2", 2048, 192, 7, 6, 2, 32, 512),
}


class Norm(nn.Module):
    """Root-mean-square norm over the last dimension, with a learned scale of `width`."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, pairs: bool) -> Tensor:
    """Apply rotary positions to `x` [batch, heads, tokens, head]; cos, sin are [tokens, head / 2]."""
    if pairs:
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, low * sin + high * cos), dim=-1)


class Block(nn.Module):
    """One layer: attention and a gated feed-forward, each after a norm, each added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        bias = shape.arch == "qwen2"
        self.attn_norm = Norm(shape.width, shape.eps)
        self.attn_q = nn.Linear(shape.width, shape.heads * shape.head, bias=bias)
        self.attn_k = nn.Linear(shape.width, shape.kv_heads * shape.head, bias=bias)
        self.attn_v = nn.Linear(shape.width, shape.kv_heads * shape.head, bias=bias)
        self.attn_output = nn.Linear(shape.heads * shape.head, shape.width, bias=False)
        if shape.arch == "qwen3":
            self.attn_q_norm = Norm(shape.head, shape.eps)
            self.attn_k_norm = Norm(shape.head, shape.eps)
        self.ffn_norm = Norm(shape.width, shape.eps)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = self.shape
        batch, tokens, _ = x.shape
        h = self.attn_norm(x)
        q = self.attn_q(h).view(batch, tokens, shape.heads, shape.head).transpose(1, 2)
        k = self.attn_k(h).view(batch, tokens, shape.kv_heads, shape.head).transpose(1, 2)
        v = self.attn_v(h).view(batch, tokens, shape.kv_heads, shape.head).transpose(1, 2)
        if shape.arch == "qwen3":
            q, k = self.attn_q_norm(q), self.attn_k_norm(k)
        pairs = shape.arch == "llama"
        q, k = rotate(q, cos, sin, pairs), rotate(k, cos, sin, pairs)
        repeat = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(attended.transpose(1, 2).reshape(batch, tokens, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Transformer(nn.Module):
    """The whole model; embeddings and output head are separate tensors."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.width, shape.eps)
        self.output = nn.Linear(shape.width, shape.vocab, bias=False)
        self.apply(self._init)
        for block in self.blk:
            for last in (block.attn_output, block.ffn_down):
                nn.init.normal_(last.weight, std=0.02 / (2 * shape.layers) ** 0.5)
        steps = torch.arange(0, shape.head, 2, dtype=torch.float32) / shape.head
        angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), shape.rope_base**-steps)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    @staticmethod
    def _init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def hidden(self, ids: Tensor) -> Tensor:
        """Return the last layer's normed activations [batch, tokens, width] for ids [batch, tokens]."""
        x = self.token_embd(ids)
        if torch.is_autocast_enabled():
            x = x.to(torch.get_autocast_dtype(ids.device.type))
        cos, sin = self.cos[: ids.shape[1]].to(x.dtype), self.sin[: ids.shape[1]].to(x.dtype)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over `targets` [batch, tokens], where -100 counts for nothing."""
        wanted = targets != -100
        logits = self.output(self.hidden(ids)[wanted])
        return F.cross_entropy(logits.float(), targets[wanted])

    @torch.no_grad()
    def greedy(self, prompts: list[list[int]], stop: int, max_tokens: int) -> list[list[int]]:
        """Return the likeliest continuation of each prompt, without `stop`.

        Every step reads the whole text again: slow for a text, fast for a thousand at once.
        """
        device = self.output.weight.device
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = int(lengths.max()) + max_tokens
        ids = torch.zeros(len(prompts), min(width, self.shape.context), dtype=torch.long, device=device)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
        start, done = lengths.clone(), torch.zeros(len(prompts), dtype=torch.bool, device=device)
        rows = torch.arange(len(prompts), device=device)
        for _ in range(max_tokens):
            if bool(done.all()) or int(lengths.max()) >= ids.shape[1]:
                break
            live = (~done).nonzero().squeeze(1)
            states = self.hidden(ids[live, : int(lengths[live].max())])
            token = self.output(states[rows[: len(live)], lengths[live] - 1]).argmax(-1)
            stopping = token == stop
            done[live[stopping]] = True
            going = live[~stopping]
            ids[going, lengths[going]] = token[~stopping]
            lengths[going] += 1
        return [ids[row, int(start[row]) : int(lengths[row])].tolist() for row in range(len(prompts))]
