"""A chat call below the agents: messages, tools and schema come from the caller, and so does what is done with them.

It is one turn, made of the same parts as an agent's: the chat template renders the messages, an ``AnswerPlan`` says by
which grammar to generate and what of the text is answer, call or reasoning. Nothing is tried again and no tool is run.
"""

from __future__ import annotations

import asyncio
import functools
import json
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from agentmux.calls import UNIFORM, AnswerPlan, Calls, Choice
from agentmux.clock import Timer
from agentmux.engine.base import Footprint
from agentmux.errors import ConfigError, RequestInvalid
from agentmux.gbnf import UnsupportedSchema, schema_to_gbnf
from agentmux.log import get_logger
from agentmux.messages import Completion, Event, Message, TextStreamed, TokenLogprob, ToolCall, TurnAdmitted
from agentmux.prompt import describe
from agentmux.run import Services, forget_quietly
from agentmux.sampling import SamplingParams
from agentmux.schema import AnswerRejected, OutputSchema
from agentmux.sessions import Conversation
from agentmux.tools import Tool
from agentmux.turn import TurnSpec

CHAT = "chat"
"""The agent's name that events of these turns have."""
ANY_TEXT = OutputSchema(adapter=None)
MAX_GRAMMAR_CHARACTERS = 200_000
"""llama.cpp takes seconds to read larger ones, and everything waits for it."""


STREAM_EVERY_S = 0.04
"""A good ``ChatRequest.every_s`` for what is sent to somebody who reads: as many pieces a second as a film has pictures
look like a flow."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked of a model. ``messages`` or ``prompt``, one of the two."""

    model: str
    messages: tuple[Message, ...] = ()
    """The conversation, to be rendered by the model's chat template. A message of role ``tool`` needs its call."""
    prompt: str | tuple[int, ...] | None = None
    """Text (special tokens in it are parsed) or token ids that the model is to go on with, without a template."""
    tools: tuple[Tool, ...] = ()
    """What the model is told that it can call; see ``Declared.tool`` for tools that are a schema only."""
    tool_choice: Choice = "auto"
    parallel_calls: bool = True
    """One answer may hold several calls."""
    output: OutputSchema = ANY_TEXT
    """What an answer must be; see ``Declared.output``."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    """None: as many as the context has room for."""
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """Report each token's log-probability and those of this many likeliest ones, 0 to 20."""
    session: str | None = None
    """Name of a conversation, whose KV cache is continued and kept, until ``Runtime.end_session``."""
    thinking: bool | None = None
    """On or off, where the model's chat template has a switch for it; None: as the template has it."""
    priority: int = 0
    queue_wait_s: float | None = None
    """Seconds to wait for admission at most; None: the runtime's limit."""
    every_s: float = 0.0
    """Seconds from one delta to the next at least. Text that comes earlier is part of the next; the first does not
    wait, nor does the end."""

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.prompt is not None):
            raise RequestInvalid("a chat needs messages, or a prompt, and not both")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise RequestInvalid(f"max_tokens={self.max_tokens} leaves no room for an answer")
        if not self.every_s >= 0:
            raise RequestInvalid(f"every_s={self.every_s} must not be negative")


@dataclass(frozen=True, slots=True)
class ChatStarted:
    """The engine has the turn: it was not refused, and does not wait any more."""

    queue_wait_s: float


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """New text of the answer: no reasoning, no calls. ``text`` is "" where there are only log-probabilities to tell.

    The first comes as soon as it is there; of the others, those that wait while the caller is busy come as one."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    """[token since the last delta, whatever it is part of] if they were asked for."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The whole answer; the deltas' texts together are ``text``."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    """``stop``, ``length`` or ``tool_calls``."""
    completion: Completion


@dataclass(frozen=True, slots=True)
class ChatReasoned:
    """What the model reasoned, all of it. Told before the answer's first text, where there is any of both."""

    text: str


ChatEvent: TypeAlias = ChatStarted | ChatReasoned | ChatDelta | ChatAnswer


class Declared:
    """Tools and outputs that are JSON schemas only, made once and remembered: equal ones are the same object, so that
    their grammars are made once, too."""

    def __init__(self, remembered: int = 256) -> None:
        self._tool = functools.lru_cache(maxsize=remembered)(_tool)
        self._output = functools.lru_cache(maxsize=remembered)(_output)

    def tool(self, name: str, description: str, parameters: Mapping[str, Any]) -> Tool:
        """A tool that only its caller can run. ``parameters``: JSON schema of an object.

        Raises RequestInvalid for a name that models do not know, and a schema that is none or has no grammar.
        """
        if parameters.get("type", "object") != "object":
            raise RequestInvalid(f"tool {name}: its parameters are no object, but {parameters['type']!r}")
        return self._tool(name, description, _canonical({"type": "object", **parameters}))

    def output(self, schema: Mapping[str, Any]) -> OutputSchema:
        """Answers that match a JSON schema. Raises RequestInvalid for one that has no grammar."""
        return self._output(_canonical(schema))


