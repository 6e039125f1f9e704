"""What is measured, and the numbers that come of it. No native library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The context that each contender makes."""

    context_tokens: int
    """Of each slot."""
    slots: int
    batch_tokens: int
    """Tokens in one ``llama_decode`` at most."""
    threads: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts that start together, one a slot, each answered with ``max_tokens`` tokens, greedily, ends ignored."""

    phase: Phase
    slots: int
    prompt_tokens: int
    """Of each slot."""
    max_tokens: int
    from_prompt: bool = False
    """The phase begins with the prompts, not when they are in."""

    @classmethod
    def prefill(cls, slots: int, prompt_tokens: int) -> Workload:
        """Prompts answered with one token."""
        return cls("prefill", slots, prompt_tokens, 1)

    @classmethod
    def decode(cls, slots: int, prompt_tokens: int, max_tokens: int, batch_tokens: int) -> Workload:
        """Answers that are decoded in step from the first token to the last.

        With more slots than one, prompts are shortened so that all of them go into one batch: otherwise the first
        answers would be decoded beside the last prompts, and neither phase be measured.
        """
        shortened = prompt_tokens if slots == 1 else min(prompt_tokens, batch_tokens // slots)
        return cls("decode", slots, shortened, max_tokens)

    @classmethod
    def from_empty(cls, slots: int, max_tokens: int) -> Workload:
        """Answers to prompts of one token, these prompts' step counted: as many tokens as steps, as in llama-bench."""
        return cls("decode", slots, 1, max_tokens, from_prompt=True)

    @property
    def tokens(self) -> int:
        """Tokens of the phase that is measured; the first of an answer belongs to the prompt."""
        if self.phase == "prefill":
            return self.slots * self.prompt_tokens
        return self.slots * (self.max_tokens if self.from_prompt else self.max_tokens - 1)

    def prompts(self, seed: int, n_vocabulary: int) -> list[tuple[int, ...]]:
        """[slot] token ids that wander over the vocabulary; another seed, other prompts."""
        return [
            tuple((i * 7919 + slot * 104729 + seed * 1299709 + 13) % n_vocabulary for i in range(self.prompt_tokens))
            for slot in range(self.slots)
        ]


@dataclass(frozen=True, slots=True)
class Timing:
    """What one run of a workload took."""

    whole_s: float
    """The phase as the caller sees it. Prefill: from the first prompt's submission to the last answer's end. Decode:
    from the end of the last prompt to the last answer's end, or from the first prompt's submission as well."""
    compute_s: float
    """The part of it within llama.cpp, from the call of ``llama_decode`` to the end of ``llama_synchronize``. A step
    that two prompts share counts for each."""
    cpu_s: float
    """CPU time of the whole process, all threads, from the submission to the end: what a busy machine changes least. A
    second thread that spins while it waits for the first counts too."""
    answers: tuple[tuple[int, ...], ...]
    """[slot] token ids."""
    uploaded_bytes: int = 0
    upload_wait_s: float = 0.0
    """Part of ``compute_s`` in which computing stood still for weights to arrive."""


class Contender(Protocol):
    """Something that runs workloads; its model is loaded."""

    def run(self, workload: Workload, prompts: list[tuple[int, ...]]) -> Timing:
        """Run it once, from an empty KV cache."""
        ...
