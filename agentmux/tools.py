"""Tools: functions and agents that a model may ask to have run.

::

    @tool(idempotent=True, timeout_s=5)
    async def weather(city: str, unit: Literal["C", "F"] = "C") -> str:
        \"\"\"Tells the weather.

        Args:
            city: name of the city, in English.
        \"\"\"

Plain functions will do; the decorator is for settings. What the model is shown comes from signature and docstring
(Google, numpy or reST), and what it sends is validated by pydantic before the function sees it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar, overload

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from agentmux.errors import AgentmuxError, ConfigError, ToolError, said
from agentmux.gbnf import UnsupportedSchema, schema_to_gbnf
from agentmux.schema import problems
from agentmux.signatures import Arguments, Target, arguments_of, target_of

P = ParamSpec("P")
T = TypeVar("T")

Approval = bool | Callable[[Mapping[str, Any]], bool | Awaitable[bool]]

TOOL_MARK = "__agentmux_tool__"
"""Attribute that ``@tool`` sets on a function: its settings."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")


class ModelRetry(Exception):
    """Raised by a tool to tell the model what was wrong with its call; the model may try again."""


@dataclass(frozen=True, eq=False)
class Tool:
    """Something that a model may ask to have run. Made by ``Tool.of``; equal only to itself."""

    name: str
    """As the model knows it: a letter or ``_``, then letters, digits, ``_`` and ``-``, 64 characters at most."""
    description: str
    """What it does, from its docstring."""
    parameters: Mapping[str, Any]
    """JSON schema of the arguments, an object."""
    idempotent: bool = False
    """May be run again when it was under way as its process died."""
    approval: Approval = False
    """True, or a function of the arguments that says True: whoever runs the agents must agree first."""
    timeout_s: float | None = None
    """Seconds that one call may take; None: as long as it likes."""
    retries: int = 2
    """Rejected calls (bad arguments, ``ModelRetry``) in a row before the run fails with ToolError."""
    _target: Target | None = field(default=None, repr=False)
    _adapter: TypeAdapter[dict[str, Any]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} is no name for a tool: models know letters, digits, _ and -, 64 at most, "
                "beginning with a letter or _; give another with @tool(name=...)"
            )
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ConfigError(f"tool {self.name}: timeout_s={self.timeout_s} is no time to run in")
        if self.retries < 0:
            raise ConfigError(f"tool {self.name}: retries={self.retries} is below 0")

    @staticmethod
    def of(thing: Any) -> Tool:
        """The tool that is meant by a Tool, a function (plain, async, bound, partial, any callable), an Agent class or
        instance, or a pipeline function.

        Raises ConfigError, naming function and parameter, for parameters without a type, ``*args`` and ``**kwargs``,
        types that have no JSON schema or no grammar, names that models do not know, and things that cannot be called.
        """
        if isinstance(thing, Tool):
            return thing
        settings: Mapping[str, Any] = getattr(thing, TOOL_MARK, {})
        target = target_of(thing, settings.get("name"))
        arguments = arguments_of(target)
        tool = Tool(
            name=target.name,
            description=arguments.description,
            parameters=_schema(target.name, arguments),
            _target=target,
            _adapter=arguments.adapter,
        )
        return replace(tool, **{key: value for key, value in settings.items() if key != "name"})

    @property
    def is_agent(self) -> bool:
        """Whether it is an agent or a pipeline function, which is run in the caller's run."""
        return self._target is not None and self._target.runs is not None

    def validate(self, arguments: str) -> dict[str, Any]:
        """The values for ``call`` from a model's arguments, a JSON object.

        Raises ModelRetry, saying which argument is wrong and why, fit to be shown to the model.
        """
        assert self._adapter is not None, "made by Tool.of"
        try:
            return self._adapter.validate_json(arguments)
        except ValidationError as error:
            raise ModelRetry(f"{self.name} was not run: {problems(error, 'arguments')}") from error
        # Validators of the user's own may raise whatever they like.
        except Exception as error:
            raise ModelRetry(f"{self.name} was not run: {type(error).__name__}: {error}") from error

    async def call(self, values: Mapping[str, Any], ctx: Any = None) -> Any:
        """Run it with the values that ``validate`` gave.

        Async functions are awaited; others run in a thread, with the caller's context variables. ``ctx`` is for
        functions whose first parameter is a ``Run``, and for agents, which are run in it.

        Raises ModelRetry as the function raised it, errors of agentmux too; ToolError with the cause for any other,
        and after ``timeout_s`` (a thread cannot be stopped: its function goes on, and what it returns is dropped).
        """
        target = self._target
        assert target is not None, "made by Tool.of"
        if target.takes_run and ctx is None:
            raise ConfigError(f"tool {self.name} needs the ctx of a run")
        timeout = asyncio.timeout(self.timeout_s)
        try:
            async with timeout:
                return await target.call(values, ctx)
        except (ModelRetry, AgentmuxError):
            raise
        except TimeoutError as error:
            if timeout.expired():
                raise ToolError(f"tool {self.name} took longer than {self.timeout_s} s") from error
            raise ToolError(f"tool {self.name} failed: TimeoutError: {error}") from error
        except Exception as error:
            raise ToolError(f"tool {self.name} failed: {type(error).__name__}: {said(error)}") from error

    def json(self, result: Any) -> str:
        """A result as JSON, from which ``shown_text`` makes what the model is shown of it.

        Raises ToolError for what has no JSON.
        """
        if isinstance(result, str):
            # Half of a surrogate pair stands for nothing, and no prompt can hold it.
            return json.dumps(result.encode("utf-8", "replace").decode("utf-8"), ensure_ascii=False)
        try:
            return pydantic_core.to_json(result, bytes_mode="base64", inf_nan_mode="constants").decode()
        except Exception as error:
            raise ToolError(f"tool {self.name} gave what cannot be shown as JSON: {error}") from error

    def text(self, result: Any) -> str:
        """What the model is shown of a result: text as it is, anything else as JSON, without quotes where that is a
        text, as of a date. Raises ToolError for what has no JSON."""
        return shown_text(self.json(result))


