"""Tools at work: what a model or an agent asks for is checked, approved, counted, run, reported and recorded.

- Arguments that do not validate, ``ModelRetry`` and a refused approval are the model's affair: it is told, and may try
  again, as often in a row as the tool allows. Whatever else a tool raises is a ToolError of the agent's.
- Small models repeat themselves. A call that was made before with the same arguments and gave the same result is run
  again ``REPEATS`` times at most; after that the model is told so instead, and has to answer.
- In a durable run the call is in the journal before the tool runs, and its result before anything is made of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentmux.agent import Run
from agentmux.errors import AgentmuxError, ConfigError, ToolError, first_of
from agentmux.journal import RecordedTool
from agentmux.keys import tool_key
from agentmux.messages import ToolCall, ToolCalled, ToolErrored, ToolReturned
from agentmux.run import Place, RunState
from agentmux.tools import ModelRetry, Tool, shown_text

REPEATS = 2
"""Further runs of a call that was made before and gave the same result."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: the text that the model is shown."""

    call: ToolCall
    text: str
    failed: bool = False
    repeated: bool = False
    """It was not run: the model was told that it repeats itself."""


class Toolbox:
    """The tools of one question, and what was called so far."""

    def __init__(self, state: RunState, ctx: Run, place: Place, tools: Sequence[Tool]) -> None:
        self._state = state
        self._ctx = ctx
        self._place = place
        self._tools: Mapping[str, Tool] = {tool.name: tool for tool in tools}
        self._failed_in_a_row = Counter[str]()
        self._results: dict[tuple[str, str], str] = {}
        self._repeats = Counter[tuple[str, str]]()
        self._made = 0

    @property
    def exhausted(self) -> bool:
        """Whether the model only repeats itself, so that it has to answer now."""
        return any(count > REPEATS for count in self._repeats.values())

    def numbered(self, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """The calls with ids that are the same whenever this conversation takes the same course."""
        numbered = []
        for call in calls:
            self._made += 1
            digest = hashlib.sha256(f"{self._made} {call.name} {call.arguments}".encode()).hexdigest()
            numbered.append(ToolCall(digest[:9], call.name, call.arguments))
        return tuple(numbered)

    async def run(self, calls: Sequence[ToolCall]) -> list[Outcome]:
        """Run the calls of one answer at the same time, and return what became of each, in their order.

        Raises ToolError, LimitExceeded, ToolInDoubt, JournalError; the other calls are cancelled then.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(call)) for call in calls]
        except BaseExceptionGroup as errors:
            raise first_of(errors)  # noqa: B904  # it has a cause of its own
        outcomes = [task.result() for task in tasks]
        for outcome in outcomes:
            self._note(outcome)
        return outcomes

    async def _one(self, call: ToolCall) -> Outcome:
        if self._repeats[_signature(call)] >= REPEATS:
            told = f"{self._results[_signature(call)]}\n(You made this call before. Answer now.)"
            return Outcome(call, told, repeated=True)
        tool = self._tools[call.name]
        try:
            values = tool.validate(call.arguments)
            done = recorded(self._state, self._place, tool, call)  # what was done before, nobody need agree to again
            denied = None if done else await self._denied(tool, call, values)
        except ModelRetry as problem:
            return self._refused(call, str(problem))
        if denied is not None:
            return self._refused(call, f"denied: {denied}")
        done = done or await run_tool(self._state, self._ctx, self._place, tool, call, values)
        return Outcome(call, done.text, failed=not done.ok)

    def _refused(self, call: ToolCall, problem: str) -> Outcome:
        self._state.emit(ToolErrored(self._state.id, *_place(self._place), call, problem, 0.0))
        return Outcome(call, problem, failed=True)

    async def _denied(self, tool: Tool, call: ToolCall, values: Mapping[str, Any]) -> str | None:
        """Why the tool may not run; None if it may."""
        wanted = tool.approval if isinstance(tool.approval, bool) else await _settled(tool.approval(values))
        if not wanted:
            return None
        approve = self._state.services.approve
        if approve is None:
            raise ConfigError(f"tool {tool.name} needs approval; give the runtime one to ask: Runtime(approve=...)")
        verdict = await _settled(approve(call, self._place.agent))
        if verdict is True:
            return None
        return verdict if isinstance(verdict, str) and verdict else "the user said no"

    def _note(self, outcome: Outcome) -> None:
        call = outcome.call
        self._failed_in_a_row[call.name] = self._failed_in_a_row[call.name] + 1 if outcome.failed else 0
        retries = self._tools[call.name].retries
        if self._failed_in_a_row[call.name] > retries:
            raise ToolError(
                f"tool {call.name} failed {retries + 1} times in a row; the last: {outcome.text}",
                failures=retries + 1,
            )
        signature = _signature(call)
        if signature in self._results:
            same = outcome.repeated or outcome.text == self._results[signature]
            self._repeats[signature] = self._repeats[signature] + 1 if same else 0
        if not self._repeats[signature]:
            self._results[signature] = outcome.text


@dataclass(frozen=True, slots=True)
class Ran:
    """How a tool's call ended."""

    ok: bool
    """Whether it gave a result."""
    text: str
    """For the model."""
    result: Any = None
    """As JSON brings it back where it comes from the journal."""


def recorded(state: RunState, place: Place, tool: Tool, call: ToolCall) -> Ran | None:
    """How the call ended in an earlier attempt at the run; None: it is to be made.

    Raises ToolInDoubt if it was under way when that attempt ended, unless the tool may be run again. An agent may: its
    own steps are recorded one by one.
    """
    if state.record is None:
        return None
    key = tool_key(call.name, call.arguments, place.agent)
    outcome = state.record.tool(key, tool.idempotent or tool.is_agent)
    if outcome is None:
        return None
    state.count_tool_call()
    return _replayed(state, place, call, outcome)


async def run_tool(
    state: RunState, ctx: Run, place: Place, tool: Tool, call: ToolCall, values: Mapping[str, Any]
) -> Ran:
    """Run a tool as a step of the run. Raises ToolError with the tool's own exception as cause."""
    state.count_tool_call()
    key = tool_key(call.name, call.arguments, place.agent)
    if state.record:
        state.record.tool_started(key, place.agent, call)
    state.emit(ToolCalled(state.id, *_place(place), call))
    begin_s = state.services.clock.now()

    def tell(told: type[ToolReturned] | type[ToolErrored], text: str) -> None:
        state.emit(told(state.id, *_place(place), call, text, state.services.clock.now() - begin_s))

    def ended(outcome: RecordedTool, told: type[ToolReturned] | type[ToolErrored], text: str) -> None:
        try:
            if state.record:
                state.record.tool_ended(key, outcome)
        except AgentmuxError as error:  # then the run fails, and what it has begun has an end
            tell(ToolErrored, str(error))
            raise
        tell(told, text)

    try:
        result = await tool.call(values, ctx)
        outcome = tool.json(result)
    except ModelRetry as problem:
        ended(RecordedTool(ok=False, text=str(problem)), ToolErrored, str(problem))
        return Ran(False, str(problem))
    except AgentmuxError as error:
        ended(RecordedTool(ok=False, text=str(error), raised=True), ToolErrored, str(error))
        raise
    except asyncio.CancelledError:
        tell(ToolErrored, "cancelled")  # and not recorded: nobody knows how far it came
        raise
    text = shown_text(outcome)  # as it is going to be made again of what is recorded: prompts have to be the same
    ended(RecordedTool(ok=True, text=outcome), ToolReturned, text)
    return Ran(True, text, result)


def _replayed(state: RunState, place: Place, call: ToolCall, outcome: RecordedTool) -> Ran:
    if not outcome.ok:
        state.emit(ToolErrored(state.id, *_place(place), call, outcome.text, 0.0))
        return Ran(False, outcome.text)
    text = shown_text(outcome.text)
    state.emit(ToolReturned(state.id, *_place(place), call, text, 0.0))
    return Ran(True, text, json.loads(outcome.text))


def _place(place: Place) -> tuple[str, int]:
    return place.agent, place.span


def _signature(call: ToolCall) -> tuple[str, str]:
    return call.name, call.arguments


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
