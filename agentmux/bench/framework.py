"""What the framework itself costs: turns on an engine that answers at once, beside LangGraph's smallest graph.

Nothing is computed, so what is left is the way of a turn through run, scheduler, admission, engine seam, events and,
where the runtime has one, journal. LangGraph's counterpart is a graph of one node whose function returns a constant.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentmux.agent import Agent
from agentmux.bench.framework_report import (
    AGENTMUX,
    AT_ONCE,
    JOURNALED,
    LANGGRAPH,
    ONE_BY_ONE,
    FrameworkReport,
    Memory,
    Shape,
    Timing,
    compared,
    software,
)
from agentmux.bench.machine import this_machine
from agentmux.config import ModelSpec
from agentmux.engine.base import TurnRequest
from agentmux.errors import ConfigError
from agentmux.messages import TurnCancelled, TurnCompleted, TurnErrored
from agentmux.runtime import Runtime
from agentmux.testing import ScriptedEngine

MODEL = "echo"
SLOTS = 8
BATCH = 100
"""Runs at once while memory is watched."""

Ask = Callable[[], Awaitable[Any]]
"""One turn of a contender."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. Raises ConfigError for values that cannot be meant."""

    turns: int = 300
    """One after another, in one measurement."""
    at_once: int = 1000
    """Runs at the same time, one turn each."""
    repetitions: int = 7
    memory_turns: int = 50_000
    """While memory is watched; 0 leaves that out."""
    baseline: bool = True
    """Measure LangGraph too, if it is installed."""

    def __post_init__(self) -> None:
        for name in ("turns", "at_once", "repetitions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")


class Echo(Agent):
    """Asks once, for text."""

    model = MODEL
    output = str


class EchoEngine(ScriptedEngine):
    """Gives every turn the same answer at once, and remembers none."""

    def __init__(self) -> None:
        super().__init__({MODEL: lambda request: "an answer"})

    def submit(self, request: TurnRequest) -> None:
        """See ``ScriptedEngine.submit``."""
        super().submit(request)
        self.calls.clear()
        self._turns.clear()
        self._started.clear()

    def forget(self, model: str, session: str) -> None:
        """There is nothing to forget."""


def bench_framework(
    settings: Settings, command: Sequence[str], tell: Callable[[str], None] = lambda line: None
) -> FrameworkReport:
    """Measure, with ``tell`` told of the progress. The journal and LangGraph are left out where they are not there."""
    return asyncio.run(_bench(settings, tuple(command), tell))


async def _bench(settings: Settings, command: tuple[str, ...], tell: Callable[[str], None]) -> FrameworkReport:
    began = datetime.now(UTC).isoformat(timespec="seconds")
    missing = ""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders: dict[str, Ask] = {AGENTMUX: await _agentmux(stack, settings)}
        if "journal" in inspect.signature(Runtime).parameters:
            contenders[JOURNALED] = await _agentmux(stack, settings, journal=folder / "journal.db")
        if not settings.baseline:
            missing = "it was not asked for"
        else:
            try:
                contenders[LANGGRAPH] = _langgraph()
            except ImportError as error:
                missing = f"it cannot be imported: {error}; pip install 'agentmux[bench]'"
        timings = await _timings(contenders, settings, tell)
    tell("memory")
    return FrameworkReport(
        command=command,
        began=began,
        machine=this_machine("none"),
        software=software(),
        turns=settings.turns,
        at_once=settings.at_once,
        repetitions=settings.repetitions,
        baseline_missing=missing,
        comparisons=compared(timings),
        memory=await _memory(settings.memory_turns) if settings.memory_turns else None,
        timings=timings,
    )


def _runtime(queue_limit: int, **settings: Any) -> Runtime:
    models = {MODEL: ModelSpec("echo.gguf", slots=SLOTS)}
    return Runtime(models=models, engine=EchoEngine(), queue_limit=queue_limit, **settings)


