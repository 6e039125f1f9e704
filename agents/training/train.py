"""Train one of the three models on fresh samples, and save its weights and tokenizer.

``python -m agents.training.train --role coder --steps 6000 --out runs/1`` writes ``coder.pt``,
``coder.tokenizer.json`` and ``coder.json`` (losses). Workers generate and tokenize while the
accelerator trains; samples go into a pool from which batches are drawn, so that neither waits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import queue
import random
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from .generate import samples
from .model import SHAPES, Transformer
from .tokens import PAD, encode_sample, train_tokenizer

CHUNK = 512
"""Samples a worker hands over at once."""

POOL_SAMPLES = 1_500_000
TOKENIZER_SAMPLES = 12_000
Encoded = tuple[np.ndarray, int]


def _worker(role: str, seed: int, tokenizer_json: str, out: multiprocessing.Queue) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    for part in range(1_000_000):
        chunk = []
        for sample in samples(role, seed * 1_000_003 + part, CHUNK):
            ids, before = encode_sample(tokenizer, sample.prompt, sample.answer)
            if len(ids) <= SHAPES[role].context:
                chunk.append((np.array(ids, dtype=np.uint16), before))
        out.put(chunk)


class Pool:
    """Tokenized samples so far; grows from the workers' queue, forgets the oldest beyond its limit."""

    def __init__(self, source: multiprocessing.Queue, seed: int) -> None:
        self.source, self.rng = source, random.Random(seed)
        self.samples: list[Encoded] = []
        self.received = 0

    def refill(self, at_least: int = 0) -> None:
        """Take what the workers have ready, and wait until `at_least` samples are there."""
        while True:
            try:
                chunk = self.source.get(block=len(self.samples) < at_least)
            except queue.Empty:
                return
            self.received += len(chunk)
            if len(self.samples) >= POOL_SAMPLES:
                place = self.rng.randrange(len(self.samples) - len(chunk))
                self.samples[place : place + len(chunk)] = chunk
            else:
                self.samples += chunk

    def batches(self, size: int, group: int = 8) -> list[list[Encoded]]:
        """Return `group` batches of `size` random samples each, alike in length within a batch."""
        drawn = [self.samples[self.rng.randrange(len(self.samples))] for _ in range(size * group)]
        drawn.sort(key=lambda sample: len(sample[0]))
        made = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        self.rng.shuffle(made)
        return made


def collate(batch: list[Encoded], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ids, targets), both [batch, tokens]; targets are -100 outside answers."""
    width = -(-max(len(ids) for ids, _ in batch) // 32) * 32
    ids = np.full((len(batch), width), PAD, dtype=np.int64)
    targets = np.full((len(batch), width), -100, dtype=np.int64)
    for row, (tokens, before) in enumerate(batch):
        ids[row, : len(tokens)] = tokens
        targets[row, before - 1 : len(tokens) - 1] = tokens[before:]
    pin = device == "cuda"
    both = [torch.from_numpy(array) for array in (ids, targets)]
    both = [tensor.pin_memory().to(device, non_blocking=True) if pin else tensor for tensor in both]
    return both[0], both[1]


def make_optimizer(model: Transformer, rate: float) -> torch.optim.Optimizer:
    """Return AdamW with decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=torch.cuda.is_available())


def _rate(progress: float, step: int, peak: float, warmup: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * cosine)


def _log(role: str, history: list[dict[str, float]], **values: float) -> None:
    history.append(values)
    print(role, " ".join(f"{key} {value:.5g}" for key, value in values.items()), flush=True)


def train(model: Transformer, pool: Pool, options: argparse.Namespace, device: str) -> list[dict[str, float]]:
    """Train until `options.steps` or `options.minutes`, whichever ends first; return the log."""
    optimizer = make_optimizer(model, options.rate)
    history: list[dict[str, float]] = []
    waiting: list[list[Encoded]] = []
    began, step, tokens, losses = time.monotonic(), 0, 0, []
    while True:
        elapsed = time.monotonic() - began
        progress = max(step / options.steps, elapsed / (options.minutes * 60))
        if progress >= 1:
            break
        if not waiting:
            pool.refill()
            waiting = pool.batches(options.batch)
        ids, targets = collate(waiting.pop(), device)
        for group in optimizer.param_groups:
            group["lr"] = _rate(progress, step, options.rate, options.warmup)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss = model.loss(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        tokens += ids.numel()
        step += 1
        if step % 200 == 0:
            mean = torch.stack(losses).mean().item()
            losses.clear()
            elapsed = time.monotonic() - began
            _log(options.role, history, step=step, loss=mean, seconds=elapsed, tokens=tokens, received=pool.received)
    return history


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=sorted(SHAPES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop, and finish the schedule, by then")
    parser.add_argument("--batch", type=int, default=192, help="samples a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--init", type=Path, help="folder with weights and tokenizers to go on from")
    return parser.parse_args()


def main() -> None:
    """Train and save."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    role = options.role
    if options.init:
        tokenizer = Tokenizer.from_file(str(options.init / f"{role}.tokenizer.json"))
    else:
        made = samples(role, options.seed, TOKENIZER_SAMPLES)
        texts = (text for sample in made for text in (sample.prompt, sample.answer))
        tokenizer = train_tokenizer(texts, SHAPES[role].vocab)
    tokenizer.save(str(options.out / f"{role}.tokenizer.json"))
    context = multiprocessing.get_context("spawn")
    source: multiprocessing.Queue = context.Queue(maxsize=64)
    seeds = range(options.seed * 100 + 1, options.seed * 100 + 1 + options.workers)
    workers = [
        context.Process(target=_worker, args=(role, seed, tokenizer.to_str(), source), daemon=True) for seed in seeds
    ]
    for worker in workers:
        worker.start()
    model = Transformer(dataclasses.replace(SHAPES[role], vocab=tokenizer.get_vocab_size())).to(device)
    if options.init:
        model.load_state_dict(torch.load(options.init / f"{role}.pt", map_location=device))
    print(
        role, "parameters", sum(p.numel() for p in model.parameters()), "vocab", tokenizer.get_vocab_size(), flush=True
    )
    pool = Pool(source, options.seed)
    pool.refill(at_least=16 * CHUNK)
    history = train(model, pool, options, device)
    for worker in workers:
        worker.kill()
    torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, options.out / f"{role}.pt")
    (options.out / f"{role}.json").write_text(json.dumps({"history": history, "options": vars(options)}, default=str))


if __name__ == "__main__":
    main()
