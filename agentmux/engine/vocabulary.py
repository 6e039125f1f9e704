"""The texts of a model's tokens, for log-probabilities. Importing this module loads the native library."""

from __future__ import annotations

import ctypes

import llama_cpp

from agentmux.errors import EngineError

_PIECE_BYTES = 256


def token_bytes(path: str) -> tuple[bytes, ...]:
    """[token id] its bytes, those of special tokens too. Reads the vocabulary of a GGUF file, not its weights.

    For files that the engine has loaded: llama.cpp may end the process over others. Blocks for as long as reading the
    vocabulary takes. Raises EngineError if that fails.
    """
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        raise EngineError(f"the vocabulary of {path} cannot be read")
    try:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        return tuple(_piece(vocabulary, token) for token in range(llama_cpp.llama_vocab_n_tokens(vocabulary)))
    finally:
        llama_cpp.llama_model_free(model)


def _piece(vocabulary: object, token: int) -> bytes:
    room = _PIECE_BYTES
    while True:
        buffer = ctypes.create_string_buffer(room)
        used = llama_cpp.llama_token_to_piece(vocabulary, token, buffer, room, 0, True)
        if used >= 0:
            return buffer.raw[:used]
        room = -used  # it says how much it needs
