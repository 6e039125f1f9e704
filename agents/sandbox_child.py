"""The program that runs inside the sandbox. ``sandbox.py`` starts it as a script; it imports nothing of agentmux.

Three processes. The *supervisor* leaves the network and the parent's process table where the platform lets it and forks
*init*, the new table's first process, which forks the *worker* and turns its end into an exit status. The worker limits
itself, then loads the candidate and calls it; every value is written to the result pipe as tagged plain data. It is
never told what value is expected, and it compares nothing: a candidate that forges results would have to know the
answers, and then it has solved the task.

Each step of ``confine`` that a platform lacks is skipped; ``sandbox.py`` says what then remains.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

TIMED_OUT = 100
"""The supervisor's exit status when the worker used up its CPU time."""

MAX_NODES = 20_000
MAX_DEPTH = 60
MAX_TEXT_CHARS = 100_000
NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 1, 8, 38
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_CAP_DAC_READ_SEARCH = 2

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_FS_WRITE_FILE, _FS_READ_FILE, _FS_READ_DIR = 1 << 1, 1 << 2, 1 << 3
_FS_SCRATCH = _FS_WRITE_FILE | _FS_READ_FILE | _FS_READ_DIR | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
"""Files and folders: write, read, list, remove, make, truncate; no devices, sockets, links or programs to start."""


class NotPlain(Exception):
    """The value is no plain data, or too much of it; the message says what it is."""


def encode(value: object) -> Any:
    """``value`` as JSON: plain data only, tagged with its type. Raises NotPlain.

    Subclasses of plain types (Counter, an int with its own ``__eq__``) are taken for what they hold, read with the
    base type's own methods.
    """
    return _encode(value, 0, [MAX_NODES])


def _encode(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise NotPlain("a value that is too large")
    kind: type = type(value)
    if value is None or value is True or value is False:
        return value
    for scalar in (int, float, complex, str, bytes):
        if issubclass(kind, scalar):
            return {scalar.__name__: _scalar(value, scalar.__name__)}
    for base in (list, tuple, set, frozenset):
        if issubclass(kind, base):
            return {base.__name__: [_encode(item, depth + 1, left) for item in base.__iter__(value)]}
    if issubclass(kind, dict):
        pairs = dict.items(value)
        return {"dict": [[_encode(key, depth + 1, left), _encode(item, depth + 1, left)] for key, item in pairs]}
    raise NotPlain(f"<{type.__getattribute__(kind, '__name__')} object>")


def _scalar(value: Any, tag: str) -> Any:
    if tag == "int":
        return hex(int.__add__(value, 0))
    if tag == "float":
        return float.hex(value)
    if tag == "complex":
        plain = complex.__add__(value, 0j)
        return [plain.real.hex(), plain.imag.hex()]
    base = str if tag == "str" else bytes
    if base.__len__(value) > MAX_TEXT_CHARS:
        raise NotPlain("a value that is too large")
    return str.__str__(value) if tag == "str" else bytes.hex(value)


def describe(error: BaseException) -> str:
    """``TypeName: message``, bounded, whatever the exception's own methods do."""
    name = type(error).__name__
    try:
        message = str(error)[:200]
    except BaseException:
        message = ""
    return f"{name}: {message}" if message else name


class Results:
    """The writing end of the result pipe. One JSON line a record, each with the nonce."""

    def __init__(self, descriptor: int, nonce: str) -> None:
        self._descriptor = descriptor
        self._nonce = nonce

    def put(self, index: int, kind: str, payload: object) -> None:
        """``index`` is the example's, -1 for the program as a whole; ``kind`` is ok, value or error."""
        line = json.dumps([self._nonce, index, kind, payload]).encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]


def run_candidate(code: str, calls: list[str], results: Results) -> None:
    """Load the program and call its ``f`` once for each argument list (Python source of a tuple)."""
    namespace: dict[str, Any] = {"__name__": "candidate", "__builtins__": __builtins__}
    try:
        exec(compile(code, "<candidate>", "exec"), namespace)
    except BaseException as error:
        return results.put(-1, "error", describe(error))
    function = namespace.get("f")
    if not callable(function):
        return results.put(-1, "error", "no function f")
    results.put(-1, "ok", None)
    for index, call in enumerate(calls):
        results.put(index, *_outcome(function, call))


