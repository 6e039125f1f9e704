"""What is said: chat messages, the events of a run, and the numbers and results that they carry.

All are frozen dataclasses. Every event has ``run`` (the run's id), ``agent`` (the name of the agent or pipeline
function it belongs to) and ``span`` (which execution of it: a number that is unique within the run; 0 is the run
itself). One run's events come in one stream, nested agents included::

    RunStarted
      AgentStarted                                   for every agent and pipeline function, nested ones too
        TurnQueued -> TurnAdmitted -> PrefillProgressed* -> TextStreamed*
          -> exactly one of TurnCompleted, TurnCancelled, TurnErrored
        OutputRetried                                the answer did not validate; another turn follows
        ToolCalled -> exactly one of ToolReturned, ToolErrored
      AgentFinished | AgentErrored
    RunFinished | RunErrored                         the last event

A turn that is refused or cancelled while it waits skips what lies between ``TurnQueued`` and its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T_co = TypeVar("T_co", covariant=True)

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a tool run."""

    id: str
    """Nine letters and digits, unique within its conversation."""
    name: str
    arguments: str
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation with a model."""

    role: Role
    content: str
    agent: str = ""
    """The agent whose conversation it belongs to."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What an assistant's message asks for; its ``content`` is then the text before the calls."""
    tool_call: ToolCall | None = None
    """The call that a message of role ``tool`` answers."""


@dataclass(frozen=True, slots=True)
class TurnNumbers:
    """What one turn took. Times in seconds, sizes in bytes."""

    turn: int
    agent: str
    model: str
    finish_reason: str = ""
    """``stop``, ``length`` (cut by ``max_tokens`` or the context) or ``cancelled``."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Of the prompt, taken from the session's KV cache."""
    generated_tokens: int = 0
    queue_wait_s: float = 0.0
    """From submission to admission."""
    wait_reason: str = ""
    """The last reason why it was not admitted yet; empty if it never had to wait."""
    engine_wait_s: float = 0.0
    """From admission to the turn's first step in the engine."""
    prefill_s: float = 0.0
    decode_s: float = 0.0
    time_to_first_token_s: float = 0.0
    """From admission."""
    upload_wait_s: float = 0.0
    """Time in which computing stood still for layers to arrive."""
    uploaded_bytes: int = 0
    switched: bool = False
    """Another model computed just before."""
    replayed: bool = False
    """Not computed: a resumed run had its answer in the journal. The other numbers are those of when it was."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely the model found a token, as natural logarithms of probabilities."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """(token, its log-probability) of the likeliest tokens, likeliest first; as many as asked for."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one model call. ``text`` and ``tokens`` leave out stop texts and the end token."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    """``stop`` or ``length``."""
    stats: TurnNumbers
    logprobs: tuple[TokenLogprob, ...] = ()
    """[tokens] if they were asked for, else empty."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run has used so far."""

    turns: int = 0
    """Turns submitted, however they ended."""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    tool_calls: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and generated tokens together."""
        return self.prompt_tokens + self.generated_tokens


@dataclass(frozen=True, slots=True)
class RunResult(Generic[T_co]):
    """What a run gave. ``messages`` and ``turns`` are in the order in which they were completed."""

    run: str
    output: T_co
    usage: Usage
    messages: tuple[Message, ...]
    """Every message that was shown to a model or answered by one."""
    turns: tuple[TurnNumbers, ...]
    """[turn that ended as finished] its numbers."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins."""

    run: str
    agent: str
    span: int


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """An agent or pipeline function begins."""

    run: str
    agent: str
    span: int
    parent: int
    """The span of the agent or pipeline function that ran it; 0 for the run's own."""


@dataclass(frozen=True, slots=True)
class TurnQueued:
    """A model call waits for admission."""

    run: str
    agent: str
    span: int
    turn: int
    model: str
    position: int
    """Turns in the queue, this one included."""
    reason: str
    """Why it cannot be admitted at once; empty if it can."""
    max_tokens: int = 0
    """Of the answer at most."""
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    prompt: str | tuple[int, ...] = ""
    """Rendered text, or token ids."""


@dataclass(frozen=True, slots=True)
class TurnAdmitted:
    """A model call was handed to the engine."""

    run: str
    agent: str
    span: int
    turn: int
    model: str
    queue_wait_s: float
    reason: str
    """The last reason why it had to wait; empty if it did not."""


@dataclass(frozen=True, slots=True)
class PrefillProgressed:
    """Part of the prompt has been computed."""

    run: str
    agent: str
    span: int
    turn: int
    done_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class TextStreamed:
    """New text of an answer."""

    run: str
    agent: str
    span: int
    turn: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    """[token that makes up the text] if they were asked for, else empty."""


@dataclass(frozen=True, slots=True)
class TurnCompleted:
    """A model call gave its answer. ``text`` is the whole of it."""

    run: str
    agent: str
    span: int
    turn: int
    model: str
    text: str
    numbers: TurnNumbers


@dataclass(frozen=True, slots=True)
class TurnCancelled:
    """A model call was cancelled, in the queue or in the engine."""

    run: str
    agent: str
    span: int
    turn: int
    model: str


@dataclass(frozen=True, slots=True)
class TurnErrored:
    """A model call was refused or failed."""

    run: str
    agent: str
    span: int
    turn: int
    model: str
    error: str


@dataclass(frozen=True, slots=True)
class OutputRetried:
    """An answer did not validate; the error goes back to the model and another turn follows."""

    run: str
    agent: str
    span: int
    attempt: int
    """1 for the first answer."""
    error: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool is about to run, as a model or an agent asked."""

    run: str
    agent: str
    span: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A tool gave its result. ``result`` is the text that the model is shown."""

    run: str
    agent: str
    span: int
    call: ToolCall
    result: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class ToolErrored:
    """A tool did not give a result: it asked the model to try again, raised, was denied, timed out or was cancelled."""

    run: str
    agent: str
    span: int
    call: ToolCall
    error: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class AgentFinished:
    """An agent or pipeline function returned."""

    run: str
    agent: str
    span: int
    output: object


@dataclass(frozen=True, slots=True)
class AgentErrored:
    """An agent or pipeline function raised, or was cancelled."""

    run: str
    agent: str
    span: int
    error: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run gave its result."""

    run: str
    agent: str
    span: int
    result: RunResult[object]


@dataclass(frozen=True, slots=True)
class RunErrored:
    """The run ended without a result; the stream raises the error after this event."""

    run: str
    agent: str
    span: int
    error: str
    partial: RunResult[None]
    """What it had used and said until then."""


Event = (
    RunStarted
    | AgentStarted
    | TurnQueued
    | TurnAdmitted
    | PrefillProgressed
    | TextStreamed
    | TurnCompleted
    | TurnCancelled
    | TurnErrored
    | OutputRetried
    | ToolCalled
    | ToolReturned
    | ToolErrored
    | AgentFinished
    | AgentErrored
    | RunFinished
    | RunErrored
)
