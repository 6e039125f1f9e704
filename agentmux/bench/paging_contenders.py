"""What runs the paging bench's turns: the engine, and the ways to do without it."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from agentmux.bench.nvml import Nvml
from agentmux.bench.paging_plan import IDS, Step, prompt_of
from agentmux.bench.paging_report import ModelSize, Sample, TurnNumbers, unpaged
from agentmux.bench.plain_llama import PlainLlama
from agentmux.bench.workload import Shape
from agentmux.engine.base import EngineConfig, EngineStats, LoadSpec, TurnFailed, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine
from agentmux.errors import EngineError, NeverFits, from_code
from agentmux.sampling import SamplingParams

_GREEDY = SamplingParams(temperature=0)
_SILENCE_S = 300.0
_SAMPLE_S = 0.004


class Contender(Protocol):
    """Runs turns one after another."""

    def turn(self, step: Step, prompt_tokens: int, tokens: int, begin_s: float) -> TurnNumbers:
        """One turn, from its submission to its end. ``begin_s`` is what to report as its begin."""
        ...

    def uploaded_bytes(self) -> int:
        """So far; 0 where it does not know."""
        ...

    def forget(self) -> None:
        """A new repetition begins: no session goes on."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class EngineCycle:
    """The engine with all models, told which model comes next as the scheduler tells it."""

    def __init__(self, names: Sequence[str], paths: Sequence[str], shape: Shape, config: EngineConfig) -> None:
        self.engine = NativeEngine(config)
        self.sizes: list[ModelSize] = []
        self.samples: list[Sample] | None = None
        self._names = list(names)
        self._vocabulary: list[int] = []
        self._turns = 0
        self._round = 0
        self._moved = (0, 0)
        self._histories: dict[tuple[int, int], tuple[int, ...]] = {}
        try:
            for name, path in zip(names, paths, strict=True):
                self._load(name, path, shape)
        except BaseException:
            self.engine.close()
            raise

    def _load(self, name: str, path: str, shape: Shape) -> None:
        begin = time.perf_counter()
        f = self.engine.load(LoadSpec(name, path, shape.context_tokens, shape.slots, shape.batch_tokens))
        self.sizes.append(
            ModelSize(
                model=name,
                file_bytes=f.host_bytes,
                weight_bytes=f.weight_bytes,
                context_bytes=f.context_bytes,
                static_bytes=f.static_bytes,
                units=len(f.unit_bytes),
                kv_bytes_per_token=f.kv_bytes_per_token,
                load_s=time.perf_counter() - begin,
            )
        )
        self._vocabulary.append(f.vocabulary_tokens or IDS)

    def stats(self) -> EngineStats:
        """The engine's."""
        return self.engine.stats()

    def uploaded_bytes(self) -> int:
        """See ``Contender``."""
        return self.engine.stats().uploaded_bytes

    def forget(self) -> None:
        """See ``Contender``."""
        for model, agent in self._histories:
            self.engine.forget(self._names[model], self._session(agent))
        self._histories.clear()
        self._round += 1

    def _session(self, agent: int) -> str:
        return f"{self._round}-{agent}"

    def turn(self, step: Step, prompt_tokens: int, tokens: int, begin_s: float, *, keeps: bool = False) -> TurnNumbers:
        """See ``Contender``. keeps: the prompt goes on from what the agent said before."""
        self._turns += 1
        name = self._names[step.model]
        new = prompt_of(prompt_tokens, self._turns, self._vocabulary[step.model])
        prompt = self._histories.get((step.model, step.agent), ()) + new if keeps else new
        session = self._session(step.agent) if keeps else None
        request = TurnRequest(self._turns, name, prompt, tokens, _GREEDY, ignore_eos=True, session=session)
        begin = time.perf_counter()
        self.engine.submit(request)
        if step.following != step.model:
            self.engine.prefetch(self._names[step.following])
        end = self._end(begin_s, begin)
        whole_s, back, away = time.perf_counter() - begin, 0, 0
        if keeps:
            self._histories[step.model, step.agent] = prompt + end.tokens
            back, away = self._sessions_moved()
        return TurnNumbers(
            model=name,
            agent=step.agent,
            begin_s=begin_s,
            first_token_s=end.stats.time_to_first_token_s,
            whole_s=whole_s,
            prompt_tokens=len(prompt),
            new_tokens=prompt_tokens,
            reused_tokens=end.stats.reused_tokens,
            tokens=len(end.tokens),
            upload_wait_s=end.stats.upload_wait_s,
            uploaded_bytes=end.stats.uploaded_bytes,
            bound_first_token_s=None,
            session_bytes=back,
            displaced_bytes=away,
        )

    def _sessions_moved(self) -> tuple[int, int]:
        """Bytes of sessions that came back from host memory, and that went there, since the last look."""
        before, stats = self._moved, self.engine.stats()
        self._moved = (stats.session_bytes_restored, stats.session_bytes_saved)
        return self._moved[0] - before[0], self._moved[1] - before[1]

    def _end(self, begin_s: float, begin: float) -> TurnFinished:
        silent_since = time.perf_counter()
        while True:
            if self.samples is not None:
                stats = self.engine.stats()
                at_s = begin_s + time.perf_counter() - begin
                self.samples.append(
                    Sample(at_s=at_s, uploaded_bytes=stats.uploaded_bytes, waited_s=stats.upload_wait_s)
                )
            if not select.select([self.engine.fileno()], [], [], _SILENCE_S if self.samples is None else _SAMPLE_S)[0]:
                if time.perf_counter() - silent_since > _SILENCE_S:
                    raise EngineError(f"the engine has said nothing for {_SILENCE_S:.0f} s")
                continue
            silent_since = time.perf_counter()
            for event in self.engine.poll():
                if isinstance(event, TurnFinished) and event.turn == self._turns:
                    return event
                if isinstance(event, TurnFailed):
                    raise from_code(event.error_code, event.message, event.numbers)

    def close(self) -> None:
        """See ``Contender``."""
        self.engine.close()


