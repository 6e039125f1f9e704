"""The document of ``agentmux bench paging --json``. Fields may be added, those here stay."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict, Field

from agentmux.bench.machine import Machine, Versions


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TurnNumbers(_Value):
    """One turn. Times in seconds; ``begin_s`` counts from the repetition's begin."""

    model: str
    agent: int = Field(description="of the model; each keeps a session of its own where there are several")
    begin_s: float
    first_token_s: float = Field(description="from the turn's begin")
    whole_s: float
    prompt_tokens: int
    new_tokens: int = Field(description="of the prompt, not there in any earlier turn")
    reused_tokens: int = Field(description="of the prompt, out of the session's KV cache")
    tokens: int
    upload_wait_s: float = Field(description="computing stood still for units to arrive")
    uploaded_bytes: int = Field(description="of this model, while the turn ran")
    bound_first_token_s: float | None = Field(
        description="no scheduler can be faster: the resident engine's, or what must come over the link in the meantime"
    )
    session_bytes: int = Field(
        default=0, description="of its session, from host memory to the device before the first token"
    )
    displaced_bytes: int = Field(
        default=0, description="of other sessions, which gave up their place and went to host memory"
    )


def unpaged(
    model: str, agent: int, begin_s: float, times: tuple[float, float], prompt_tokens: int, tokens: int
) -> TurnNumbers:
    """A turn of what keeps no sessions and uploads nothing that it knows of. times: to the first token, and whole."""
    return TurnNumbers(
        model=model,
        agent=agent,
        begin_s=begin_s,
        first_token_s=times[0],
        whole_s=times[1],
        prompt_tokens=prompt_tokens,
        new_tokens=prompt_tokens,
        reused_tokens=0,
        tokens=tokens,
        upload_wait_s=0,
        uploaded_bytes=0,
        bound_first_token_s=None,
    )


class Sample(_Value):
    """A look at the engine's counters."""

    at_s: float
    uploaded_bytes: int
    waited_s: float = Field(description="computing stood still for units to arrive")


class Repetition(_Value):
    """One contender's turns in one repetition."""

    contender: str
    repetition: int
    whole_s: float
    uploaded_bytes: int
    peak_device_bytes: int | None = Field(description="more than before the run, by the driver, for the whole device")
    energy_j: float | None
    turns: tuple[TurnNumbers, ...]

    @property
    def tokens_per_s(self) -> float:
        """Of all answers, prefill included in the time."""
        return sum(turn.tokens for turn in self.turns) / self.whole_s


class Summary(_Value):
    """What a contender's repetitions come to: medians of repetitions, and of all their turns."""

    contender: str
    tokens_per_s: float
    first_token_s: float
    first_token_p95_s: float
    decode_tokens_per_s: float = Field(description="of a turn, after its first token")
    upload_wait_s: float = Field(description="of a turn; the switch's wait")
    uploaded_bytes_per_turn: int
    peak_device_bytes: int | None
    joules_per_token: float | None
    bound_tokens_per_s: float | None = Field(description="by arithmetic, from the resident engine's times and the link")
    bound_first_token_s: float | None
    recomputed_tokens: int = Field(
        description="prompt tokens of earlier turns that were computed again (an answer's last one never was before)"
    )
    empty_first_token_s: float | None = Field(
        default=None, description="where sessions are kept: of turns that found their slot empty, and brought nothing"
    )
    returning_first_token_s: float | None = Field(
        default=None, description="of turns whose session came from host memory"
    )
    returning_of_needed: float | None = Field(
        default=None,
        description="that, over what such a turn needs: one in an empty slot, and its session's bytes on the link",
    )


class Single(_Value):
    """One model alone, resident: tokens per second of each way to run it."""

    contender: str = Field(
        description="plain: llama_decode in a loop that samples nothing, as llama-bench does; engine; llama-bench or "
        "llama-batched-bench: what they say"
    )
    phase: str = Field(description="prefill or decode")
    slots: int
    depth_tokens: int = Field(description="in the KV cache of each slot when the phase begins")
    tokens_per_s: float
    all_tokens_per_s: tuple[float, ...] = Field(description="[repetition]")
    engine_share: float | None = Field(
        default=None, description="the engine's tokens per second over these; null where it did not run the same"
    )


class ToolRun(_Value):
    """A run of a program of llama.cpp's own."""

    tool: str
    slots: int
    version: str | None = Field(description="as it says; null where it does not")
    command: tuple[str, ...]
    unified_kv: bool | None = Field(
        description="whether all slots shared one KV cache, by its default; null for one slot, or if it does not say"
    )


class ModelSize(_Value):
    """A model as the engine measured it."""

    model: str
    file_bytes: int
    weight_bytes: int
    context_bytes: int
    static_bytes: int
    units: int
    kv_bytes_per_token: int
    load_s: float = Field(description="from the call to ready, vetting included, page cache warm")


