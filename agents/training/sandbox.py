"""Run programs that a model wrote on examples, in separate processes with limits.

Also the program of those processes: ``python -I sandbox.py`` reads a JSON list of
``{"code", "examples": [[argument, expected], ...]}`` and writes one outcome for each.
"""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

SECONDS = 1.0
"""Longest run of one program on all its examples."""

MEMORY_BYTES = 512 * 2**20
CHUNK = 16
_ALLOWED = (
    "abs all any bin bool chr dict divmod enumerate filter float format frozenset int isinstance iter len list "
    "map max min next ord pow range repr reversed round set sorted str sum tuple zip True False None ValueError "
    "TypeError IndexError KeyError Exception ZeroDivisionError"
)
ALLOWED = tuple(_ALLOWED.split())


def _stop(*_: object) -> None:
    raise TimeoutError


def _describe(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}".splitlines()[0] if message else type(error).__name__


def _run(job: dict) -> dict:
    """Return {"load_error": text or None, "results": [[ok, repr, error], ...]}."""
    import builtins

    safe = {name: getattr(builtins, name) for name in ALLOWED if hasattr(builtins, name)}
    namespace: dict = {"__builtins__": safe}
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        exec(compile(job["code"], "<program>", "exec"), namespace)
        function = namespace.get("f")
        if not callable(function):
            return {"load_error": "no function f", "results": []}
        results: list = []
        for argument, expected in job["examples"]:
            try:
                value = function(ast.literal_eval(argument))
                results.append([bool(value == ast.literal_eval(expected)), repr(value)[:400], None])
            except TimeoutError:
                raise
            except Exception as error:
                results.append([False, None, _describe(error)])
        return {"load_error": None, "results": results}
    except TimeoutError:
        return {"load_error": "timeout", "results": []}
    except Exception as error:
        return {"load_error": _describe(error), "results": []}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _serve() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    signal.signal(signal.SIGALRM, _stop)
    json.dump([_run(job) for job in json.load(sys.stdin)], sys.stdout)


def _chunk(jobs: Sequence[dict]) -> list[dict]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__],
            input=json.dumps(list(jobs)),
            capture_output=True,
            text=True,
            timeout=5 + SECONDS * len(jobs),
            check=True,
        )
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        if len(jobs) == 1:
            return [{"load_error": "timeout", "results": []}]
        return [outcome for job in jobs for outcome in _chunk([job])]


def run_programs(programs: Sequence[tuple[str, Sequence[tuple[str, str]]]], workers: int = 4) -> list[dict]:
    """Return what each (code, [(argument, expected), ...]) did; see `_run`. `workers` processes at once."""
    jobs = [{"code": code, "examples": [list(example) for example in examples]} for code, examples in programs]
    chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    with ThreadPoolExecutor(workers) as pool:
        return [outcome for part in pool.map(_chunk, chunks) for outcome in part]


if __name__ == "__main__":
    _serve()
