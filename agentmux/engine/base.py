"""The seam between Python and the engine: values only, down as requests, up as events.

Nothing here loads a native library. An engine is mechanism: it keeps what it was told to run resident, uploads ahead,
decodes all active slots of a model in one batch a step, and reports. Order and admission are decided above it.

Life of a turn: ``submit`` -> ``TurnStarted`` -> ``PrefillProgress``* -> ``TextDelta``* -> exactly one of
``TurnFinished`` (also when cancelled) or ``TurnFailed``; ``TurnParked`` and ``TurnResumed`` may come in between. Events
of one turn come in this order; ``fileno`` is readable while events wait, so that asyncio needs no thread; ``poll``
takes all that wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from agentmux.errors import RequestInvalid
from agentmux.messages import TokenLogprob as TokenLogprob
from agentmux.sampling import SamplingParams

FinishReason = Literal["stop", "length", "cancelled"]
Oversize = Literal["auto", "stream", "host"]
MAX_LOGPROBS = 20
"""As OpenAI's interface has it."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What an engine may use."""

    device: str = "auto"
    """``auto`` (the first GPU, else the CPU), ``cpu``, or a ggml device name such as ``CUDA0``."""
    device_bytes: int | None = None
    """Budget. On a device with its own memory: everything the engine takes there (arena, contexts, small tensors,
    the driver's own share). On the CPU: the arena, which stands in for it. None: nine tenths of what the device has
    free; on the CPU, no arena at all: models are computed where their files are mapped."""
    arena_bytes: int | None = None
    """Cap on the arena below what the budget leaves for it; None: no other cap. For tests and measurements."""
    host_bytes: int | None = None
    """Budget for page-locked copies of weights and for sessions that are away from the device; None: no limit. What
    does not fit is uploaded from the file's own pages, and the sessions used longest ago are dropped."""
    contexts: int | None = None
    """How many models may hold a context (KV cache and compute buffers) at once; None: as the device's budget allows.
    The others' sessions wait in host memory."""
    oversize: Oversize = "auto"
    """What a model larger than the arena does with the layers that do not fit: ``stream`` them in each pass, let the
    CPU compute them where they lie (``host``), or ``auto``: whichever has proved faster for as many tokens."""
    threads: int | None = None
    """CPU threads for computing; None: the cores this process may use."""
    link_bytes_per_s: int | None = None
    """Hold uploads to this rate, to simulate a slower link; None: as fast as it goes."""
    debug_poison: bool = False
    """Overwrite evicted memory, so that a missed wait shows in the output. For tests."""
    debug_hash_logits: bool = False
    """Fill ``TurnStats.logits_crc32``, so that exactness can be shown to the bit. For tests."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """A model to load: under which name, from which GGUF file, with how much context."""

    model: str
    path: str
    context_tokens: int | None = None
    """Context of each slot, in tokens, prompt and answer together; None: 4096, or what the model was trained on where
    that is less."""
    slots: int = 1
    """Turns of this model that may decode at the same time."""
    batch_tokens: int = 256
    """Tokens computed in one step at most; longer prompts are prefilled in chunks of this size."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Measured sizes of a loaded model; the one source of sizes. All bytes are of memory actually allocated."""

    model: str
    architecture: str
    unit_bytes: tuple[int, ...]
    """[unit, in the order of first use] bytes in the arena, padding included."""
    min_arena_bytes: int
    """The smallest arena in which the model can decode: what one graph node needs at once."""
    static_bytes: int
    """Small tensors that stay on the device for good."""
    context_bytes: int
    """KV cache and compute buffers of all slots, where they count against the device budget (0 on the CPU)."""
    kv_bytes_per_token: int
    """Bytes that one token of one sequence adds to the KV cache; 0 where the memory does not grow with tokens."""
    host_bytes: int
    """Host memory that holds the weights."""
    context_tokens: int
    """Of each slot."""
    slots: int
    training_context_tokens: int
    vocabulary_tokens: int
    """0 for a model without a vocabulary, which works with ids."""
    chat_template: str | None
    """Jinja source from the GGUF."""
    bos_text: str = ""
    eos_text: str = ""

    @property
    def weight_bytes(self) -> int:
        """Bytes of all units together: what must be in the arena for the model to be fully resident."""
        return sum(self.unit_bytes)


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One model call. ``turn`` is chosen by the caller and must be unique in this engine.

    Raises RequestInvalid at once where ``logprobs`` is out of range or ``grammar_after`` has no grammar or is empty.
    """

    turn: int
    model: str
    prompt: str | tuple[int, ...]
    """Text (special tokens in it are parsed) or token ids."""
    max_tokens: int = 512
    sampling: SamplingParams = field(default_factory=SamplingParams)
    grammar: str | None = None
    """GBNF with the root rule ``root``; the answer is constrained to it from its first token. It cannot end before the
    grammar is satisfied, except by ``max_tokens``, ``stop``, cancellation or the end of the context."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; found across token borders, not emitted."""
    ignore_eos: bool = False
    """Go on past the end-of-generation token until ``max_tokens``. For measurements."""
    show_special: bool = False
    """Special tokens have their text in the answer, too, as marks of calls and of reasoning have to; else none."""
    session: str | None = None
    """The conversation that this turn belongs to, by a name of the caller's, for this model. Its KV cache is kept after
    the turn, and the longest common prefix of the next turn's prompt is not computed again. Two turns of one session
    run one after the other; a parked one keeps what it has for itself until it ends."""
    fork: str | None = None
    """Where the session has no KV cache yet, it begins with a copy of this session's."""
    grammar_after: str | None = None
    """The grammar holds behind this text only, for example ``</think>``; before it the answer is free. It is looked for
    in the answer, across token borders, and special tokens count with their text. A token that goes past it is chosen
    only if the grammar can begin with the rest of that token. If the model ends its answer before the text has come,
    the turn ends as usual, with ``stop``, and no grammar has held: look for the text to know."""
    logprobs: int | None = None
    """Report each token's log-probability and those of this many likeliest tokens, 0 to 20, from the softmax of the
    model's logits before anything of ``sampling`` or a grammar changed them. None: nothing is computed or reported."""

    def __post_init__(self) -> None:
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise RequestInvalid(f"logprobs={self.logprobs} is outside 0 to {MAX_LOGPROBS}")
        if self.grammar_after is not None and not (self.grammar and self.grammar_after):
            raise RequestInvalid("grammar_after needs a grammar, and some text to begin it after")


