"""Plain llama.cpp, everything resident, through ctypes: what the paged engine's output is compared with."""

from __future__ import annotations

import ctypes
import zlib
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np


@dataclass(frozen=True)
class Greedy:
    """Tokens and the chained crc32 of the logits that each was chosen from."""

    tokens: tuple[int, ...]
    logits_crc32: int


class Reference:
    """One sequence in one llama.cpp context, with the parameters that the engine uses."""

    def __init__(
        self, path: Path, *, context_tokens: int, slots: int, batch_tokens: int, threads: int, on_gpu: bool = False
    ) -> None:
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = False
        params.n_gpu_layers = 999 if on_gpu else 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self._model, f"llama.cpp cannot load {path}"
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = context_tokens * slots
        context.n_seq_max = slots
        context.n_batch = context.n_ubatch = batch_tokens
        context.n_outputs_max = slots
        context.n_threads = context.n_threads_batch = threads
        uncut = llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        context.kv_unified = slots == 1 or uncut or llama_cpp.llama_model_n_swa(self._model) > 0
        context.offload_kqv = on_gpu
        context.op_offload = False
        self._context = llama_cpp.llama_init_from_model(self._model, context)
        assert self._context
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._n_vocab = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self._batch_tokens = batch_tokens
        self._batch = llama_cpp.llama_batch_init(batch_tokens, 0, 1)

    def tokenize(self, text: str) -> list[int]:
        raw = text.encode()
        buffer = (llama_cpp.llama_token * (len(raw) + 8))()
        n = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), buffer, len(buffer), True, True)
        assert n >= 0
        return list(buffer[:n])

    def logits(self, prompt: list[int]) -> np.ndarray:
        """[vocabulary] for the token behind the prompt."""
        self._prefill(prompt)
        return np.array(self._row())

    def greedy(self, prompt: list[int], n_tokens: int, *, stop_at_end: bool = False) -> Greedy:
        """Prefill in chunks of ``batch_tokens``, then the most likely token ``n_tokens`` times."""
        self._prefill(prompt)
        tokens: list[int] = []
        crc = 0
        while True:
            logits = self._logits(crc)
            crc = logits[1]
            token = logits[0]
            if stop_at_end and llama_cpp.llama_vocab_is_eog(self._vocab, token):
                break
            tokens.append(token)
            if len(tokens) == n_tokens:
                break
            self._decode([token], len(prompt) + len(tokens) - 1, wants_logits=True)
        return Greedy(tuple(tokens), crc)

    def _prefill(self, prompt: list[int]) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        for start in range(0, len(prompt), self._batch_tokens):
            chunk = prompt[start : start + self._batch_tokens]
            self._decode(chunk, start, wants_logits=start + len(chunk) == len(prompt))

    def _row(self) -> np.ndarray:
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._n_vocab,))

    def _logits(self, crc: int) -> tuple[int, int]:
        row = self._row()
        return int(row.argmax()), zlib.crc32(row.tobytes(), crc)

    def _decode(self, tokens: list[int], start: int, *, wants_logits: bool) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = wants_logits and i == len(tokens) - 1
        assert llama_cpp.llama_decode(self._context, batch) == 0

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)


def silence_llama_log() -> None:
    """llama-cpp-python prints llama.cpp's log otherwise."""
    llama_cpp.llama_log_set(_IGNORE, ctypes.c_void_p(0))


_IGNORE = llama_cpp.llama_log_callback(lambda level, text, user: None)