def _canonical(schema: Mapping[str, Any]) -> str:
    """The order of members is kept: it is the order in which they are generated."""
    try:
        return json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestInvalid(f"the schema is no JSON: {error}") from error


def _tool(name: str, description: str, parameters: str) -> Tool:
    schema = json.loads(parameters)
    _grammar(f"the parameters of tool {name}", schema)
    try:
        return Tool(name, description, schema)
    except ConfigError as error:
        raise RequestInvalid(str(error)) from error


def _output(text: str) -> OutputSchema:
    schema = json.loads(text)
    # Any JSON: that it matches the schema is what the grammar is for.
    return OutputSchema(TypeAdapter(Any), text, _grammar("the answer's schema", schema), schema)


def _grammar(what: str, schema: Mapping[str, Any]) -> str:
    try:
        grammar = schema_to_gbnf(schema)
    except UnsupportedSchema as error:
        raise RequestInvalid(f"{what} cannot be generated: {error}") from error
    # A schema from anywhere may hold values of any kind in any place.
    except Exception as error:
        raise RequestInvalid(f"{what} is no JSON schema: {type(error).__name__}: {error}") from error
    _check_size(what, grammar)
    return grammar


def _check_size(what: str, grammar: str) -> None:
    if len(grammar) > MAX_GRAMMAR_CHARACTERS:
        raise RequestInvalid(
            f"{what} would take a grammar of {len(grammar)} characters, {MAX_GRAMMAR_CHARACTERS} are the limit; "
            "have fewer members, or fewer values to choose from"
        )


