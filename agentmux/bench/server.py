"""What the server costs: many streaming clients, beside the engine that is asked without HTTP.

Server, clients and the engine alone have a process each, and run one after another in turn. The clients need cores,
too: where they take them from the engine, the ratio says so, and CPU seconds of both say how much is whose.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from agentmux.bench.machine import this_machine
from agentmux.bench.server_models import check_models, configuration, names_of, write_models
from agentmux.bench.server_report import Alone, Load, Measured, Pair, ServerReport, Summary
from agentmux.errors import ConfigError, EngineError

_PACKAGES = ("agentmux", "llama-cpp-python", "starlette", "uvicorn", "h11")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. Raises ConfigError for values that cannot be meant."""

    models: tuple[str, ...] = ("planner", "coder", "critic")
    """Bundled ones, or ``random:SHAPE``."""
    clients: int = 64
    seconds: float = 20.0
    """Of each measurement."""
    tokens: int = 256
    """Of an answer at most."""
    questions: int = 16
    """Different ones, to each model."""
    repetitions: int = 3
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("clients", "seconds", "tokens", "questions", "repetitions", "threads"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be more than 0")
        check_models(self.models)

    @property
    def load(self) -> Load:
        """What each process is to do."""
        return Load(
            models=names_of(self.models),
            clients=self.clients,
            seconds=self.seconds,
            tokens=self.tokens,
            questions=self.questions,
            threads=self.threads,
            device=self.device,
        )


def bench_server(
    settings: Settings, command: Sequence[str], tell: Callable[[str], None] = lambda line: None
) -> ServerReport:
    """Measure, with ``tell`` told of the progress. Raises EngineError if one of the processes fails."""
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory() as folder:
        given = settings.load.model_copy(update={"files": write_models(settings.models, Path(folder))})
        pairs, refused = _measured(settings, given, tell)
    return ServerReport(
        command=("agentmux", *command),
        began=began,
        machine=this_machine("CPU" if settings.device == "cpu" else settings.device),
        versions={name: version(name) for name in _PACKAGES},
        models=settings.models,
        clients=settings.clients,
        seconds=settings.seconds,
        tokens=settings.tokens,
        questions=settings.questions,
        threads=settings.threads,
        pairs=tuple(pairs),
        summary=Summary.of(pairs),
        refused=refused if refused.refusals.count else None,
        refused_queue_limit=_short_queue(settings),
    )


def _short_queue(settings: Settings) -> int:
    """Turns that may wait where clients are to be refused."""
    return max(1, settings.clients // 4)


def _measured(settings: Settings, given: Load, tell: Callable[[str], None]) -> tuple[list[Pair], Measured]:
    tell("the engine's own answers")
    expected = _alone(given.model_copy(update={"seconds": 0.001})).expected
    given = given.model_copy(update={"expected": expected})
    pairs: list[Pair] = []
    for repetition in range(settings.repetitions):
        tell(f"repetition {repetition + 1} of {settings.repetitions}")
        # In turn: what the machine does beside, and its warmth, are no contender's advantage.
        server_first = repetition % 2 == 1
        served = _served(given, settings.clients) if server_first else None
        own = _alone(given).measured
        pairs.append(Pair(alone=own, server=served or _served(given, settings.clients), server_first=server_first))
    tell("refusals")
    return pairs, _served(given, _short_queue(settings))


def _alone(given: Load) -> Alone:
    return Alone.model_validate_json(_run("agentmux.bench.server_alone", given))


def _served(given: Load, queue_limit: int) -> Measured:
    with _server(given, queue_limit) as (pid, port):
        told = given.model_copy(update={"pid": pid, "port": port})
        return Measured.model_validate_json(_run("agentmux.bench.server_load", told))


def _run(module: str, given: Load) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", module], input=given.model_dump_json().encode(), capture_output=True, check=False
    )
    if done.returncode:
        raise EngineError(f"{module} failed: {done.stderr.decode(errors='replace').strip()[-2000:]}")
    return done.stdout


@contextmanager
def _server(given: Load, queue_limit: int) -> Iterator[tuple[int, int]]:
    """A server's process id and port."""
    options = ["--port", "0", "--threads", str(given.threads), "--device", given.device]
    code = "from agentmux.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", *options, "--queue-limit", str(queue_limit)]
    # In a folder of its own, with a configuration that names the models: nothing of the user's.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "agentmux.toml").write_text(configuration(given.models, given.files), encoding="utf-8")
        with _running(command, folder) as (pid, port):
            yield pid, port


@contextmanager
def _running(command: Sequence[str], folder: str) -> Iterator[tuple[int, int]]:
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving http://"):
                _, said = process.communicate()
                raise EngineError(f"the server did not start: {said.strip()[-2000:]}")
            yield process.pid, int(line.rsplit(":", 1)[1].partition("/")[0])
        finally:
            process.terminate()
            process.communicate()