async def _agentmux(stack: AsyncExitStack, settings: Settings, **more: Any) -> Ask:
    mux = await stack.enter_async_context(_runtime(settings.at_once, **more))
    return lambda: mux.run(Echo, "a question")


def _langgraph() -> Ask:
    # Optional, and slow to import; by name, because type checkers would miss it where it is not installed.
    langgraph: Any = importlib.import_module("langgraph.graph")

    async def echo(state: dict[str, str]) -> dict[str, str]:
        return {"text": "an answer"}

    graph = langgraph.StateGraph(dict)
    graph.add_node("echo", echo)
    graph.add_edge(langgraph.START, "echo")
    graph.add_edge("echo", langgraph.END)
    compiled = graph.compile()
    return lambda: compiled.ainvoke({"text": "a question"})


async def _timings(contenders: dict[str, Ask], settings: Settings, tell: Callable[[str], None]) -> tuple[Timing, ...]:
    """Each contender in each repetition, one after another, so that a busy moment hits all alike. One goes before."""
    found = []
    for repetition in range(-1, settings.repetitions):
        tell(f"repetition {repetition + 1} of {settings.repetitions}")
        for contender, ask in contenders.items():
            for shape, turns, measure in (
                (ONE_BY_ONE, settings.turns, _one_by_one),
                (AT_ONCE, settings.at_once, _at_once),
            ):
                one = await _timed(contender, shape, repetition, turns, measure(ask, turns))
                if repetition >= 0:
                    found.append(one)
    return tuple(found)


async def _timed(contender: str, shape: Shape, repetition: int, turns: int, work: Awaitable[None]) -> Timing:
    gc.collect()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await work
    whole_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return Timing(
        contender=contender,
        shape=shape,
        repetition=repetition,
        turns=turns,
        turn_s=whole_s / turns,
        turn_cpu_s=cpu_s / turns,
    )


async def _one_by_one(ask: Ask, turns: int) -> None:
    for _ in range(turns):
        await ask()


async def _at_once(ask: Ask, turns: int) -> None:
    await asyncio.gather(*(ask() for _ in range(turns)))


async def _memory(turns: int) -> Memory:
    """Watch what stays in memory while turns come and go, and count how each of them ended."""
    rounds = max(1, turns // BATCH)
    ends: Counter[str] = Counter()
    async with _runtime(BATCH) as mux:
        for _ in range(max(1, rounds // 10)):
            await _counted(mux, Counter())
        gc.collect()
        resident_bytes = _resident_bytes()
        tracemalloc.start()
        halves: list[int] = []
        for half in (rounds // 2, rounds - rounds // 2):
            for _ in range(half):
                await _counted(mux, ends)
            gc.collect()
            halves.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        gc.collect()
        stats = mux.stats()
        assert (stats.queued, stats.active) == (0, 0)
    return Memory(
        turns=rounds * BATCH,
        traced_bytes_halfway=halves[0],
        traced_bytes_at_end=halves[1],
        resident_bytes_grown=_resident_bytes() - resident_bytes,
        turns_finished=ends["TurnCompleted"],
        turns_ended_otherwise=ends["TurnCancelled"] + ends["TurnErrored"],
        turns_ended_twice=ends["twice"],
        turns_without_end=ends["none"],
    )


async def _counted(mux: Runtime, ends: Counter[str]) -> None:
    """A batch of runs at once, with the ends of their turns counted."""
    seen: set[int] = set()

    async def watch() -> None:
        async for event in mux.stream(Echo, "a question"):
            if isinstance(event, TurnCompleted | TurnCancelled | TurnErrored):
                ends["twice"] += event.turn in seen
                seen.add(event.turn)
                ends[type(event).__name__] += 1

    await asyncio.gather(*(watch() for _ in range(BATCH)))
    ends["none"] += BATCH - len(seen)


def _resident_bytes() -> int:
    """Of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096
