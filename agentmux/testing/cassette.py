"""Cassettes: what a real engine answered, recorded once and replayed by tests.

Turns are found by what determines them (model, prompt, sampling, grammar and the rest of the request), not by their
order, and equal ones are replayed in the order of their recording. The models' footprints are recorded too: prompts are
rendered by the chat template in them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agentmux.engine.base import (
    Engine,
    EngineEvent,
    EngineStats,
    FinishReason,
    Footprint,
    LoadSpec,
    TurnFailed,
    TurnFinished,
    TurnRequest,
)
from agentmux.errors import ConfigError
from agentmux.testing.scripted import ScriptedEngine
from agentmux.testing.steps import Answer, Failure, ScriptError

RECORD_VARIABLE = "AGENTMUX_RECORD"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Turn(_Value):
    request: dict[str, Any]
    text: str = ""
    reason: FinishReason = "stop"
    prompt_tokens: int = 0
    error_code: str | None = None
    error_message: str = ""
    error_numbers: dict[str, float] = {}


class _Recording(_Value):
    version: int = 1
    models: dict[str, Footprint]
    turns: list[_Turn]


class Cassette:
    """A file of recorded turns.

    ::

        engine = Cassette("tests/cassettes/plan.json").engine(make_real_engine)
        async with Runtime(models=MODELS, engine=engine) as mux: ...

    ``AGENTMUX_RECORD=1 pytest tests/test_plan.py`` records; without it the file is replayed, and no model is loaded.

    Args:
        path: a JSON file, to be kept beside the tests.
        strict: recorded turns that were not asked for are a ScriptError when the replaying engine is closed.
    """

    def __init__(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        self._path = Path(path)
        self._strict = strict

    def engine(self, real: Callable[[], Engine] | None = None, *, record: bool | None = None) -> Engine:
        """The engine for a runtime.

        Args:
            real: makes the engine to record from.
            record: record, and overwrite the file when the engine is closed; None: whether ``AGENTMUX_RECORD`` is 1.

        A turn that was not recorded raises ScriptError, with the difference to the most similar one that was. Raises
        ConfigError where the file is missing or damaged, or ``real`` is needed and missing.
        """
        if not (os.environ.get(RECORD_VARIABLE) == "1" if record is None else record):
            return _Replaying(self._path, self._read(), self._strict)
        if real is None:
            raise ConfigError(f"recording {self._path} needs an engine to record from")
        return _Recorder(self._path, real())

    def _read(self) -> _Recording:
        try:
            return _Recording.model_validate_json(self._path.read_bytes())
        except FileNotFoundError as error:
            raise ConfigError(f"no cassette {self._path}; record it with {RECORD_VARIABLE}=1") from error
        except (OSError, ValidationError) as error:
            raise ConfigError(f"cassette {self._path} cannot be read: {error}") from error


def request_key(request: TurnRequest) -> str:
    """Digest of all that determines a turn's answer: the request without its number and its session."""
    return _digest(_described(request))


def _described(request: TurnRequest) -> dict[str, Any]:
    described = asdict(replace(request, turn=0, session=None, fork=None))
    for name in ("turn", "session", "fork"):
        del described[name]
    # As JSON has it: keys are texts, tuples are lists, and infinities texts.
    bias = described["sampling"]["logit_bias"]
    described["sampling"]["logit_bias"] = {str(token): str(value) for token, value in sorted(bias.items())}
    return dict(json.loads(json.dumps(described)))