async def converse(services: Services, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
    """See ``Runtime.chat``."""
    footprint = await services.loaded(request.model)
    plan, spec = planned(services, footprint, request)
    async with AsyncExitStack() as stack:
        if request.session is not None:
            kept = services.sessions.named(request.session, CHAT, request.model)
            stack.callback(_forget_if_ended, services, kept)
            await stack.enter_async_context(kept.asking(CHAT))
            spec = replace(spec, session=kept.engine_session)
        talk = _Talk(services, plan, spec, request.every_s)
        stack.push_async_callback(talk.end)
        while (event := await talk.next()) is not None:
            if isinstance(event, ChatDelta) and (reasoned := talk.reasoned()):
                yield reasoned
            yield event
        yield talk.answer()


def planned(services: Services, footprint: Footprint, request: ChatRequest) -> tuple[AnswerPlan, TurnSpec]:
    """How to read what the model will say, and the turn that asks for it. Raises RequestInvalid."""
    if request.prompt is not None:
        form, prompt = UNIFORM, request.prompt
    else:
        form, prompt = describe(services.renderer, footprint), _rendered(services, footprint, request)
    end = prompt if isinstance(prompt, str) else ""
    choice = request.tool_choice if request.tools else "none"
    if not request.tools and request.tool_choice not in ("auto", "none"):
        raise RequestInvalid(f"tool_choice {request.tool_choice!r} needs tools")
    try:
        plan = services.plans.of(
            request.tools, request.output, form, end, choice=choice, parallel=request.parallel_calls
        )
    except (ConfigError, UnsupportedSchema) as error:
        raise RequestInvalid(str(error)) from error
    if plan.grammar is not None:
        _check_size("tools and schema together", plan.grammar)
    spec = TurnSpec(
        model=request.model,
        prompt=prompt,
        max_tokens=request.max_tokens or footprint.context_tokens,
        sampling=request.sampling,
        grammar=plan.grammar,
        grammar_after=plan.grammar_after,
        show_special=plan.show_special,
        stop=request.stop,
        logprobs=request.logprobs,
        priority=request.priority,
        queue_wait_s=request.queue_wait_s,
    )
    return plan, spec


def _rendered(services: Services, footprint: Footprint, request: ChatRequest) -> str:
    muted = request.model in services.without_system
    messages = [message for message in request.messages if not (muted and message.role == "system")]
    if not messages:
        raise RequestInvalid(f"model {request.model} is not shown system messages, and there are no others")
    return services.renderer.render(
        footprint.model,
        footprint.chat_template,
        messages,
        footprint.bos_text,
        footprint.eos_text,
        tools=request.tools,
        thinking=request.thinking,
    )


def _forget_if_ended(services: Services, kept: Conversation) -> None:
    if kept.ended:
        forget_quietly(services, kept.model, kept.engine_session)


class _Talk:
    """A turn on its way: what the engine reports becomes what is told of the chat."""

    def __init__(self, services: Services, plan: AnswerPlan, spec: TurnSpec, every_s: float) -> None:
        self._services = services
        self._every_s = every_s
        self._next_s = 0.0
        self._pause: Timer | None = None
        """Until ``_next_s``, while text waits for that."""
        self._plan = plan
        self._run = uuid.uuid4().hex
        self._events: deque[Event | None] = deque()
        self._arrived = asyncio.Event()
        self._text = ""
        self._given = ""
        self._logprobs = 0
        self._told_reasoning = False
        self._ended = False
        self._reply: ChatAnswer
        self._turn = services.turn(spec, self._run, CHAT, self._emit, 0)
        # Now, not when the task begins: of requests that come together, the next one sees the place as taken.
        services.scheduler.submit(self._turn)
        self._task = asyncio.create_task(services.complete(self._turn), name=f"agentmux chat {self._run}")
        self._task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[Completion]) -> None:
        self._services.scheduler.forget_run(self._run)
        self._tell(None)

    def _tell(self, event: Event | None) -> None:
        self._events.append(event)
        if isinstance(event, TextStreamed) and self._every_s:
            if self._pause is None and self._services.clock.now() < self._next_s:
                self._pause = self._services.clock.call_at(self._next_s, self._end_pause)
            if self._pause is not None:
                return
        self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._arrived.set()

    def _emit(self, event: Event) -> None:
        self._tell(event)
        for observer in self._services.observers:
            try:
                observer(event)
            except Exception as error:
                get_logger("agentmux.chat").warning("an observer failed", error=repr(error))

    async def next(self) -> ChatStarted | ChatDelta | None:
        """What comes next; None once the turn has ended well and all was told. Raises its error."""
        while not self._ended:
            while not self._events or self._pause is not None:
                self._arrived.clear()
                await self._arrived.wait()
            event = self._events.popleft()
            if event is None:
                self._ended = True
                self._reply = self._read(await self._task)
                if rest := self._rest():
                    return rest
            elif isinstance(event, TurnAdmitted):
                return ChatStarted(event.queue_wait_s)
            elif isinstance(event, TextStreamed) and (delta := self._delta(event)):
                return delta
        return None

    def _delta(self, event: TextStreamed) -> ChatDelta | None:
        """All of the text that is there, beginning with this: whoever is slower than the engine gets fewer deltas."""
        self._text += event.text
        logprobs = event.logprobs
        while self._events and isinstance(more := self._events[0], TextStreamed):
            self._events.popleft()
            self._text += more.text
            logprobs += more.logprobs
        if self._every_s:
            self._next_s = self._services.clock.now() + self._every_s
        new = self._plan.shown(self._text)[len(self._given) :]
        self._given += new
        self._logprobs += len(logprobs)
        return ChatDelta(new, logprobs) if new or logprobs else None

    def reasoned(self) -> ChatReasoned | None:
        """What came before the answer's text, once, as soon as there is some of that."""
        if self._told_reasoning or not self._given:
            return None
        self._told_reasoning = True
        reasoning = self._plan.reasoned(self._text)
        return ChatReasoned(reasoning) if reasoning else None

    def _rest(self) -> ChatDelta | None:
        """What of the answer only its end made known."""
        new = self._reply.text[len(self._given) :]
        self._given += new
        logprobs = self._reply.completion.logprobs[self._logprobs :]
        return ChatDelta(new, logprobs) if new or logprobs else None

    def answer(self) -> ChatAnswer:
        """All of it, once ``next`` has given None."""
        return self._reply

    def _read(self, completion: Completion) -> ChatAnswer:
        ended = completion.finish_reason
        try:
            read = self._plan.read(completion.text, ended == "length", _call_id)
        except AnswerRejected:
            # Reasoning that never ended, or a call that a stop text broke off: what was certainly the answer stays.
            return ChatAnswer(self._given, "", (), ended, completion)
        reply = read.answer
        if isinstance(reply, Calls):
            ended = ended if reply.cut else "tool_calls"
            return ChatAnswer(self._given, read.reasoning, reply.calls, ended, completion)
        return ChatAnswer(reply.text, read.reasoning, (), ended, completion)

    async def end(self) -> None:
        """Whatever became of it: the turn is over, in the engine too."""
        self._end_pause()
        if not self._task.done():
            self._services.scheduler.cancel(self._turn)  # a task that has not begun would not do it
            self._task.cancel()
            await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # it was raised by ``next``, or nobody wants to know any more


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
