"""Many clients at once, over more models than one: every stream is whole, and what the engine itself answers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from openai import AsyncOpenAI

from agentmux import SamplingParams
from agentmux.chatting import ChatAnswer, ChatRequest
from agentmux.messages import Message
from tests.server.live import WAIT_S, Live

CLIENTS = 16
MODELS = ("planner", "coder", "critic")
QUESTIONS = [f"keep the numbers above {number}" for number in range(CLIENTS)]


def sampling(number: int) -> SamplingParams:
    """Every other client wants no greedy answer."""
    return SamplingParams(temperature=0.8 * (number % 2), top_p=1.0, seed=number)


async def test_sixteen_streams_over_three_models_are_the_engines_own(live: Live) -> None:
    async def own() -> list[str]:
        texts = []
        for number, question in enumerate(QUESTIONS):
            request = ChatRequest(MODELS[number % 3], (Message("user", question),), sampling=sampling(number))
            async with aclosing(live.mux.chat(request)) as events:
                *_, last = [event async for event in events]
            assert isinstance(last, ChatAnswer)
            texts.append(last.text)
        return texts

    async def stream(client: AsyncOpenAI, number: int) -> str:
        chunks = await client.chat.completions.create(
            model=MODELS[number % 3],
            messages=[{"role": "user", "content": QUESTIONS[number]}],
            temperature=sampling(number).temperature,
            seed=number,
            stream=True,
        )
        texts, ended = [], []
        async for chunk in chunks:
            texts.append(chunk.choices[0].delta.content or "")
            ended.append(chunk.choices[0].finish_reason)
        assert ended[-1] in ("stop", "length")
        assert ended[:-1] == [None] * (len(ended) - 1)
        return "".join(texts)

    expected = await asyncio.to_thread(live.on_loop, own)
    async with AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S) as client:
        texts = await asyncio.gather(*(stream(client, number) for number in range(CLIENTS)))
    assert texts == expected
    assert len(set(texts)) > CLIENTS // 2
