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

from agentmux.bench.machine import this_machine
from agentmux.bench.server_report import Alone, Load, Measured, Pair, ServerReport, Summary
from agentmux.errors import ConfigError, EngineError
from agentmux.models import bundled_models

_PACKAGES = ("agentmux", "llama-cpp-python", "starlette", "uvicorn", "h11")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. Raises ConfigError for values that cannot be meant."""

    models: tuple[str, ...] = ("planner", "coder", "critic")
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
        if unknown := [name for name in self.models if name not in bundled_models()]:
            raise ConfigError(f"{unknown[0]} is no bundled model; there are: {', '.join(bundled_models())}")
        if not self.models:
            raise ConfigError("there must be a model")

    @property
    def load(self) -> Load:
        """What each process is to do."""
        return Load(
            models=self.models,
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
    given = settings.load
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
    limit = max(1, settings.clients // 4)
    refused = _served(given, limit)
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
        refused_queue_limit=limit,
    )


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
    # In a folder without a configuration: the bundled models, and nothing of the user's.
    with (
        tempfile.TemporaryDirectory() as folder,
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
