"""Plain llama.cpp, everything resident: the loop that the engine is measured against.

It is written to be as fast as Python can make it, so that a ratio says something about the engine: the batch's arrays
are numpy's and stay in place, the best token of all slots is found by one vectorised ``argmax``, and time within
llama.cpp is taken apart from the rest. Parameters are the engine's (``context_params`` in
``native/src/kv/decoder.cpp``): without repacked weights and without offloading single operations, so that both
run the same kernels.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import _ggml

from agentmux.bench.workload import Shape, Timing, Workload
from agentmux.errors import ConfigError, EngineError, ModelUnsupported

_EVERY_LAYER = 999


class PlainLlama:
    """One model in one llama.cpp context. Close it when done.

    Args:
        path: GGUF file, which the engine should have loaded before: llama.cpp aborts over some damaged ones.
        shape: the context to make.
        device: a ggml device's name, as ``EngineStats.device`` gives it.
        mapped: on the CPU, compute from the mapped file, as llama.cpp does by default; or else from a copy.
        layers: how many are on the device (``-ngl``), the rest computed with llama.cpp's own defaults; None: all.

    Raises ModelUnsupported if llama.cpp cannot load the file, EngineError if there is no room for the context.
    """

    def __init__(
        self, path: str, shape: Shape, device: str = "CPU", *, mapped: bool = True, layers: int | None = None
    ) -> None:
        on_device = device != "CPU"
        self._shape = shape
        model_params = _model_params(device, on_device, mapped)
        if layers is not None:
            model_params.n_gpu_layers = layers
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), model_params)
        if not self._model:
            raise ModelUnsupported(f"{path}: llama.cpp cannot load it")
        params = _context_params(shape, on_device, self._model)
        params.op_offload = layers is not None
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise EngineError(f"{path}: no context of {shape.context_tokens} tokens for {shape.slots} slot(s)")
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocabulary = int(llama_cpp.llama_vocab_n_tokens(vocab))
        ends = [t for t in range(self.n_vocabulary) if llama_cpp.llama_vocab_is_eog(vocab, t)]
        self._ends = np.array(ends, dtype=np.int64)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = _Batch(shape.batch_tokens)
        self._compute_s = self._stepped = self._began = 0.0

    def run(self, workload: Workload, prompts: list[tuple[int, ...]]) -> Timing:
        """See ``Contender.run``."""
        llama_cpp.llama_memory_clear(self._memory, True)
        self._compute_s = 0.0
        begin, cpu = time.perf_counter(), time.process_time()
        first = self._prefill(prompts, ends=workload.max_tokens == 1)
        prefilled, prefill_compute_s = self._stepped, self._compute_s  # where the engine says so: before sampling
        answers = self._decode(first, [len(prompt) for prompt in prompts], workload.max_tokens)
        end, cpu_s = time.perf_counter(), time.process_time() - cpu
        if workload.phase == "prefill":
            whole_s, compute_s = end - begin, prefill_compute_s
        elif workload.from_prompt:
            whole_s, compute_s = end - begin, self._compute_s
        else:
            whole_s, compute_s = end - prefilled, self._compute_s - prefill_compute_s
        return Timing(whole_s, compute_s, cpu_s, answers)

    def answer(self, prompt: tuple[int, ...], max_tokens: int) -> tuple[float, float]:
        """One turn from an empty KV cache, greedily: seconds to its first token, and of the whole of it."""
        llama_cpp.llama_memory_clear(self._memory, True)
        begin = time.perf_counter()
        first = self._prefill([prompt], ends=False)
        first_s = time.perf_counter() - begin
        self._decode(first, [len(prompt)], max_tokens)
        return first_s, time.perf_counter() - begin

    def bare(self, slots: int, depth_tokens: int, n_tokens: int) -> tuple[float, float]:
        """Prefill and decode as llama-bench measures them: nothing is sampled, and any token will do.

        Returns seconds within llama.cpp for the prompts of ``depth_tokens`` each, and for ``n_tokens`` steps that add
        one token to each slot.
        """
        llama_cpp.llama_memory_clear(self._memory, True)
        self._compute_s = 0.0
        if depth_tokens:
            prompt = tuple(i * 7919 % self.n_vocabulary for i in range(depth_tokens))
            self._prefill([prompt] * slots, ends=False)
        prefill_s = self._stepped - self._began if depth_tokens else 0.0
        tokens, positions = np.ones(slots, np.int32), np.full(slots, depth_tokens, np.int32)
        ids, wanted = np.arange(slots, dtype=np.int32), np.ones(slots, np.int8)
        begin = time.perf_counter()
        for _ in range(n_tokens):
            self._step(tokens, positions, ids, wanted)
            positions += 1
            tokens = (tokens * 7919 + 13) % self.n_vocabulary
        return prefill_s, time.perf_counter() - begin

    def close(self) -> None:
        """Free context and model."""
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def _prefill(self, prompts: list[tuple[int, ...]], ends: bool) -> list[int]:
        """[slot] the first token of each answer. Prompts fill batches one after another, as the engine has it.

        Where answers end with it, their KV cache is given up at once: otherwise later prompts would attend over it.
        """
        first: list[int] = []
        self._began = 0.0
        every = [(token, i, slot) for slot, prompt in enumerate(prompts) for i, token in enumerate(prompt)]
        lengths = [len(prompt) for prompt in prompts]
        for start in range(0, len(every), self._shape.batch_tokens):
            chunk = np.array(every[start : start + self._shape.batch_tokens], dtype=np.int32)
            tokens, positions, slots = chunk[:, 0], chunk[:, 1], chunk[:, 2]
            last = positions + 1 == np.array(lengths, dtype=np.int32)[slots]
            took_s = self._step(tokens, positions, slots, last)
            self._compute_s += took_s * (len(np.unique(slots)) - 1)  # for each prompt in it, as the engine counts
            if n_outputs := int(last.sum()):
                first += self._best(n_outputs).tolist()
            for slot in slots[last] if ends else ():
                llama_cpp.llama_memory_seq_rm(self._memory, int(slot), -1, -1)
        return first

    def _decode(self, first: list[int], lengths: list[int], max_tokens: int) -> tuple[tuple[int, ...], ...]:
        """[slot] the answers, decoded in step."""
        n = len(first)
        tokens = np.array(first, dtype=np.int32)
        positions = np.array(lengths, dtype=np.int32)
        slots, wanted = np.arange(n, dtype=np.int32), np.ones(n, dtype=np.int8)
        answers = [tokens]
        for _ in range(max_tokens - 1):
            self._step(tokens, positions, slots, wanted)
            tokens = self._best(n)
            answers.append(tokens)
            positions += 1
        return tuple(tuple(int(step[slot]) for step in answers) for slot in range(n))

    def _step(self, tokens: Any, positions: Any, slots: Any, wanted: Any) -> float:
        batch = self._batch.filled(tokens, positions, slots, wanted)
        begin = time.perf_counter()
        self._began = self._began or begin
        failed = llama_cpp.llama_decode(self._context, batch)
        llama_cpp.llama_synchronize(self._context)
        self._stepped = time.perf_counter()
        self._compute_s += self._stepped - begin
        if failed:
            raise EngineError(f"llama_decode failed with {failed}")
        return self._stepped - begin

    def _best(self, n_outputs: int) -> Any:
        """[output] the most likely token that does not end the answer."""
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), (n_outputs, self.n_vocabulary))
        logits[:, self._ends] = -np.inf
        return logits.argmax(axis=1).astype(np.int32)


class _Batch:
    """A ``llama_batch`` on numpy arrays."""

    def __init__(self, n_tokens: int) -> None:
        self._token, self._pos, self._seq = (np.zeros(n_tokens, dtype=np.int32) for _ in range(3))
        self._n_seq = np.ones(n_tokens, dtype=np.int32)
        self._logits = np.zeros(n_tokens, dtype=np.int8)
        self._seq_at = self._seq.ctypes.data + np.arange(n_tokens, dtype=np.uint64) * self._seq.itemsize
        self._batch = llama_cpp.llama_batch()
        self._batch.token = _pointer(self._token, ctypes.c_int32)
        self._batch.pos = _pointer(self._pos, ctypes.c_int32)
        self._batch.n_seq_id = _pointer(self._n_seq, ctypes.c_int32)
        self._batch.seq_id = _pointer(self._seq_at, ctypes.POINTER(ctypes.c_int32))
        self._batch.logits = _pointer(self._logits, ctypes.c_int8)

    def filled(self, tokens: Any, positions: Any, slots: Any, wanted: Any) -> Any:
        """The batch with these tokens; it is the same one each time."""
        n = len(tokens)
        self._batch.n_tokens = n
        self._token[:n], self._pos[:n], self._seq[:n], self._logits[:n] = tokens, positions, slots, wanted
        return self._batch


def _pointer(array: Any, kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _model_params(device: str, on_device: bool, mapped: bool) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False
    params.n_gpu_layers = _EVERY_LAYER if on_device else 0
    if not mapped:
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    params.split_mode = llama_cpp.LLAMA_SPLIT_MODE_NONE
    # A list that ends with None, which llama.cpp copies while it loads; kept alive by the parameters.
    params.keep_devices = (ctypes.c_void_p * 2)(_device(device) if on_device else None, None)
    params.devices = ctypes.addressof(params.keep_devices)
    return params


def _device(name: str) -> int:
    library = ctypes.CDLL(_ggml.libggml._name)
    library.ggml_backend_dev_by_name.restype = ctypes.c_void_p
    library.ggml_backend_dev_by_name.argtypes = [ctypes.c_char_p]
    found = library.ggml_backend_dev_by_name(name.encode())
    if not found:
        raise ConfigError(f"no device {name}")
    return int(found)


def _context_params(shape: Shape, on_device: bool, model: Any) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = shape.context_tokens * shape.slots
    params.n_seq_max = params.n_outputs_max = shape.slots
    params.n_batch = params.n_ubatch = shape.batch_tokens
    params.n_threads = params.n_threads_batch = shape.threads
    cuttable = not (llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model))
    params.kv_unified = shape.slots == 1 or not cuttable or llama_cpp.llama_model_n_swa(model) > 0
    params.offload_kqv = on_device
    params.op_offload = False
    params.no_perf = True
    return params
