"""llama.cpp's own server in router mode: one server process that loads and unloads model instances as requests come.

https://github.com/ggml-org/llama.cpp/tree/master/tools/server#using-multiple-models
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any, BinaryIO

from agentmux.bench.binaries import checked, ends_with_parent, environment, quoted
from agentmux.bench.gguf_writer import tokenizer_of
from agentmux.bench.paging_plan import Step, prompt_of
from agentmux.bench.paging_report import TurnNumbers, unpaged
from agentmux.bench.workload import Shape
from agentmux.errors import ConfigError, EngineError, ModelCorrupt

LLAMA_SERVER = "llama-server"
HEALTHY_S = 60.0
"""How long a server may take until it says that it is well; it loads no model for that."""
SILENCE_S = 300.0
"""How long it may say nothing while it loads a model, or between two tokens."""
_END_S = 20.0
"""Its model instances have half of that to end by themselves."""
_LOOK_S = 0.02
_HOST = "127.0.0.1"
_TAIL_BYTES = 8192


class Router:
    """A router with these models, at most ``loaded`` of them at once; with all of them, all are loaded at once.

    Raises ConfigError for a binary that cannot be run, EngineError if the server is not well within ``healthy_s``
    seconds, ends, or fails at a turn.
    """

    def __init__(
        self,
        binary: str,
        names: Sequence[str],
        paths: Sequence[str],
        shape: Shape,
        device: str,
        loaded: int,
        *,
        healthy_s: float = HEALTHY_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._names, self._vocabulary, self._turns = list(names), vocabularies(paths), 0
        self._silence_s = silence_s
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentmux-router-"))
            presets = os.path.join(folder, "models.ini")
            with open(presets, "w", encoding="utf-8") as file:
                file.writelines(f"[{_id(i)}]\nmodel = {os.path.abspath(path)}\n" for i, path in enumerate(paths))
            options = ["--models-preset", presets, "--models-max", str(loaded), *_options(shape, device)]
            self._server = stack.enter_context(closing(_Server(binary, options, folder)))
            self._server.wait_healthy(healthy_s)
            for model in range(len(self._names)) if loaded >= len(self._names) else ():
                self._answer(model, prompt_of(2, 0, self._vocabulary[model]), 2)
            self._stack = stack.pop_all()

    def turn(self, step: Step, prompt_tokens: int, tokens: int, begin_s: float) -> TurnNumbers:
        """See ``Contender``."""
        self._turns += 1
        prompt = prompt_of(prompt_tokens, self._turns, self._vocabulary[step.model])
        times = self._answer(step.model, prompt, tokens)
        return unpaged(self._names[step.model], step.agent, begin_s, times, prompt_tokens, tokens)

    def _answer(self, model: int, prompt: tuple[int, ...], tokens: int) -> tuple[float, float]:
        """Seconds to the first token, and of the whole, both with what loading took."""
        request = {
            "model": _id(model),
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
            "stream": True,
        }
        begin = time.perf_counter()
        first_s, n_tokens, ended = None, 0, False
        try:
            for chunk in self._server.stream("/completion", request, self._silence_s):
                n_tokens, ended = int(chunk.get("tokens_predicted", 0)), bool(chunk.get("stop"))
                if first_s is None:
                    first_s = time.perf_counter() - begin
        except (OSError, HTTPException, ValueError) as error:
            raise self._server.failure(f"failed at a turn of {self._names[model]}: {error!r}") from None
        whole_s = time.perf_counter() - begin
        if first_s is None or not ended or n_tokens != tokens:
            raise self._server.failure(f"ended a turn of {self._names[model]} after {n_tokens} of {tokens} tokens")
        return first_s, whole_s

    def uploaded_bytes(self) -> int:
        """See ``Contender``."""
        return 0

    def forget(self) -> None:
        """See ``Contender``."""

    def close(self) -> None:
        """End the server with all that it started."""
        self._stack.close()


class _Server:
    """The process, in a group of its own with what it starts. It ends with this process, however that ends."""

    def __init__(self, binary: str, options: Sequence[str], folder: str) -> None:
        self._port = _free_port()
        self._said: BinaryIO = open(os.path.join(folder, "stderr"), "w+b")  # noqa: SIM115
        command = [checked(binary, LLAMA_SERVER), "--host", _HOST, "--port", str(self._port), *options]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                env=environment(LLAMA_CACHE=folder),
                start_new_session=True,
                preexec_fn=ends_with_parent(),
            )
        except OSError as error:
            self._said.close()
            raise ConfigError(f"{binary}: {error}") from None

    def wait_healthy(self, limit_s: float) -> None:
        """Returns when the server says that it is well."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise self.failure("ended before it was ready")
            if self._is_healthy():
                return
            time.sleep(_LOOK_S)
        raise self.failure(f"was not ready within {limit_s:g} s")

    def _is_healthy(self) -> bool:
        with closing(HTTPConnection(_HOST, self._port, timeout=1)) as connection:
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == http.client.OK
            except (OSError, HTTPException):
                return False

    def stream(self, path: str, request: dict[str, Any], silence_s: float) -> Iterator[dict[str, Any]]:
        """The objects of an answer's event stream, as they come."""
        with closing(HTTPConnection(_HOST, self._port, timeout=silence_s)) as connection:
            connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                said = response.read(_TAIL_BYTES).decode(errors="replace").strip()
                raise EngineError(f"llama-server answered {response.status}: {said}")
            for line in response:
                kind, _, data = line.strip().partition(b":")
                if kind == b"error" or (kind == b"data" and data.strip() == b""):
                    raise self.failure(f"failed in mid-answer: {data.decode(errors='replace').strip()}")
                if kind == b"data" and data.strip() != b"[DONE]":
                    yield self._chunk(json.loads(data))

    def _chunk(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or "error" in value:
            raise self.failure(f"failed in mid-answer: {value}")
        return value

    def failure(self, what: str) -> EngineError:
        """The error that says it, with the last line that the server said, of those about errors if there are any."""
        self._said.seek(0, os.SEEK_END)
        self._said.seek(-min(self._said.tell(), _TAIL_BYTES), os.SEEK_END)
        last = quoted(self._said.read().decode(errors="replace"))
        status = self._process.poll()
        ended = "" if status is None else f" (exit status {status})"
        return EngineError(f"llama-server {what}{ended}{last}")

    def close(self) -> None:
        """Ask the group to end, then make it."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._said.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _options(shape: Shape, device: str) -> list[str]:
    """As the other contenders have it, and without what only costs time here."""
    return [
        *("--ctx-size", str(shape.context_tokens * shape.slots), "--parallel", str(shape.slots), "--kv-unified"),
        *("--batch-size", str(shape.batch_tokens), "--ubatch-size", str(shape.batch_tokens)),
        *("--threads", str(shape.threads), "--threads-batch", str(shape.threads)),
        *(("--device", "none") if device == "CPU" else ("--device", device, "--n-gpu-layers", "999")),
        *("--fit", "off", "--cache-ram", "0", "--no-repack", "--no-warmup", "--offline"),
    ]


def _id(model: int) -> str:
    """What the server calls a model: names of files may hold what an INI file's section may not."""
    return f"model-{model + 1}"


def vocabularies(paths: Sequence[str]) -> list[int]:
    """[model] how many tokens it knows. Raises ConfigError where one has no names for them, ModelNotFound."""
    try:
        return [tokenizer_of(path)[1] for path in paths]
    except ModelCorrupt as error:
        raise ConfigError(f"{error}; llama-server ends at the first token of a model that has none") from None


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listening:
        return int(listening.getsockname()[1])
