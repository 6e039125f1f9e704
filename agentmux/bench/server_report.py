"""The document of ``agentmux bench server --json``, and what its processes tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from agentmux.bench.machine import Machine


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Question:
    """Of which model, and what."""

    model: str
    text: str

    @property
    def key(self) -> str:
        """Of its answer."""
        return f"{self.model}: {self.text}"


def questions(models: Sequence[str], count: int) -> list[Question]:
    """All that is asked, over the models in turn."""
    return [Question(model, f"keep the numbers above {number}") for number in range(count) for model in models]


class Load(_Value):
    """What a process is to do."""

    models: tuple[str, ...]
    clients: int
    seconds: float
    tokens: int
    questions: int
    threads: int
    device: str
    port: int = 0
    pid: int = 0
    """Of the server."""
    files: dict[str, str] = {}
    """[model] of those that are not bundled."""
    expected: dict[str, str] = {}
    """[question's key] the engine's own answer."""


class Refusals(_Value):
    """Requests that were answered 429."""

    count: int
    first_byte_median_s: float = Field(description="from sending the request to the answer's first byte")
    first_byte_p99_s: float
    first_byte_most_s: float

    @classmethod
    def of(cls, firsts: Sequence[float]) -> Self:
        """From the sorted times."""
        if not firsts:
            return cls(count=0, first_byte_median_s=0, first_byte_p99_s=0, first_byte_most_s=0)
        return cls(
            count=len(firsts),
            first_byte_median_s=median(firsts),
            first_byte_p99_s=firsts[int(0.99 * (len(firsts) - 1))],
            first_byte_most_s=firsts[-1],
        )


class Measured(_Value):
    """One measurement of one contender."""

    seconds: float = Field(description="until the last answer to a request that was sent within the time was there")
    answers: int
    tokens: int = Field(description="generated")
    pieces: int = Field(description="in which the answers' texts came")
    cpu_s: float = Field(description="CPU time of the process with the engine, all threads")
    loop_cpu_s: float = Field(default=0, description="of this, the thread with the event loop; 0: was not measured")
    client_cpu_s: float = Field(description="CPU time of the clients' process; 0 where there is none")
    cut: int = Field(description="streams without their end")
    wrong: int = Field(description="answers other than the engine's own")
    errors: dict[str, int] = Field(description="[status] answers but 200 and 429")
    refusals: Refusals

    @property
    def tokens_per_s(self) -> float:
        """Of all clients together."""
        return self.tokens / self.seconds

    def us_per_token(self, cpu_s: float) -> float:
        """Microseconds of this CPU time."""
        return 1e6 * cpu_s / self.tokens


class Alone(_Value):
    """What the engine's own process tells."""

    measured: Measured
    expected: dict[str, str]


class Pair(_Value):
    """One repetition: the two contenders, one after another."""

    alone: Measured
    server: Measured
    server_first: bool = Field(description="which of the two went first")

    @property
    def ratio(self) -> float:
        """The server's throughput over the engine's; 1 is as fast."""
        return self.server.tokens_per_s / self.alone.tokens_per_s

    @property
    def added_us_per_token(self) -> float:
        """What the server's event loop computes more than that of the runtime alone."""
        return self.server.us_per_token(self.server.loop_cpu_s) - self.alone.us_per_token(self.alone.loop_cpu_s)

    @property
    def added_share(self) -> float:
        """The same as a share of all CPU time that the runtime takes alone."""
        return self.added_us_per_token / self.alone.us_per_token(self.alone.cpu_s)


class Summary(_Value):
    """Medians over the repetitions."""

    alone_tokens_per_s: float
    server_tokens_per_s: float
    ratio: float = Field(description="server over alone in the same repetition; 1 is as fast")
    ratio_least: float
    ratio_most: float
    alone_cpu_us_per_token: float
    server_cpu_us_per_token: float
    client_cpu_us_per_token: float
    tokens_per_piece: float
    added_cpu_us_per_token: float = Field(
        default=0, description="CPU time of the server's event loop less that of the runtime alone"
    )
    added_cpu_share: float = Field(default=0, description="the same over all CPU time of the runtime alone")

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Self:
        """Of at least one."""
        ratios = [pair.ratio for pair in pairs]
        return cls(
            alone_tokens_per_s=median(pair.alone.tokens_per_s for pair in pairs),
            server_tokens_per_s=median(pair.server.tokens_per_s for pair in pairs),
            ratio=median(ratios),
            ratio_least=min(ratios),
            ratio_most=max(ratios),
            alone_cpu_us_per_token=median(pair.alone.us_per_token(pair.alone.cpu_s) for pair in pairs),
            server_cpu_us_per_token=median(pair.server.us_per_token(pair.server.cpu_s) for pair in pairs),
            client_cpu_us_per_token=median(pair.server.us_per_token(pair.server.client_cpu_s) for pair in pairs),
            tokens_per_piece=median(pair.server.tokens / max(1, pair.server.pieces) for pair in pairs),
            added_cpu_us_per_token=median(pair.added_us_per_token for pair in pairs),
            added_cpu_share=median(pair.added_share for pair in pairs),
        )


class ServerReport(_Value):
    """All of it."""

    command: tuple[str, ...]
    began: str
    machine: Machine
    versions: dict[str, str]
    models: tuple[str, ...]
    clients: int
    seconds: float
    tokens: int = Field(description="of an answer at most")
    questions: int = Field(description="different ones, to each model")
    threads: int = Field(description="of the engine")
    pairs: tuple[Pair, ...]
    summary: Summary
    refused: Measured | None = Field(description="a server whose queue holds fewer turns than there are clients")
    refused_queue_limit: int