def _outcome(function: Callable[..., object], call: str) -> tuple[str, object]:
    try:
        return "value", encode(function(*ast.literal_eval(call)))
    except NotPlain as error:
        return "other", str(error)
    except BaseException as error:
        return "error", describe(error)


# Confinement. Every step may be missing on a platform; none may raise.


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def unshare(libc: Any) -> None:
    """Leave the network, the process table and System V IPC of the parent; the next fork is the new table's init."""
    apart = _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    if libc.unshare(apart) != 0 and libc.unshare(_CLONE_NEWUSER | apart) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def limit(limits: dict[str, int]) -> None:
    """Resource limits of this process; hard ones, and never above what is already set."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_NPROC: 1,  # this one: no further processes or threads
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # Out of CPU time, a process gets SIGXCPU first, which says why, and SIGKILL a second later.
        final = value + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else value
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, final))


def drop_privileges(libc: Any) -> None:
    """Stop being root, and give up every capability.

    Root keeps only the right to read files, because the standard library may lie where nobody else can look. A limit
    on processes does not hold for root at all, which is why this step matters there.
    """
    keep = 0
    if os.geteuid() == 0:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        keep = 1 << _CAP_DAC_READ_SEARCH
    data = (_CapData * 2)()
    data[0].effective = data[0].permitted = keep
    libc.capset(ctypes.byref(_CapHeader(0x20080522, 0)), data)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def landlock(libc: Any) -> None:
    """Reading only under the standard library and the system's libraries, writing only in the scratch folder."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    bits = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    handled = (1 << bits) - 1
    rules = _Ruleset(handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return
    standard_library = os.path.dirname(os.__file__)
    readable = [standard_library, os.path.join(sys.base_prefix, "lib"), "/usr/lib", "/usr/lib64", "/lib", "/lib64"]
    for path in [*readable, "/usr/share/zoneinfo"]:
        _allow(libc, ruleset, path, _FS_READ_FILE | _FS_READ_DIR)
    _allow(libc, ruleset, "/dev/null", _FS_READ_FILE | _FS_WRITE_FILE)
    _allow(libc, ruleset, ".", _FS_SCRATCH & handled)
    libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(libc: Any, ruleset: int, path: str, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    libc.syscall(_LANDLOCK_ADD, ruleset, 1, ctypes.byref(_PathRule(allowed, descriptor)), 0)
    os.close(descriptor)


def _worker(request: dict[str, Any], descriptor: int, libc: Any) -> int:
    limit(request["limits"])
    if libc is not None:
        drop_privileges(libc)
        landlock(libc)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the change of user, which clears it
    sys.argv[:] = ["candidate"]
    run_candidate(request["code"], request["calls"], Results(descriptor, request["nonce"]))
    return 0


def _supervise(request: dict[str, Any], descriptor: int, parent: int) -> int:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return 1
        unshare(libc)
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.chown(".", NOBODY, NOBODY)
    status = _in_child(lambda: _init(request, descriptor, libc))
    os.close(descriptor)
    return status


def _init(request: dict[str, Any], descriptor: int, libc: Any) -> int:
    """First process of the new table: nothing in there can kill it, and everything in there ends with it."""
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    status = _in_child(lambda: _worker(request, descriptor, libc))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Killed, and the time used up: a program that ignored SIGXCPU.
    killed_late = status == 128 + signal.SIGKILL and used.ru_utime + used.ru_stime >= request["limits"]["cpu_s"]
    return TIMED_OUT if killed_late or status == 128 + signal.SIGXCPU else status


def _in_child(body: Callable[[], int]) -> int:
    """Fork, run ``body`` there, wait for it; its exit status, 128 and the signal's number when it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = body()
        finally:
            os._exit(status)  # no exit handlers of the candidate
    ended = os.waitpid(child, 0)[1]
    return 128 + os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)


def main() -> None:
    """``sandbox_child.py RESULT_FD PARENT_PID`` with the request in ``request.json`` of the working folder."""
    with open("request.json", encoding="utf-8") as file:
        request = json.load(file)
    os.unlink("request.json")
    sys.exit(_supervise(request, int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
