"""One model call, from submission to its one end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from agentmux.messages import (
    Completion,
    Event,
    PrefillProgressed,
    TextStreamed,
    TokenLogprob,
    TurnAdmitted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnQueued,
)
from agentmux.sampling import SamplingParams

TurnState = Literal["new", "queued", "active", "parked", "finished", "cancelled", "failed"]
ENDS: frozenset[TurnState] = frozenset({"finished", "cancelled", "failed"})


@dataclass(frozen=True, slots=True)
class TurnSpec:
    """What is asked of which model."""

    model: str
    prompt: str | tuple[int, ...]
    """Text (special tokens in it are parsed) or token ids."""
    max_tokens: int = 512
    sampling: SamplingParams = field(default_factory=SamplingParams)
    grammar: str | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    queue_wait_s: float | None = None
    """Seconds to wait for admission at most."""
    session: str | None = None
    """The conversation whose KV cache it continues and leaves behind."""
    fork: str | None = None
    """Where the session has no KV cache yet, it begins with a copy of this one's."""
    grammar_after: str | None = None
    """The grammar holds behind this text only."""
    show_special: bool = False
    """Special tokens are part of the answer's text."""
    logprobs: int | None = None
    """Report each token's log-probability and those of this many likeliest ones."""
    priority: int = 0
    """Higher goes first."""
    then: str | None = None
    """The model that its run is going to use next, if that is known."""

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of the prompt, where they are known before the engine has seen it."""
        return None if isinstance(self.prompt, str) else len(self.prompt)


class Turn:
    """The state of one call. It moves ``new -> queued -> active`` and into exactly one of ``ENDS``, or there directly;
    from ``active`` to ``parked`` and back any number of times.

    The scheduler moves it; whoever asked waits for ``ended``. Each step is reported to ``emit``.

    ``keep`` is given the answer before anybody is told that there is one; if it raises, the turn ends as failed, with
    what it raised. So nobody hears of an answer that was to be kept and was not.
    """

    def __init__(
        self,
        turn: int,
        run: str,
        agent: str,
        spec: TurnSpec,
        emit: Callable[[Event], None],
        span: int = 0,
        keep: Callable[[Completion], None] | None = None,
    ) -> None:
        self.id = turn
        self.run = run
        self.agent = agent
        self.span = span
        self.spec = spec
        self.state: TurnState = "new"
        self.arrived_s = 0.0
        self.admitted_s: float | None = None
        self.wait_reason = ""
        self.parks = 0
        """How often it had to make way for another model."""
        self.parked_s = 0.0
        """Seconds that it spent parked."""
        self.computed_tokens = 0
        """Of prompt and answer, so far: without the first part of the prompt that the engine reports, since how much of
        that came from a KV cache is known only in the end."""
        self.completion: Completion | None = None
        self.error: Exception | None = None
        self.ended = asyncio.Event()
        self._emit = emit
        self._keep = keep
        self._prefilled: int | None = None
        self._since_s = 0.0

    @property
    def since_s(self) -> float:
        """Second at which it was admitted, or last parked or resumed."""
        return self._since_s

    @property
    def has_ended(self) -> bool:
        """Whether it is in one of its ends."""
        return self.state in ENDS

    def queue(self, now_s: float, position: int, reason: str) -> None:
        """It waits for admission from now on."""
        self.state = "queued"
        self.arrived_s = now_s
        self.wait_reason = reason
        spec, sampling = self.spec, self.spec.sampling
        self._emit(
            TurnQueued(
                run=self.run,
                agent=self.agent,
                span=self.span,
                turn=self.id,
                model=spec.model,
                position=position,
                reason=reason,
                max_tokens=spec.max_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                seed=sampling.seed,
                stop=spec.stop,
                prompt=spec.prompt,
            )
        )

    def admit(self, now_s: float) -> None:
        """The engine has it."""
        self.state = "active"
        self.admitted_s = self._since_s = now_s
        waited_s = now_s - self.arrived_s
        self._emit(TurnAdmitted(self.run, self.agent, self.span, self.id, self.spec.model, waited_s, self.wait_reason))

    def park(self, now_s: float) -> None:
        """It has made way for another model."""
        self.state = "parked"
        self.parks += 1
        self._since_s = now_s

    def resume(self, now_s: float) -> None:
        """It goes on."""
        self.state = "active"
        self.parked_s += now_s - self._since_s
        self._since_s = now_s

    def progress(self, done_tokens: int, total_tokens: int) -> None:
        """So much of its prompt has been computed."""
        self.computed_tokens += 0 if self._prefilled is None else max(0, done_tokens - self._prefilled)
        self._prefilled = done_tokens
        self._emit(PrefillProgressed(self.run, self.agent, self.span, self.id, done_tokens, total_tokens))

    def stream(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """New text of its answer, which counts as one token: the engine reports each as soon as it makes text."""
        if text:
            self.computed_tokens += 1
            self._emit(TextStreamed(self.run, self.agent, self.span, self.id, text, logprobs))

    def finish(self, completion: Completion) -> bool:
        """Its good end, or, if the answer could not be kept, its bad one. False, and no effect, if it had ended before;
        so too for the other two ends."""
        if self.has_ended:
            return False
        try:
            if self._keep is not None:
                self._keep(completion)
        # Whatever it is, it belongs to this turn: it must reach whoever waits.
        except Exception as error:
            return self.fail(error)
        self._end("finished")
        self.completion = completion
        text, numbers = completion.text, completion.stats
        self._emit(TurnCompleted(self.run, self.agent, self.span, self.id, self.spec.model, text, numbers))
        return True

    def cancel(self) -> bool:
        """It was cancelled."""
        if not self._end("cancelled"):
            return False
        self._emit(TurnCancelled(self.run, self.agent, self.span, self.id, self.spec.model))
        return True

    def fail(self, error: Exception) -> bool:
        """It was refused, or the engine failed; ``error`` goes to whoever waits."""
        if not self._end("failed"):
            return False
        self.error = error
        self._emit(TurnErrored(self.run, self.agent, self.span, self.id, self.spec.model, str(error)))
        return True

    def _end(self, state: TurnState) -> bool:
        if self.has_ended:
            return False
        self.state = state
        self.ended.set()
        return True
