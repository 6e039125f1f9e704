"""The command as users start it: in a process of its own, with pipes or at a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

AGENTMUX = (sys.executable, "-c", "from agentmux.cli.main import main; main()")
WAIT_S = 60.0


def environment(**changes: str) -> dict[str, str]:
    """This process's, for the CPU, with changes."""
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**kept, "AGENTMUX_DEVICE": "cpu", "AGENTMUX_THREADS": "1", "TERM": "xterm-256color", **changes}


def agentmux(
    *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, with pipes."""
    return subprocess.run(
        [*AGENTMUX, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        input=stdin or "",
        env=dict(env or environment()),
        cwd=cwd,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line on standard error, which is an error's; nothing is on standard output."""
    assert done.returncode == status, done
    assert done.stdout == "", done
    assert done.stderr.startswith("agentmux: error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("agentmux: error: ").strip()


class Terminal:
    """A command at a pseudo-terminal, whose screen can be looked at."""

    def __init__(
        self, *arguments: str, columns: int = 80, rows: int = 24, env: Mapping[str, str] | None = None, cwd: str = "."
    ) -> None:
        self.raw = b""
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        master, slave = pty.openpty()
        self._master = master
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            [*AGENTMUX, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(env or environment()),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        self.process.send_signal(number)

    def insist(self, number: signal.Signals) -> None:
        """Send a signal until the command ends. Python's readline overlooks one that comes just before it waits."""
        for _ in range(100):
            self.signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.3)
                return

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def until(self, condition: Callable[[str], bool]) -> str:
        """Read until the screen is so. Fails with the screen if it does not come to that."""
        end = time.monotonic() + WAIT_S
        while not condition(self.text):
            assert self._read(end - time.monotonic()), f"it ended, or nothing came any more; the screen:\n{self.text}"
        return self.text

    def shows(self, text: str) -> str:
        """Read until this is on the screen."""
        return self.until(lambda screen: text in screen)

    def end(self) -> int:
        """Read to the end; the exit status."""
        end = time.monotonic() + WAIT_S
        while self._read(end - time.monotonic()):
            pass
        return self.process.wait(timeout=WAIT_S)

    def _read(self, wait_s: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, wait_s))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's way of saying that the other side is closed
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)