def shown_text(outcome: str) -> str:
    """What the model is shown of a result, or of what a journal brings back of it: its JSON, or the text that it is."""
    return str(json.loads(outcome)) if outcome.startswith('"') else outcome


def _schema(name: str, arguments: Arguments) -> Mapping[str, Any]:
    try:
        schema_to_gbnf(arguments.schema)
    except UnsupportedSchema as error:
        raise ConfigError(f"tool {name}: its arguments cannot be generated: {error}") from error
    return arguments.schema


@overload
def tool(function: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def tool(
    *,
    name: str | None = None,
    idempotent: bool = False,
    approval: Approval = False,
    timeout_s: float | None = None,
    retries: int = 2,
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def tool(function: Any = None, /, **settings: Any) -> Any:
    """Mark a function (or an Agent class) as a tool with settings; it stays what it was, and can be called as before.

    Args:
        name: as the model knows it; None: the function's own.
        idempotent, approval, timeout_s, retries: see ``Tool``.

    Raises ConfigError for settings that cannot be meant. The signature is read when the tool is first used, so that it
    may name types that are defined later.
    """
    if function is None:
        unknown = settings.keys() - {"name", "idempotent", "approval", "timeout_s", "retries"}
        if unknown:
            raise ConfigError(f"@tool knows no {', '.join(sorted(unknown))}")
        return functools.partial(_marked, settings)
    return _marked({}, function)


def _marked(settings: Mapping[str, Any], function: Any) -> Any:
    if not callable(function):
        raise ConfigError(f"@tool needs something that can be called, not {function!r}")
    given = {key: value for key, value in settings.items() if not (key == "name" and value is None)}
    # Checked here, where the mistake is.
    Tool(**{"name": "checked", "description": "", "parameters": {}, **given})
    try:
        setattr(function, TOOL_MARK, given)
    except AttributeError as error:
        raise ConfigError(f"@tool cannot mark {function!r}; wrap it in a function") from error
    return function


class Toolsets:
    """Makes the tools of agents, and remembers the latest ones. One instance belongs to one runtime."""

    def __init__(self, remembered: int = 256) -> None:
        self._cached = functools.lru_cache(maxsize=remembered)(toolset)

    def of(self, things: Iterable[Any]) -> tuple[Tool, ...]:
        """See ``toolset``."""
        given = tuple(things)
        try:
            hash(given)
        except TypeError:
            return toolset(given)
        return self._cached(given)


def toolset(things: Iterable[Any]) -> tuple[Tool, ...]:
    """The tools meant by ``things`` (see ``Tool.of``). Raises ConfigError for two of one name."""
    tools = tuple(Tool.of(thing) for thing in things)
    seen: set[str] = set()
    for one in tools:
        if one.name in seen:
            raise ConfigError(f"two tools are called {one.name}; give one another name with @tool(name=...)")
        seen.add(one.name)
    return tools


def described(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    """As chat templates and OpenAI's interface have them."""
    return [
        {
            "type": "function",
            "function": {
                "name": t.name,
                "description": t.description,
                "parameters": json.loads(json.dumps(t.parameters)),
            },
        }
        for t in tools
    ]