@dataclass(frozen=True, slots=True)
class TurnStats:
    """A turn's numbers. Times in seconds on the engine's monotonic clock."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    reused_tokens: int = 0
    """Of the prompt, taken from the session's KV cache."""
    engine_wait_s: float = 0.0
    """From submit to the first step of the turn."""
    prefill_s: float = 0.0
    decode_s: float = 0.0
    time_to_first_token_s: float = 0.0
    """From submit."""
    upload_wait_s: float = 0.0
    """Time in which computing stood still for units to arrive."""
    uploaded_bytes: int = 0
    """Bytes of this model's units that were uploaded while the turn ran."""
    switched: bool = False
    """Another model computed the step before this turn's first."""
    logits_crc32: int = 0
    """zlib.crc32, chained, over the float32 logits [vocabulary] of each sampled token; 0 unless asked for."""


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The first step of the turn begins."""

    turn: int


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """Part of the prompt is in the KV cache."""

    turn: int
    done_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text (whole UTF-8 characters only) and the tokens sampled since the last delta."""

    turn: int
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    """[tokens] if they were asked for, else empty."""


@dataclass(frozen=True, slots=True)
class TurnParked:
    """The turn has left its slot, as asked; its KV cache is kept."""

    turn: int


@dataclass(frozen=True, slots=True)
class TurnResumed:
    """The turn waits for a slot again, before all others."""

    turn: int


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """A model on its way into host memory."""

    model: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The turn's one good end. ``text`` and ``tokens`` are the whole answer, without the end token and the stop
    text (the tokens that spell the stop text are there)."""

    turn: int
    reason: FinishReason
    text: str
    tokens: tuple[int, ...]
    stats: TurnStats
    logprobs: tuple[TokenLogprob, ...] = ()
    """[tokens] if they were asked for, else empty."""


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """The turn's one bad end. ``error_code`` and ``numbers`` go through ``agentmux.errors.from_code``."""

    turn: int
    error_code: str
    message: str
    numbers: dict[str, float]


TurnEvent = TurnStarted | PrefillProgress | TextDelta | TurnParked | TurnResumed | TurnFinished | TurnFailed
EngineEvent = TurnEvent | LoadProgress


