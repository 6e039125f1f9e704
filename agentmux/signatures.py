"""What a tool's arguments are: read off its signature and docstring, and how it is called with them."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

import typing_extensions
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue

from agentmux.errors import ConfigError
from agentmux.schema import SchemaGenerator
from agentmux.threads import in_daemon

# Agents and runs are declared in a layer above this one, which knows them by these names.
_AGENT = ("agentmux.agent", "Agent")
_RUN = ("agentmux.agent", "Run")
_PIPELINE_MARK = "__agentmux_pipeline__"

Parameters = tuple[inspect.Parameter, ...]


@dataclass(frozen=True, eq=False)
class Target:
    """What a tool calls."""

    name: str
    function: Callable[..., Any]
    """Whose signature and docstring count."""
    parameters: Parameters
    """Those that the model fills in."""
    documented: Any
    """Whose docstring describes it."""
    takes_run: bool
    """The ctx comes first."""
    runs: Any = None
    """The agent or pipeline function that the ctx runs; None: ``function`` is called."""

    async def call(self, values: Mapping[str, Any], ctx: Any) -> Any:
        """Call it with validated values."""
        first = [ctx] if self.takes_run and self.runs is None else []
        positional = {p.name: p.default for p in self.parameters if p.kind is p.POSITIONAL_ONLY}
        args = [*first, *(values.get(name, default) for name, default in positional.items())]
        kwargs = {name: value for name, value in values.items() if name not in positional}
        if self.runs is not None:
            return await ctx.run(self.runs, *args, **kwargs)
        if _is_async(self.function):
            return await self.function(*args, **kwargs)
        result = await in_daemon(functools.partial(self.function, *args, **kwargs))
        # A plain function may hand back an awaitable, as a lambda around an async one does.
        return await result if inspect.isawaitable(result) else result


@dataclass(frozen=True, eq=False)
class Arguments:
    """What a model has to send."""

    schema: Mapping[str, Any]
    """JSON schema, an object."""
    adapter: TypeAdapter[dict[str, Any]]
    """Validates it; what is left out is not there."""
    description: str


def target_of(thing: Any, name: str | None = None) -> Target:
    """What is called for ``thing``. Raises ConfigError for what cannot be a tool."""
    if _is_agent(thing):
        return _agent_target(thing, name)
    if not callable(thing) or isinstance(thing, type):
        raise ConfigError(f"{thing!r} cannot be a tool: it is neither a function nor an Agent")
    inner = thing.func if isinstance(thing, functools.partial) else thing
    while isinstance(inner, functools.partial):
        inner = inner.func
    own_name = name or getattr(inner, "__name__", None) or type(inner).__name__
    parameters = _parameters(own_name, thing)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise ConfigError(f"tool {own_name} is a generator; a tool returns one result")
    is_pipeline = getattr(thing, _PIPELINE_MARK, False)
    takes_run = is_pipeline or bool(parameters and _is_run(own_name, parameters[0], thing))
    if isinstance(thing, functools.partial):
        # What is bound by keyword still stands in the signature, as a default; it is not the model's to change.
        parameters = tuple(p for p in parameters if p.name not in thing.keywords)
    mine = parameters[1:] if takes_run else parameters
    # An object with __call__ has its docstring on the class.
    return Target(own_name, thing, mine, inner, takes_run, thing if is_pipeline else None)


def _agent_target(thing: Any, name: str | None) -> Target:
    kind: Any = thing if isinstance(thing, type) else type(thing)
    own_name = name or kind.__name__
    asks_once = (kind.run.__module__, kind.run.__qualname__) == (_AGENT[0], f"{_AGENT[1]}.run")
    if asks_once:
        prompt = inspect.Parameter("prompt", inspect.Parameter.POSITIONAL_ONLY, annotation=str)
        parameters: Parameters = (prompt,)
    else:
        parameters = _parameters(own_name, kind.run)[2:]  # self and ctx
    return Target(own_name, kind.run, parameters, kind, True, thing)


def _parameters(name: str, function: Any) -> Parameters:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"tool {name} has no signature that can be read: {error}") from error


def _names(kind: Any) -> set[tuple[str, str]]:
    return {(c.__module__, c.__qualname__) for c in getattr(kind, "__mro__", ())}


def _is_agent(thing: Any) -> bool:
    return _AGENT in _names(thing if isinstance(thing, type) else type(thing))


def _is_run(name: str, parameter: inspect.Parameter, function: Any) -> bool:
    written = parameter.annotation
    if isinstance(written, str) and written.split("[")[0].split(".")[-1].strip("'\" ") == "Run":
        return True  # also where it is imported for type checkers only
    if written is parameter.empty:
        return False
    return _RUN in _names(_resolved(name, parameter, function))


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return not inspect.isroutine(function) and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def arguments_of(target: Target) -> Arguments:
    """Schema and validation of what the model sends. Raises ConfigError, naming function and parameter."""
    description, described = _documentation(target.documented)
    fields: dict[str, Any] = {}
    for parameter in target.parameters:
        kind = _checked(target, parameter)
        if text := described.get(parameter.name, "") or _description(described, target, parameter):
            kind = Annotated[kind, Field(description=text)]
        fields[parameter.name] = kind if parameter.default is parameter.empty else NotRequired[kind]
    # A TypedDict, not a model: what the model leaves out stays left out, so that the function's own defaults hold, and
    # no name of a parameter means anything special.
    make: Any = typing_extensions.TypedDict
    made = make(target.name, fields)
    made.__pydantic_config__ = ConfigDict(extra="forbid")
    made.__doc__ = None
    try:
        adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(made)
        schema = adapter.json_schema(schema_generator=_ToolSchemaGenerator)
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError, NameError) as error:
        raise ConfigError(_blamed(target, fields, error)) from error
    for parameter in target.parameters:
        _show_default(schema, parameter)
    return Arguments({"type": "object", "properties": {}, **schema}, adapter, description)


def _blamed(target: Target, fields: Mapping[str, Any], error: Exception) -> str:
    for name, kind in fields.items():
        inner = typing.get_args(kind)[0] if typing.get_origin(kind) is NotRequired else kind
        try:
            TypeAdapter(inner).json_schema()
        except Exception as own:
            return f"tool {target.name}: parameter {name} cannot be described as JSON: {own}"
    return f"tool {target.name}: its arguments cannot be described as JSON: {error}"


def _description(described: Mapping[str, str], target: Target, parameter: inspect.Parameter) -> str:
    """An agent's parameters may be described at its ``run``."""
    if target.runs is None or target.documented is target.function:
        return ""
    return _documentation(target.function)[1].get(parameter.name, "")