class _Plain:
    """Turns of plain llama.cpp."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._turns = 0

    def _answer(self, plain: PlainLlama, step: Step, prompt_tokens: int, tokens: int) -> tuple[float, float]:
        self._turns += 1
        return plain.answer(prompt_of(prompt_tokens, self._turns, plain.n_vocabulary), tokens)

    def _numbers(
        self, step: Step, prompt_tokens: int, tokens: int, begin_s: float, times: tuple[float, float]
    ) -> TurnNumbers:
        return unpaged(self._names[step.model], step.agent, begin_s, times, prompt_tokens, tokens)

    def uploaded_bytes(self) -> int:
        """See ``Contender``."""
        return 0

    def forget(self) -> None:
        """See ``Contender``."""


class Reload(_Plain):
    """llama.cpp that loads a model when its turn comes and frees it after: what a single device is used like today."""

    def __init__(self, names: Sequence[str], paths: Sequence[str], shape: Shape, device: str) -> None:
        super().__init__(names)
        self._paths, self._shape, self._device = list(paths), shape, device

    def turn(self, step: Step, prompt_tokens: int, tokens: int, begin_s: float) -> TurnNumbers:
        """See ``Contender``."""
        begin = time.perf_counter()
        plain = PlainLlama(self._paths[step.model], self._shape, self._device)
        loaded_s = time.perf_counter() - begin
        try:
            first_s, whole_s = self._answer(plain, step, prompt_tokens, tokens)
        finally:
            plain.close()
        return self._numbers(step, prompt_tokens, tokens, begin_s, (loaded_s + first_s, loaded_s + whole_s))

    def close(self) -> None:
        """See ``Contender``."""


class Static(_Plain):
    """llama.cpp with all models loaded, as many layers of each on the device as the budget allows (``-ngl``)."""

    def __init__(self, names: Sequence[str], paths: Sequence[str], shape: Shape, device: str, layers: int) -> None:
        super().__init__(names)
        self.layers = layers
        with ExitStack() as stack:
            self._plain = []
            for path in paths:
                self._plain.append(PlainLlama(path, shape, device, layers=layers))
                stack.callback(self._plain[-1].close)
            self._stack = stack.pop_all()

    @classmethod
    def largest(
        cls, names: Sequence[str], paths: Sequence[str], shape: Shape, device: str, guess: int, most_bytes: int
    ) -> Static:
        """The most layers with which the driver's figure stays within ``most_bytes``, by trying from ``guess`` down.

        Raises NeverFits where not even one layer of each does.
        """
        nvml = Nvml()
        for layers in range(guess, -1, -1):
            made = cls(names, paths, shape, device, layers)
            made.turn(Step(0, 0, 0), shape.batch_tokens // 2, 2, 0.0)  # what backends allocate on first use
            if (nvml.used_bytes() or 0) <= most_bytes:
                return made
            made.close()
        raise NeverFits(f"llama.cpp needs more than {most_bytes} bytes without any layer on the device")

    def turn(self, step: Step, prompt_tokens: int, tokens: int, begin_s: float) -> TurnNumbers:
        """See ``Contender``."""
        times = self._answer(self._plain[step.model], step, prompt_tokens, tokens)
        return self._numbers(step, prompt_tokens, tokens, begin_s, times)

    def close(self) -> None:
        """See ``Contender``."""
        self._stack.close()