def _digest(described: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class _Replay:
    """The script of one model of a cassette."""

    def __init__(self, path: Path, turns: list[_Turn]) -> None:
        self._path = path
        self._all = turns
        self._waiting: dict[str, deque[_Turn]] = {}
        for turn in turns:
            self._waiting.setdefault(_digest(turn.request), deque()).append(turn)

    def __call__(self, request: TurnRequest) -> Answer | Failure:
        """The recorded end of this turn. Raises ScriptError if there is none."""
        described = _described(request)
        waiting = self._waiting.get(_digest(described))
        if not waiting:
            raise ScriptError(self._explain(described, known=waiting is not None))
        turn = waiting.popleft()
        if turn.error_code is not None:
            return Failure(turn.error_code, turn.error_message, turn.error_numbers)
        return Answer(turn.text, reason=turn.reason, prompt_tokens=turn.prompt_tokens)

    def left(self) -> list[str]:
        """Recorded turns that were not asked for."""
        return [str(turn.request["prompt"])[-80:] for turns in self._waiting.values() for turn in turns]

    def _explain(self, described: dict[str, Any], known: bool) -> str:
        again = f"record it again with {RECORD_VARIABLE}=1"
        model = described["model"]
        if known:
            return f"cassette {self._path}: a turn of model {model} was asked for more often than recorded; {again}"
        same = [turn.request for turn in self._all]
        if not same:
            return f"cassette {self._path} has no turn of model {model}; {again}"
        wanted = _lines(described)
        nearest = max(same, key=lambda one: _likeness(one, described))
        difference = difflib.unified_diff(_lines(nearest), wanted, "recorded", "asked", lineterm="", n=2)
        return f"cassette {self._path} has no such turn of model {model}; {again}. The most similar one:\n" + "\n".join(
            difference
        )


def _likeness(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """By lines, and where that says nothing, by the letters of the prompt."""
    lines = difflib.SequenceMatcher(None, _lines(one), _lines(other), autojunk=False).ratio()
    return lines, difflib.SequenceMatcher(None, str(one["prompt"]), str(other["prompt"])).quick_ratio()


def _lines(described: dict[str, Any]) -> list[str]:
    return list(_flat("", described))


def _flat(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(f"{name}.{key}" if name else key, value[key])
    elif isinstance(value, str):
        for line in value.split("\n"):
            yield f"{name}: {line}"
    else:
        yield f"{name}: {value}"


class _Replaying(ScriptedEngine):
    """An engine that gives what was recorded."""

    def __init__(self, path: Path, recording: _Recording, strict: bool) -> None:
        # One script each, so that each says what of its model is left over.
        scripts = {
            model: _Replay(path, [turn for turn in recording.turns if turn.request["model"] == model])
            for model in recording.models
        }
        super().__init__(scripts, strict=strict)
        self._footprints = recording.models

    def load(self, spec: LoadSpec) -> Footprint:
        """See ``ScriptedEngine.load``; the footprint is the recorded one."""
        super().load(spec)
        footprint = replace(self._footprints[spec.model], slots=spec.slots)
        self._models[spec.model].footprint = footprint
        return footprint


class _Recorder:
    """An engine that is another one, and notes what that answers."""

    def __init__(self, path: Path, real: Engine) -> None:
        self._path = path
        self._real = real
        self._footprints: dict[str, Footprint] = {}
        self._asked: dict[int, TurnRequest] = {}
        self._turns: list[_Turn] = []
        self._closed = False
        self.unload = real.unload
        self.cancel = real.cancel
        self.park = real.park
        self.resume = real.resume
        self.forget = real.forget
        self.prefetch = real.prefetch
        self.fileno = real.fileno

    def load(self, spec: LoadSpec) -> Footprint:
        """See ``Engine.load``."""
        footprint = self._footprints[spec.model] = self._real.load(spec)
        return footprint

    def submit(self, request: TurnRequest) -> None:
        """See ``Engine.submit``."""
        self._real.submit(request)
        self._asked[request.turn] = request

    def poll(self) -> list[EngineEvent]:
        """See ``Engine.poll``."""
        events = self._real.poll()
        for event in events:
            if isinstance(event, TurnFinished | TurnFailed) and (request := self._asked.pop(event.turn, None)):
                self._note(request, event)
        return events

    def _note(self, request: TurnRequest, event: TurnFinished | TurnFailed) -> None:
        described = _described(request)
        if isinstance(event, TurnFailed):
            self._turns.append(
                _Turn(
                    request=described,
                    error_code=event.error_code,
                    error_message=event.message,
                    error_numbers=event.numbers,
                )
            )
        elif event.reason != "cancelled":
            self._turns.append(
                _Turn(
                    request=described,
                    text=event.text,
                    reason=event.reason,
                    prompt_tokens=event.stats.prompt_tokens,
                )
            )

    def stats(self) -> EngineStats:
        """See ``Engine.stats``."""
        return self._real.stats()

    def close(self) -> None:
        """See ``Engine.close``; then the file is written, whole or not at all."""
        if self._closed:
            return
        self._closed = True
        self._real.close()
        recording = _Recording(models=self._footprints, turns=self._turns)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        beside.write_text(recording.model_dump_json(indent=1) + "\n", encoding="utf-8")
        beside.replace(self._path)