def _checked(target: Target, parameter: inspect.Parameter) -> Any:
    where = f"tool {target.name}: parameter {parameter.name}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise ConfigError(f"{where}: {stars}{parameter.name} has no schema; name each argument")
    if parameter.annotation is parameter.empty:
        raise ConfigError(f"{where} has no type; annotate it, so that the model knows what to send")
    if isinstance(parameter.default, FieldInfo):
        raise ConfigError(f"{where}: write Annotated[..., Field(...)] instead of a Field as its default")
    return _resolved(target.name, parameter, target.function)


def _resolved(name: str, parameter: inspect.Parameter, function: Any) -> Any:
    """The parameter's type, with names looked up where the function was written."""
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(holder, _globals(function), include_extras=True)[parameter.name]
    except Exception as error:
        raise ConfigError(
            f"tool {name}: the type of parameter {parameter.name}, {parameter.annotation!r}, cannot be read: {error}"
        ) from error


def _globals(function: Any) -> dict[str, Any]:
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    return getattr(inspect.unwrap(getattr(function, "__func__", function)), "__globals__", {})


class _ToolSchemaGenerator(SchemaGenerator):
    """Without the titles that pydantic makes up from names: they tell a model nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False

    def typed_dict_schema(self, schema: Any) -> JsonSchemaValue:
        """Without a title."""
        return {key: value for key, value in super().typed_dict_schema(schema).items() if key != "title"}

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Without a title."""
        return {key: value for key, value in super().model_schema(schema).items() if key != "title"}


def _show_default(schema: JsonSchemaValue, parameter: inspect.Parameter) -> None:
    shown = schema.get("properties", {}).get(parameter.name)
    if shown is not None and isinstance(parameter.default, str | int | float | bool | None):
        shown["default"] = parameter.default


def _documentation(thing: Any) -> tuple[str, dict[str, str]]:
    """Description and [parameter] description from a docstring, in whichever of the usual styles it is written."""
    described = thing if inspect.isroutine(thing) or isinstance(thing, type) else type(thing)
    own = described.__doc__  # not what it inherits: that an agent is an Agent says nothing
    if not own:
        return "", {}
    # Here, not at the top: a plain `import agentmux` has no use for it.
    import griffe

    docstring = griffe.Docstring(inspect.cleandoc(own))
    style = griffe.infer_docstring_style(docstring)[0] or griffe.Parser.google
    texts: list[str] = []
    parameters: dict[str, str] = {}
    for section in docstring.parse(style, warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            texts.append(section.value)
        elif section.kind is griffe.DocstringSectionKind.parameters:
            parameters |= {one.name: " ".join(one.description.split()) for one in section.value}
    return "\n\n".join(texts).strip(), parameters
