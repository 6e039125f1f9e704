"""What is written within one step of the loop is sent at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentmux.server.serving import _Joined
from agentmux.testing import settle


class Transport:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def joined() -> tuple[Any, Transport]:
    below = Transport()
    return _Joined(below, asyncio.get_running_loop()), below  # type: ignore[arg-type]


async def test_what_is_written_together_is_sent_together_and_in_order() -> None:
    above, below = joined()
    for part in (b"head ", b"first ", b"more"):
        above.write(part)
    assert below.sent == []
    await settle()
    above.write(b"next")
    await settle()
    assert below.sent == [b"head first more", b"next"]


async def test_an_answer_that_is_whole_goes_at_once() -> None:
    above, below = joined()
    above.write(b"head ")
    above.write(b"body")
    above.write(b"")
    assert below.sent == [b"head body"]
    await settle()
    assert below.sent == [b"head body"]


@pytest.mark.parametrize("written", [b"", b"last words"])
async def test_what_was_written_is_sent_before_the_end(written: bytes) -> None:
    above, below = joined()
    above.write(written)
    above.close()
    assert (below.sent, below.closed) == ([written] if written else [], True)
    await settle()


async def test_into_what_has_ended_nothing_is_written() -> None:
    above, below = joined()
    above.write(b"late")
    below.close()
    await settle()
    assert below.sent == []
    assert above.is_closing()