class PagingReport(_Value):
    """The whole document."""

    command: tuple[str, ...] = Field(description="the command line, without the program's name")
    began: str = Field(description="date and time, ISO 8601, UTC")
    machine: Machine
    gpu: str | None = Field(description="as the driver names it; null where there is none, or no NVML")
    versions: Versions
    device_bytes: int | None = Field(description="budget of the paged engine")
    arena_bytes: int = Field(description="the paged engine's")
    link_bytes_per_s: int | None = Field(description="held to; null: as fast as it goes")
    upload_bytes_per_s: float = Field(description="seen by the paged engine while it uploaded")
    prompt_tokens: int
    tokens: int
    agents: int
    use: tuple[int, ...] = Field(description="[model] share of the turns")
    router: str | None = Field(default=None, description="version of the llama-server that was given")
    models: tuple[ModelSize, ...]
    summaries: tuple[Summary, ...]
    singles: tuple[Single, ...]
    tools: tuple[ToolRun, ...] = Field(default=(), description="what singles of llama.cpp's own programs came of")
    repetitions: tuple[Repetition, ...]
    timeline: tuple[Sample, ...] = Field(description="of one more repetition of the paged engine, for the picture")
    timeline_turns: tuple[TurnNumbers, ...]


def summarised(
    repetitions: Sequence[Repetition], slot_decode_s: dict[str, float] | None = None, link_bytes_per_s: float = 0
) -> tuple[Summary, ...]:
    """A line for each contender, in the order in which they ran first.

    slot_decode_s: [model] seconds from a turn's first token to its end with everything resident, for the bound.
    link_bytes_per_s: what sessions that return could come with; 0: not known.
    """
    groups: dict[str, list[Repetition]] = {}
    for one in repetitions:
        groups.setdefault(one.contender, []).append(one)
    return tuple(_summary(name, runs, slot_decode_s or {}, link_bytes_per_s) for name, runs in groups.items())


def beside_engine(singles: Sequence[Single]) -> tuple[Single, ...]:
    """These with the engine's share of each, and those of the same kind beside each other."""
    of_engine = {_kind(one): one.tokens_per_s for one in singles if one.contender == "engine"}
    shared = [
        one.model_copy(update={"engine_share": of_engine[_kind(one)] / one.tokens_per_s})
        if one.contender != "engine" and _kind(one) in of_engine
        else one
        for one in singles
    ]
    return tuple(sorted(shared, key=_kind))


def _kind(one: Single) -> tuple[int, bool, int]:
    return one.slots, one.phase != "prefill", one.depth_tokens


def _summary(contender: str, runs: list[Repetition], decode_s: dict[str, float], link: float) -> Summary:
    turns = [turn for run in runs for turn in run.turns]
    first = sorted(turn.first_token_s for turn in turns)
    tokens = sum(turn.tokens for turn in turns)
    peaks = [run.peak_device_bytes for run in runs if run.peak_device_bytes is not None]
    energy = [run.energy_j for run in runs if run.energy_j is not None]
    bounds = [turn.bound_first_token_s for turn in turns if turn.bound_first_token_s is not None]
    returning = _returning(turns, link)
    bound_s = sum(bounds) + sum(decode_s.get(turn.model, 0) for turn in turns)
    return Summary(
        contender=contender,
        tokens_per_s=median(run.tokens_per_s for run in runs),
        first_token_s=median(first),
        first_token_p95_s=first[min(len(first) - 1, round(0.95 * len(first)))],
        decode_tokens_per_s=median((t.tokens - 1) / max(1e-9, t.whole_s - t.first_token_s) for t in turns),
        upload_wait_s=median(turn.upload_wait_s for turn in turns),
        uploaded_bytes_per_turn=round(sum(run.uploaded_bytes for run in runs) / len(turns)),
        peak_device_bytes=max(peaks) if peaks else None,
        joules_per_token=sum(energy) / tokens if len(energy) == len(runs) else None,
        bound_tokens_per_s=tokens / bound_s if len(bounds) == len(turns) and decode_s else None,
        bound_first_token_s=median(bounds) if len(bounds) == len(turns) else None,
        recomputed_tokens=sum(turn.prompt_tokens - turn.new_tokens - turn.reused_tokens for turn in turns),
        empty_first_token_s=returning[0],
        returning_first_token_s=returning[1],
        returning_of_needed=returning[2],
    )


def _returning(turns: Sequence[TurnNumbers], link: float) -> tuple[float | None, float | None, float | None]:
    """First token in an empty slot, and of a session from host memory, medians; and the latter over what it needs."""
    back = [turn for turn in turns if turn.session_bytes]
    empty = [turn.first_token_s for turn in turns if not turn.reused_tokens and not turn.displaced_bytes]
    if not back or not empty:
        return None, None, None
    empty_s, back_s = median(empty), median(turn.first_token_s for turn in back)
    if link <= 0:
        return empty_s, back_s, None
    return empty_s, back_s, median(turn.first_token_s / (empty_s + turn.session_bytes / link) for turn in back)
