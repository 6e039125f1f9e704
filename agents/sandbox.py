"""Runs a candidate program on a task's examples in a process of its own, and says how each example went.

What always holds: a separate Python in isolated mode without site packages, an empty environment, no standard input,
its prints discarded, its own scratch folder (removed afterwards), limits on CPU time, memory, file size, open files
and wall time, no core dumps, its whole process group killed at the end, a bounded result.

What Linux adds where its kernel allows it (Debian 12 does): no network and a process table of its own, which ends with
it (namespaces); reading only the standard and system libraries, writing only the scratch folder, starting no program
(Landlock); no further processes or threads; root becomes ``nobody``. Elsewhere these are **not** cut. The sandbox is
made for programs that a model wrote and got wrong, not as a prison for a determined attacker.

Examples are expressions ``f(literals) == literal``. Only the arguments go in; the value comes out as plain data over
a pipe and is compared here, so a program cannot lie about equality, nor pass by printing. Values are equal when Python
says so and their types match: numbers compare as numbers, but ``True`` is only ``True`` and a list is no tuple.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from agentmux.agents import prompts
from agentmux.agents.sandbox_child import TIMED_OUT
from agentmux.errors import ConfigError

_CHILD = Path(__file__).with_name("sandbox_child.py")
_DRAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one run of a candidate may use."""

    wall_s: float = 10.0
    """From start to end, all examples together."""
    cpu_s: int = 2
    memory_bytes: int = 512 * 2**20
    """Address space, the interpreter's own included."""
    file_bytes: int = 2**20
    open_files: int = 32
    result_bytes: int = 2**20
    """What may come back over the pipe; more ends the run."""


@dataclass(frozen=True, slots=True)
class Example:
    """A checked example: its normal form, its arguments as source of a tuple, the value that is expected."""

    expression: str
    call: str
    expected: object


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """How one example went; ``line`` is what the critic reads."""

    expression: str
    passed: bool
    line: str


@dataclass(frozen=True, slots=True)
class Report:
    """How a candidate did on all examples of a task."""

    results: tuple[ExampleResult, ...]
    load_error: str | None = None
    """Why the program could not be loaded at all, or never came back."""

    @property
    def passed(self) -> bool:
        """Whether every example gave the expected value."""
        return self.load_error is None and all(result.passed for result in self.results)

    @property
    def text(self) -> str:
        """The report as the critic's prompt has it: bounded, failing examples first."""
        if self.load_error is not None:
            return prompts.load_error_report(self.load_error)
        return prompts.report_text([result.line for result in self.results])


def parse_example(source: str) -> Example:
    """Check one example. Raises ConfigError unless it is of the form ``f(literals) == literal``."""
    try:
        tree = ast.parse(source.strip(), mode="eval").body
        match tree:
            case ast.Compare(
                left=ast.Call(func=ast.Name(id="f"), args=arguments, keywords=[]), ops=[ast.Eq()], comparators=[right]
            ):
                values = ast.literal_eval(ast.Tuple(arguments, ast.Load()))
                expected = ast.literal_eval(right)
                return Example(ast.unparse(tree), repr(values), expected)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise ConfigError(f"example {prompts.shorten(source)!r} is not of the form f([1, 2]) == 3, with literals only")


def parse_examples(sources: Sequence[str]) -> tuple[Example, ...]:
    """Check every example. Raises ConfigError for the first that is malformed, or if there is none."""
    if not sources:
        raise ConfigError("a task needs at least one example, such as f([1, 2]) == 3")
    return tuple(parse_example(source) for source in sources)


async def run_examples(code: str, examples: Sequence[str], limits: SandboxLimits | None = None) -> Report:
    """Run ``code`` on ``examples`` in a sandbox. Whatever the program does, the answer is a report.

    Raises ConfigError for malformed examples, before anything runs, and OSError when no process can be started.
    Cancelling kills the sandbox.
    """
    parsed = parse_examples(examples)
    limits = limits or SandboxLimits()
    nonce = secrets.token_hex(16)
    scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix="agentmux-")
    try:
        request = {"code": code, "calls": [e.call for e in parsed], "nonce": nonce, "limits": asdict(limits)}
        await asyncio.to_thread(Path(scratch, "request.json").write_text, json.dumps(request), encoding="utf-8")
        output, ended = await _run_child(scratch, limits)
    finally:
        await asyncio.shield(asyncio.to_thread(_remove, scratch))
    return _read_report(parsed, output, ended, nonce)


async def _run_child(scratch: str, limits: SandboxLimits) -> tuple[bytes, str]:
    """What the child wrote, and in words how it ended."""
    read_end, write_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-B", str(_CHILD), str(write_end), str(os.getpid())),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=scratch,
            env={},
            pass_fds=(write_end,),
            start_new_session=True,
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    output = bytearray()
    reading = asyncio.create_task(_read(read_end, output, limits.result_bytes))
    try:
        ended = await _wait(process, reading, limits.wall_s)
    finally:
        _kill_group(process)
        await process.wait()
        await asyncio.wait([reading], timeout=_DRAIN_S)  # ends with the last holder of the pipe
        reading.cancel()
    return bytes(output), ended


