"""The engine without a server, for ``agentmux bench server``: ``python -m agentmux.bench.server_alone``.

As many callers as the server has clients ask the same runtime the same questions in the same order, within its own
process. Settings come by stdin, and the result goes to stdout, both JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from contextlib import aclosing

from agentmux.bench.server_models import specs_of
from agentmux.bench.server_report import Alone, Load, Measured, Question, Refusals, questions
from agentmux.chatting import STREAM_EVERY_S, ChatAnswer, ChatDelta, ChatRequest
from agentmux.messages import Message
from agentmux.runtime import Runtime


async def alone(given: Load) -> Alone:
    """Ask for as long as told, first each question once, uncounted."""
    asked = questions(given.models, given.questions)
    expected: dict[str, str] = {}
    async with _runtime(given) as mux:
        left = deque(asked)

        async def warm() -> None:
            while left:
                question = left.popleft()
                answer, _ = await ask(mux, question, given.tokens)
                expected[question.key] = answer.text

        await asyncio.gather(*(warm() for _ in range(given.clients)))
        answers: list[tuple[Question, ChatAnswer, int]] = []

        async def drive(number: int, until_s: float) -> None:
            at = number
            while time.perf_counter() < until_s:
                question = asked[at % len(asked)]
                answers.append((question, *await ask(mux, question, given.tokens)))
                at += given.clients + 1

        cpu_s, loop_s, began_s = time.process_time(), time.thread_time(), time.perf_counter()
        await asyncio.gather(*(drive(number, began_s + given.seconds) for number in range(given.clients)))
        took_s = time.perf_counter() - began_s
        cpu_s, loop_s = time.process_time() - cpu_s, time.thread_time() - loop_s
    measured = Measured(
        seconds=took_s,
        answers=len(answers),
        tokens=sum(answer.completion.stats.generated_tokens for _, answer, _ in answers),
        pieces=sum(pieces for _, _, pieces in answers),
        cpu_s=cpu_s,
        loop_cpu_s=loop_s,
        client_cpu_s=0,
        cut=0,
        wrong=sum(answer.text != expected[question.key] for question, answer, _ in answers),
        errors={},
        refusals=Refusals.of([]),
    )
    return Alone(measured=measured, expected=expected)


def _runtime(given: Load) -> Runtime:
    models = specs_of(given.models, given.files)
    return Runtime(models=models, device=given.device, threads=given.threads, config=False)


async def ask(mux: Runtime, question: Question, tokens: int) -> tuple[ChatAnswer, int]:
    """An answer, and in how many pieces it came."""
    messages = (Message("user", question.text),)
    # In pieces of the size that the server sends: what is compared is sending them.
    request = ChatRequest(question.model, messages, max_tokens=tokens, every_s=STREAM_EVERY_S)
    pieces, answer = 0, None
    async with aclosing(mux.chat(request)) as events:
        async for event in events:
            pieces += isinstance(event, ChatDelta) and bool(event.text)
            if isinstance(event, ChatAnswer):
                answer = event
    assert answer is not None
    return answer, pieces


def main() -> None:
    """Read the settings, ask, write the result."""
    given = Load.model_validate_json(sys.stdin.buffer.read())
    print(asyncio.run(alone(given)).model_dump_json())


if __name__ == "__main__":
    main()
