"""Agents and pipelines that clients see as models."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from agentmux.agent import Agent, Run, resolve
from agentmux.chatting import ChatAnswer, ChatDelta
from agentmux.errors import AgentmuxError, ConfigError
from agentmux.messages import Completion, RunFinished, RunResult, TurnNumbers
from agentmux.pipeline import ending_in
from agentmux.runtime import Runtime
from agentmux.server.answers import Told
from agentmux.server.asked import Asked
from agentmux.server.problems import Problem


@dataclass(frozen=True, slots=True)
class Published:
    """An agent or pipeline under a name."""

    name: str
    target: Any
    kind: str
    """``agent`` or ``pipeline``."""


def publish(targets: Iterable[Any], models: Iterable[str]) -> Mapping[str, Published]:
    """[name] what clients can name as a model beside ``models``.

    Raises ConfigError for two of one name, and for what takes anything but one argument.
    """
    taken = set(models)
    published: dict[str, Published] = {}
    for target in targets:
        name, agent, function = resolve(target)
        if name in taken:
            raise ConfigError(f"two models, agents or pipelines are called {name}")
        if agent is None or type(agent).run is not Agent.run:
            _takes_one(name, function)
        taken.add(name)
        published[name] = Published(name, target, "pipeline" if agent is None else "agent")
    return published


def _takes_one(name: str, function: Any) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind("ctx", "message")
    except TypeError as error:
        raise ConfigError(
            f"{name} cannot be published: it must take one argument after ctx, the user's message; it takes {signature}"
        ) from error


def prompt_for(published: Published, asked: Asked) -> str:
    """The user's last message. Raises Problem for what an agent of its own does not take."""
    (turn, *more) = asked.turns
    if more or turn.tools or turn.output.schema is not None or turn.logprobs is not None:
        raise Problem(
            400,
            f"{published.name} is a whole {published.kind}, no model: it knows no n, tools, response_format, logprobs",
            code="unsupported",
        )
    users = [message.content for message in turn.messages if message.role == "user"]
    if not users:
        raise Problem(400, f"{published.name} needs a message of the user", code="invalid_value", param="messages")
    return users[-1]


async def told_run(mux: Runtime, published: Published, prompt: str) -> AsyncGenerator[Told, None]:
    """A run as if it were one turn: its answer, and before that the answer's text as it comes, where it is certain to
    be the answer. Closed early, it cancels the run. Raises what agentmux raises, and Problem for what the user's code
    raised."""
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    target = ending_in(published.target, lambda last: _telling(last, pieces.put_nowait))
    task = asyncio.create_task(_result(mux, published, target, prompt))
    task.add_done_callback(lambda _: pieces.put_nowait(None))
    given = ""
    try:
        while (piece := await pieces.get()) is not None:
            given += piece
            yield 0, ChatDelta(piece)
        answer = _answer(task.result())
        if rest := answer.text[len(given) :]:
            yield 0, ChatDelta(rest)
        yield 0, answer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _telling(target: Any, tell: Callable[[str], None]) -> Any:
    """``target``, which tells its answer's text as it comes, if its one turn is the answer.

    Where the model may call tools, what it says can turn out to have been the words before a call; what an agent's own
    ``run``, or a function, makes of its turns only its end shows.
    """
    _, agent, _ = resolve(target)
    if agent is None or type(agent).run is not Agent.run or agent.output is not str or agent.tools:
        return target
    telling = copy.copy(agent)

    async def run(ctx: Run, prompt: str) -> str:
        text = ""
        async with aclosing(ctx.stream(prompt)) as answer:
            async for piece in answer:
                text += piece
                tell(piece)
        return text

    vars(telling)["run"] = run
    return telling


async def _result(mux: Runtime, published: Published, target: Any, prompt: str) -> RunResult[Any]:
    result: RunResult[Any] | None = None
    try:
        async with aclosing(mux.stream(target, prompt)) as events:
            async for event in events:
                if isinstance(event, RunFinished):
                    result = event.result
    except AgentmuxError:
        raise
    except Exception as error:
        message = f"{published.kind} {published.name} failed: {type(error).__name__}: {error}"
        raise Problem(500, message, code="run_failed", type="server_error") from error
    assert result is not None
    return result


def _answer(result: RunResult[Any]) -> ChatAnswer:
    """With what the whole run took."""
    text = text_of(result.output)
    numbers = TurnNumbers(
        turn=0,
        agent="",
        model="",
        finish_reason="stop",
        prompt_tokens=result.usage.prompt_tokens,
        reused_tokens=sum(turn.reused_tokens for turn in result.turns),
        generated_tokens=result.usage.generated_tokens,
    )
    return ChatAnswer(text, "", (), "stop", Completion(text, (), "stop", numbers))


def text_of(output: Any) -> str:
    """A run's output as an answer: text as it is, else JSON."""
    return output if isinstance(output, str) else to_json(output, fallback=repr).decode()