@dataclass(frozen=True, slots=True)
class ModelStats:
    """A model's part of ``EngineStats``."""

    model: str
    unit_states: str
    """[unit] one letter each: ``r`` resident, ``a`` arriving, ``h`` computed by the CPU, ``.`` in host memory only."""
    resident_bytes: int
    slots_active: int
    slots_waiting: int
    """Turns submitted and not yet in a slot."""
    sessions_on_device: int = 0
    """Idle sessions whose KV cache is in the context."""
    has_context: bool = True


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot; counters run from the engine's start."""

    device: str
    device_budget_bytes: int
    """0 where there is none: on the CPU, unless one was given."""
    arena_bytes: int
    """Room for units; where models are computed in place (on the CPU without a budget), the bytes of all units."""
    arena_used_bytes: int
    device_used_bytes: int
    """As the driver reports it, growth since the engine was made and the driver's own share included; on the CPU the
    arena's bytes."""
    uploaded_bytes: int
    evicted_units: int
    switches: int
    """Steps of another model than the step before."""
    steps: int
    upload_wait_s: float
    upload_bytes_per_s: float
    """Bytes per second seen while uploading; 0 before the first upload."""
    prefetched_bytes: int
    """Part of ``uploaded_bytes`` that was hinted rather than waited for."""
    repeated_passes: int
    """Computations that were thrown away and done again, because a graph was not as predicted where a unit was
    missing."""
    models: tuple[ModelStats, ...]
    context_bytes: int = 0
    """Device bytes of the contexts that are open now."""
    host_weight_bytes: int = 0
    """Weights in host memory; a file that several models share counts once."""
    page_locked_bytes: int = 0
    """Part of them that the device reads directly."""
    compactions: int = 0
    """Times that units were moved together within the arena."""
    sessions_in_host: int = 0
    session_host_bytes: int = 0
    session_memory_bytes: int = 0
    """Host memory held for sessions, with what is free for the next ones."""
    session_hits: int = 0
    """Turns that found part of their prompt in a KV cache."""
    session_tokens_reused: int = 0
    session_bytes_saved: int = 0
    session_bytes_restored: int = 0
    sessions_dropped: int = 0
    """For want of host memory."""
    step_s: float = 0.0
    """Seconds spent in steps, waiting for uploads included."""


class Engine(Protocol):
    """What every engine must do. Methods return at once unless said otherwise; errors are of ``agentmux.errors``."""

    def load(self, spec: LoadSpec) -> Footprint:
        """Load a model; blocks (call it in a thread). Same name twice is ConfigError.

        Raises ModelNotFound, ModelCorrupt, ModelUnsupported, NeverFits, ConfigError. A failed load changes nothing.
        """
        ...

    def unload(self, model: str) -> None:
        """Free a model; its turns end as cancelled. Blocks until that is done. Raises ModelNotFound."""
        ...

    def submit(self, request: TurnRequest) -> None:
        """Queue a turn. Raises ModelNotFound, RequestInvalid, ContextOverflow, EngineError (closed)."""
        ...

    def cancel(self, turn: int) -> None:
        """End a turn between two steps, as ``TurnFinished(reason="cancelled")``. Unknown or ended turns: no effect."""
        ...

    def park(self, turn: int) -> None:
        """Take a turn off its slot between two steps, as ``TurnParked``, until ``resume``. Unknown, ended or parked
        turns: no effect."""
        ...

    def resume(self, turn: int) -> None:
        """Let a parked turn go on where it was, as ``TurnResumed``. Turns that are not parked: no effect."""
        ...

    def forget(self, model: str, session: str) -> None:
        """The session's KV cache is not wanted any more. Unknown sessions: no effect. Raises ModelNotFound."""
        ...

    def prefetch(self, model: str) -> None:
        """Hint that this model runs next: it is uploaded into room that the running model does not need.

        A later hint replaces an earlier one. Raises ModelNotFound.
        """
        ...

    def poll(self) -> list[EngineEvent]:
        """All events that wait, oldest first."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable while events wait."""
        ...

    def stats(self) -> EngineStats:
        """A snapshot of residency, traffic and slots."""
        ...

    def close(self) -> None:
        """Stop both threads and free everything; turns in flight end as cancelled (``poll`` still returns their
        events). Closing twice is fine."""
        ...
