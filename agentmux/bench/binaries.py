"""llama.cpp's own programs, as files that a user names: whether they can be run, and what they say."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from agentmux.errors import ConfigError, EngineError

LIMIT_S = 3600.0
"""How long a program may measure."""
_VERSION_S = 60.0
_PR_SET_PDEATHSIG = 1
_NO_LIBRARY = 127
"""Exit status of a program that misses a shared library, as the dynamic linker has it."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program wrote."""

    output: str
    errors: str


def checked(binary: str, program: str) -> str:
    """``binary`` as an absolute path. Raises ConfigError where it is no file that can be run."""
    path = os.path.abspath(os.path.expanduser(binary))
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise ConfigError(f"{binary}: no file that can be run; it should be llama.cpp's {program}")
    return path


def version_of(binary: str, program: str) -> str | None:
    """What it says of its version; None where it says nothing. Raises ConfigError where it cannot be run."""
    try:
        said = _run([checked(binary, program), "--version"], _VERSION_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{binary}: {error}") from None
    if said.returncode < 0 or said.returncode == _NO_LIBRARY:
        raise ConfigError(f"{binary} cannot run ({_ended(said.returncode)}){quoted(said.stderr)}")
    lines = (said.stdout + said.stderr).splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("version:")), None)


def said_by(command: Sequence[str], limit_s: float = LIMIT_S) -> Said:
    """What a program says until it ends, which it also does with this process, however that ends.

    Raises ConfigError where it cannot be run, EngineError if it fails or is not done within ``limit_s`` seconds.
    """
    try:
        done = _run(command, limit_s)
    except OSError as error:
        raise ConfigError(f"{command[0]}: {error}") from None
    except subprocess.TimeoutExpired:
        raise EngineError(f"{command[0]}: not done within {limit_s:g} s") from None
    if done.returncode:
        raise EngineError(f"{command[0]} failed ({_ended(done.returncode)}){quoted(done.stderr or done.stdout)}")
    return Said(done.stdout, done.stderr)


def _run(command: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit_s,
        env=environment(),
        preexec_fn=ends_with_parent(),
    )


def quoted(said: str) -> str:
    """The end of an error's text: the last line of these, of those about errors if there are any."""
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    last = ([line for line in lines if "error" in line.lower()] or lines or [""])[-1]
    return f"; it said: {last}" if last else ""


def _ended(status: int) -> str:
    return f"exit status {status}" if status > 0 else f"signal {-status}: {signal.strsignal(-status)}"


def environment(**more: str) -> dict[str, str]:
    """This process's, without what a user has set for programs of their own, which would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")} | more


def ends_with_parent() -> Callable[[], object] | None:
    """What a new process does first, so that it is told to end when this one is killed; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGTERM))