async def _wait(process: asyncio.subprocess.Process, reading: asyncio.Task[bool], wall_s: float) -> str:
    ending = asyncio.create_task(process.wait())
    try:
        async with asyncio.timeout(wall_s):
            await asyncio.wait([ending, reading], return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not reading.result():
                return "too much output"
            status = await ending
    except TimeoutError:
        return "timeout"
    finally:
        ending.cancel()
    if status == TIMED_OUT:
        return "timeout"
    return f"the process was killed by signal {status - 128}" if status > 128 else "the process ended"


async def _read(descriptor: int, output: bytearray, limit_bytes: int) -> bool:
    """Read the pipe to its end into ``output``; False as soon as there is more than ``limit_bytes``. Closes it."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        while chunk := await reader.read(65536):
            output += chunk
            if len(output) > limit_bytes:
                return False
        return True
    finally:
        transport.close()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill whatever is left of the child's process group; its process table, where it has one, goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _remove(scratch: str) -> None:
    """Remove the scratch folder, also when the candidate nested it deeply or took permissions away."""
    try:
        shutil.rmtree(scratch)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwx", scratch], ["rm", "-rf", scratch]):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _read_report(examples: tuple[Example, ...], output: bytes, ended: str, nonce: str) -> Report:
    records = _records(output, nonce, len(examples))
    kind, payload = records.get(-1, ("error", ended))
    load_error = str(payload) if kind != "ok" else None
    results = []
    lost = ended  # the first example without a result is the one under which the process ended
    for index, example in enumerate(examples):
        if index in records and load_error is None:
            results.append(_result(example, *records[index]))
            continue
        results.append(_failure(example, load_error or lost))
        lost = "not run"
    return Report(tuple(results), load_error)


def _records(output: bytes, nonce: str, count: int) -> dict[int, tuple[str, Any]]:
    """Index -> (kind, payload) of the well-formed records; whatever else is in the pipe is passed over."""
    records: dict[int, tuple[str, Any]] = {}
    for line in output.split(b"\n"):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            key, index, kind, payload = json.loads(line)
            if key == nonce and type(index) is int and -1 <= index < count and isinstance(kind, str):
                records.setdefault(index, (kind, payload))
    return records


def _result(example: Example, kind: str, payload: Any) -> ExampleResult:
    if kind == "value":
        try:
            value = decode(payload)
            shown = repr(value)
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            return _failure(example, "an unreadable value")
        passed = same(value, example.expected)
        return ExampleResult(example.expression, passed, prompts.report_line(example.expression, passed, got=shown))
    if kind == "other":
        line = prompts.report_line(example.expression, False, got=str(payload))
        return ExampleResult(example.expression, False, line)
    return _failure(example, str(payload))


def _failure(example: Example, error: str) -> ExampleResult:
    line = prompts.report_line(example.expression, False, error=error)
    return ExampleResult(example.expression, False, line)


def decode(data: Any) -> object:
    """The value that ``sandbox_child.encode`` wrote. Raises ValueError, TypeError or AttributeError for others."""
    if data is None or isinstance(data, bool):
        return data
    ((tag, content),) = data.items()
    return _decode_tagged(tag, content)


def _decode_tagged(tag: object, content: Any) -> object:
    match tag:
        case "int":
            return int(content, 16)
        case "float":
            return float.fromhex(content)
        case "complex":
            return complex(*(float.fromhex(part) for part in content))
        case "str":
            return str(content)
        case "bytes":
            return bytes.fromhex(content)
        case "dict":
            return {decode(key): decode(value) for key, value in content}
        case "list" | "tuple" | "set" | "frozenset":
            build: type = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[tag]
            return cast(object, build([decode(item) for item in content]))
    raise ValueError(f"unknown tag {tag!r}")


def same(value: object, expected: object) -> bool:
    """Whether plain values are equal and of the same types; numbers other than bool compare by value."""
    if isinstance(value, (int, float, complex)) and isinstance(expected, (int, float, complex)):
        return isinstance(value, bool) == isinstance(expected, bool) and value == expected
    if type(value) is not type(expected):
        return False
    if isinstance(value, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(value) == len(expected) and all(same(a, b) for a, b in zip(value, expected, strict=True))
    if isinstance(value, dict) and isinstance(expected, dict):
        return _same_set(value, expected) and all(same(value[key], item) for key, item in expected.items())
    if isinstance(value, (set, frozenset)) and isinstance(expected, (set, frozenset)):
        return _same_set(value, expected)
    return value == expected


def _same_set(value: Collection[object], expected: Collection[object]) -> bool:
    bools = [sum(isinstance(item, bool) for item in items) for items in (value, expected)]
    return set(value) == set(expected) and bools[0] == bools[1]
