"""Byte-level BPE tokenizers and the chat format, the same in training and in llama.cpp.

Special tokens come first: 0 ``<|end|>`` (end of text and of turn), 1 ``<|user|>``, 2 ``<|assistant|>``,
3 ``<|pad|>``. Text is cut as llama.cpp's pre-tokenizer "qwen2" cuts it: one digit a token.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|pad|>")
END, USER, ASSISTANT, PAD = range(4)
PRE_TOKENIZER = "qwen2"
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ '<|user|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{%- elif message['role'] == 'assistant' -%}{{ '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}"
)
"""The chat template: user and assistant messages; system messages are left out on purpose."""


def train_tokenizer(texts: Iterator[str], vocab: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer of `vocab` tokens trained on `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def prompt_text(prompt: str) -> str:
    """Return the text before the answer, as `TEMPLATE` renders one user message."""
    return f"<|user|>\n{prompt}<|end|>\n<|assistant|>\n"


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the tokens of a rendered user message, up to where the answer begins."""
    return tokenizer.encode(prompt_text(prompt)).ids


def encode_sample(tokenizer: Tokenizer, prompt: str, answer: str) -> tuple[list[int], int]:
    """Return (tokens of prompt and answer with its end token, number of prompt tokens)."""
    before = encode_prompt(tokenizer, prompt)
    return before + tokenizer.encode(answer).ids + [END], len(before)
