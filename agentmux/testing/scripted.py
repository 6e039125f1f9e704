"""An engine that follows a script: no model, no thread, no waiting, the same every time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmux.engine.base import (
    EngineEvent,
    EngineStats,
    FinishReason,
    Footprint,
    LoadSpec,
    ModelStats,
    PrefillProgress,
    TextDelta,
    TokenLogprob,
    TurnFailed,
    TurnFinished,
    TurnParked,
    TurnRequest,
    TurnResumed,
    TurnStarted,
    TurnStats,
)
from agentmux.errors import ConfigError, EngineError, ModelNotFound, RequestInvalid
from agentmux.testing.steps import Answer, Failure, Leftovers, Refusal, Script, ScriptError, Step, StepMaker


@dataclass(slots=True)
class _Model:
    footprint: Footprint
    waiting: deque[tuple[TurnRequest, Answer | Failure]] = field(default_factory=deque)
    running: dict[int, tuple[TurnRequest, Answer]] = field(default_factory=dict)
    parked: dict[int, tuple[TurnRequest, Answer | Failure]] = field(default_factory=dict)


class ScriptedEngine:
    """An ``Engine`` that answers from a script.

    Args:
        script: [model] what its turns give, in order of submission; or a function that makes a step of each request,
            such as a ``ByPrompt``, which chooses by what is asked.
        weight_bytes: [model] bytes of its one unit; 100 where not given.
        arena_bytes: size of the arena; None: room for all weights.
        strict: a turn that the script lacks, and steps left over when the engine is closed, are a ScriptError.
            (A turn that the script lacks raises in any case; False only drops the check at the end.)

    ``calls`` holds every request in order, ``prefetches`` every hint, ``cancels`` every turn that was cancelled,
    ``forgotten`` every (model, session) that was.
    """

    def __init__(
        self,
        script: Mapping[str, Script],
        *,
        weight_bytes: Mapping[str, int] | None = None,
        arena_bytes: int | None = None,
        strict: bool = True,
    ) -> None:
        self._script: dict[str, deque[Step] | StepMaker] = {
            model: steps if callable(steps) else deque(steps) for model, steps in script.items()
        }
        self._weight_bytes = {model: (weight_bytes or {}).get(model, 100) for model in script}
        self._arena_bytes = sum(self._weight_bytes.values()) if arena_bytes is None else arena_bytes
        self._strict = strict
        self._models: dict[str, _Model] = {}
        self._events: list[EngineEvent] = []
        self._turns: set[int] = set()
        self._started: set[int] = set()
        self._last_model: str | None = None
        self._steps = self._switches = self._uploaded_bytes = 0
        self._reader, self._writer = os.pipe()
        self._closed = False
        self.calls: list[TurnRequest] = []
        self.prefetches: list[str] = []
        self.cancels: list[int] = []
        self.forgotten: list[tuple[str, str]] = []

    @property
    def models(self) -> dict[str, str]:
        """[model] a made-up path: what ``Runtime(models=...)`` needs."""
        return {model: f"{model}.gguf" for model in self._script}

    def load(self, spec: LoadSpec) -> Footprint:
        """Take up a model of the script. Raises ConfigError if it was loaded, ModelNotFound if the script lacks it."""
        self._check_open()
        if spec.model in self._models:
            raise ConfigError(f"model {spec.model} is loaded already")
        if spec.model not in self._script:
            raise ModelNotFound(f"the script has no model {spec.model}")
        weight = self._weight_bytes[spec.model]
        context_tokens = spec.context_tokens or 4096
        footprint = Footprint(
            model=spec.model,
            architecture="scripted",
            unit_bytes=(weight,),
            min_arena_bytes=min(weight, self._arena_bytes),
            static_bytes=0,
            context_bytes=0,
            kv_bytes_per_token=0,
            host_bytes=weight,
            context_tokens=context_tokens,
            slots=spec.slots,
            training_context_tokens=context_tokens,
            vocabulary_tokens=256,
            chat_template=None,
        )
        # Another dict: this may be a thread of its own, and whoever goes through the models meanwhile is not to notice.
        self._models = {**self._models, spec.model: _Model(footprint)}
        return footprint

    def unload(self, model: str) -> None:
        """Forget a model; its turns end as cancelled. Raises ModelNotFound."""
        entry = self._model(model)
        for turn in [*entry.running, *entry.parked, *(request.turn for request, _ in entry.waiting)]:
            self.cancel(turn)
        self._models = {name: other for name, other in self._models.items() if name != model}

    def submit(self, request: TurnRequest) -> None:
        """Take the script's next step for this model. Raises ScriptError where there is none.

        Of the sampling, only the ids in ``logit_bias`` are looked at, as every engine must.
        """
        self._check_open()
        model = self._model(request.model)
        for token in request.sampling.logit_bias:
            if token >= model.footprint.vocabulary_tokens:
                raise RequestInvalid(
                    f"logit_bias: token id {token} is outside the vocabulary of {model.footprint.vocabulary_tokens}"
                )
        if request.turn in self._turns:
            raise ScriptError(f"turn {request.turn} was submitted before")
        step = self._next_step(request)
        self.calls.append(request)
        if isinstance(step, Refusal):
            raise step.error
        if isinstance(step, Answer) and step.expect is not None and step.expect not in str(request.prompt):
            raise ScriptError(f"the prompt of turn {request.turn} lacks {step.expect!r}: {request.prompt!r}")
        self._turns.add(request.turn)
        model.waiting.append((request, step))
        self._fill(model)

    def cancel(self, turn: int) -> None:
        """End a turn that is held or waits for a slot; no effect on others."""
        for model in self._models.values():
            for entry in [entry for entry in model.waiting if entry[0].turn == turn]:
                self.cancels.append(turn)
                model.waiting.remove(entry)
                self._emit(TurnFinished(turn, "cancelled", "", (), TurnStats()))
                return
            if model.parked.pop(turn, None):
                self.cancels.append(turn)
                self._emit(TurnFinished(turn, "cancelled", "", (), TurnStats()))
                return
            if turn in model.running:
                self.cancels.append(turn)
                self._finish(model, turn, "cancelled")
                return

    def park(self, turn: int) -> None:
        """Take a turn that is held, or waits, off its model until it is resumed; no effect on others."""
        for model in self._models.values():
            entry = model.running.pop(turn, None) or next((e for e in model.waiting if e[0].turn == turn), None)
            if entry is None:
                continue
            if entry in model.waiting:
                model.waiting.remove(entry)
            model.parked[turn] = entry
            self._emit(TurnParked(turn))
            self._fill(model)

    def resume(self, turn: int) -> None:
        """Put a parked turn before all that wait; no effect on others."""
        for model in self._models.values():
            if entry := model.parked.pop(turn, None):
                model.waiting.appendleft(entry)
                self._emit(TurnResumed(turn))
                self._fill(model)

    def forget(self, model: str, session: str) -> None:
        """Note it: sessions have no KV cache here. Raises ModelNotFound."""
        self._model(model)
        self.forgotten.append((model, session))

    def release(self, turn: int | None = None) -> None:
        """Let a held turn end, or all of them. Raises ScriptError if there is none."""
        held = [(model, held) for model in self._models.values() for held in model.running if turn in (None, held)]
        if not held:
            raise ScriptError("no turn is held" if turn is None else f"turn {turn} is not held")
        for model, one in held:
            self._finish(model, one, None)

    @property
    def held(self) -> tuple[int, ...]:
        """Turns that are held, oldest first."""
        return tuple(sorted(turn for model in self._models.values() for turn in model.running))

    def prefetch(self, model: str) -> None:
        """Note the hint. Raises ModelNotFound."""
        self._model(model)
        self.prefetches.append(model)

    def poll(self) -> list[EngineEvent]:
        """All events since the last time."""
        events, self._events = self._events, []
        if events and not self._closed:
            os.read(self._reader, 1)
        return events

    def fileno(self) -> int:
        """A pipe that is readable while events wait."""
        return self._reader

    def stats(self) -> EngineStats:
        """Counters of the script; each model's weights count as uploaded when it takes over from another."""
        return EngineStats(
            device="scripted",
            device_budget_bytes=self._arena_bytes,
            arena_bytes=self._arena_bytes,
            arena_used_bytes=self._weight_bytes.get(self._last_model or "", 0),
            device_used_bytes=self._arena_bytes,
            uploaded_bytes=self._uploaded_bytes,
            evicted_units=0,
            switches=self._switches,
            steps=self._steps,
            upload_wait_s=0.0,
            upload_bytes_per_s=0.0,
            prefetched_bytes=0,
            repeated_passes=0,
            models=tuple(
                ModelStats(
                    name,
                    "r" if name == self._last_model else ".",
                    self._weight_bytes[name] if name == self._last_model else 0,
                    len(model.running),
                    len(model.waiting),
                )
                for name, model in self._models.items()
            ),
        )

    def close(self) -> None:
        """End all turns as cancelled. Raises ScriptError, when strict, if steps of the script are left over."""
        if self._closed:
            return
        for model in list(self._models):
            self.unload(model)
        self._closed = True
        os.close(self._reader)
        os.close(self._writer)
        if self._strict:
            self.assert_consumed()

    def assert_consumed(self) -> None:
        """Raise ScriptError if steps of the script are left over."""
        left = {model: _left(steps) for model, steps in self._script.items()}
        if left := {model: steps for model, steps in left.items() if steps}:
            raise ScriptError(f"steps that no turn asked for: {left}")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def _model(self, model: str) -> _Model:
        self._check_open()
        if model not in self._models:
            raise ModelNotFound(f"no model {model} is loaded")
        return self._models[model]

    def _next_step(self, request: TurnRequest) -> Answer | Failure | Refusal:
        steps = self._script[request.model]
        if callable(steps):
            step = steps(request)
        elif steps:
            step = steps.popleft()
        else:
            raise ScriptError(f"the script has no further step for model {request.model}: {request.prompt!r}")
        return Answer(step) if isinstance(step, str) else step

    def _fill(self, model: _Model) -> None:
        while model.waiting and len(model.running) < model.footprint.slots:
            self._start(model, *model.waiting.popleft())

    def _start(self, model: _Model, request: TurnRequest, step: Answer | Failure) -> None:
        turn, name = request.turn, request.model
        if turn in self._started and isinstance(step, Answer):
            model.running[turn] = (request, step)  # resumed: what it had to say it has said
            return
        self._started.add(turn)
        if self._last_model != name:
            self._switches += self._last_model is not None
            self._uploaded_bytes += self._weight_bytes[name]
            self._last_model = name
        self._emit(TurnStarted(turn))
        if isinstance(step, Failure):
            self._emit(TurnFailed(turn, step.code, step.message, dict(step.numbers)))
            return
        self._emit(PrefillProgress(turn, step.prompt_tokens, step.prompt_tokens))
        for chunk in step.chunks or ((step.text,) if step.text else ()):
            tokens = _tokens(chunk)
            self._emit(TextDelta(turn, chunk, tokens, _logprobs(request, tokens)))
        model.running[turn] = (request, step)
        if not step.hold:
            self._finish(model, turn, None)

    def _finish(self, model: _Model, turn: int, reason: FinishReason | None) -> None:
        request, answer = model.running.pop(turn)
        tokens = _tokens(answer.text)
        stats = TurnStats(prompt_tokens=answer.prompt_tokens, generated_tokens=len(tokens))
        self._steps += 1 + len(tokens)
        logprobs = _logprobs(request, tokens)
        self._emit(TurnFinished(turn, reason or answer.reason, answer.text, tokens, stats, logprobs))
        self._fill(model)

    def _emit(self, event: EngineEvent) -> None:
        if not self._events:
            os.write(self._writer, b"!")
        self._events.append(event)


def _left(steps: deque[Step] | StepMaker) -> int | list[str]:
    """What is left over: how many steps, or which."""
    if isinstance(steps, Leftovers):
        return steps.left()
    return 0 if callable(steps) else len(steps)


def _logprobs(request: TurnRequest, tokens: tuple[int, ...]) -> tuple[TokenLogprob, ...]:
    """A script is certain of each token, if anyone asks."""
    if request.logprobs is None:
        return ()
    return tuple(TokenLogprob(token, 0.0, ((token, 0.0),) * min(request.logprobs, 1)) for token in tokens)


def _tokens(text: str) -> tuple[int, ...]:
    """A token for each word, by its length: enough to be counted."""
    return tuple(min(len(word), 255) for word in text.split())
