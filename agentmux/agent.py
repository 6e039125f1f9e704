"""Declarations: what an agent is, and what it may ask of the run it is in. Nothing here holds a run's state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from agentmux.errors import ConfigError
from agentmux.messages import Message, Usage
from agentmux.sampling import SamplingParams

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

if TYPE_CHECKING:
    from typing import _SpecialForm

    NoClass: TypeAlias = UnionType | _SpecialForm
    """What type checkers take such types for as are no classes: ``int | None``, ``Literal["a"]``."""

PIPELINE_MARK = "__agentmux_pipeline__"
"""Attribute that ``@pipeline`` sets on a function."""
FIRST_MARK = "__agentmux_first__"
"""Attribute by which a pipeline function says what it runs first."""


class Run(ABC):
    """One execution of a pipeline or agent, as seen from inside: handed to it as ``ctx``.

    Every agent and pipeline function in a run gets a Run of its own; usage, limits and events are shared.
    """

    @property
    @abstractmethod
    def id(self) -> str:
        """The run's id, the same in all its events."""

    @property
    @abstractmethod
    def agent(self) -> str:
        """Name of the agent or pipeline function that holds this ``ctx``."""

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """What the whole run has used so far."""

    @property
    @abstractmethod
    def deadline(self) -> float | None:
        """Second on the event loop's clock at which the run is ended by its ``wall_s`` limit; None without one."""

    @property
    @abstractmethod
    def session(self) -> Session:
        """The conversation that this agent keeps: within the run, however often it is run in it, or, where the run was
        given a session's name, also from run to run. Raises ConfigError in a pipeline function, which has none."""

    @overload
    async def ask(
        self,
        prompt: str,
        *,
        output: type[T],
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> T: ...
    @overload
    async def ask(
        self,
        prompt: str,
        *,
        output: NoClass | None = None,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any: ...
    @abstractmethod
    async def ask(
        self,
        prompt: str,
        *,
        output: Any = None,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """Ask the agent's model, with the agent's instructions as system message, in a conversation of its own.

        Args:
            prompt: the user message.
            output: type of the answer; None: the agent's ``output``.
            tools: what the model may call before it answers; None: the agent's ``tools``.
            sampling: None: the agent's.
            max_tokens: tokens of one answer at most; None: the agent's.

        Returns the text where the type is ``str`` (also when ``max_tokens`` cut it: the ``TurnCompleted`` event says
        ``length``), else the value that pydantic made of the JSON that the model was held to.

        Raises OutputInvalid once the retries are used up; ToolError where a tool raised; ContextOverflow, NeverFits,
        QueueFull, QueueTimeout, LimitExceeded, ModelNotFound, RequestInvalid, EngineError; ConfigError in a pipeline
        function, which has no model, and for a type or tool that cannot be described. Cancelled, it ends its turn in
        the engine first.
        """

    @abstractmethod
    def stream(
        self,
        prompt: str,
        *,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> AsyncGenerator[str, None]:
        """As ``ask`` for a text, but piece by piece as it is generated: the answer's text only, without reasoning and
        calls of tools. A typed answer is whole or not at all: ConfigError if the agent's ``output`` is not ``str``."""

    @abstractmethod
    def before(self, target: Any) -> Run:
        """This ctx, with word that ``target`` is going to be run next in this run: while what is run with the ctx that
        is returned still decodes, the next one's model is uploaded. ``sequence`` and ``loop`` say so by themselves.

        ::

            plan = await ctx.before(Coder).run(Planner, task)
            code = await ctx.run(Coder, plan)
        """

    @abstractmethod
    async def call(self, tool: Any, /, **arguments: Any) -> Any:
        """Run a tool as a step of the run: counted, reported, and in a durable run not repeated when it is resumed. It
        is the program that calls it, so nobody is asked for approval.

        Returns what the tool returns, in a resumed run as JSON brings it back. Raises what it raises, and ToolInDoubt.
        """

    # An agent's class, one of its instances, or a pipeline function. The type checker takes arguments and result from
    # the agent's own `run`, or from the function; without an own `run`, the result is of the agent's `output`. A union
    # of class and instance in one overload would be shorter, but pyright cannot solve a ParamSpec through it.
    @overload
    async def run(self, target: Callable[[], SupportsRun[P, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def run(self, target: SupportsRun[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def run(
        self, target: Callable[Concatenate[Run, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    async def run(self, target: Callable[[], AsksOnce[T]], prompt: str, /) -> T: ...
    @overload
    async def run(self, target: AsksOnce[T], prompt: str, /) -> T: ...
    @overload
    async def run(self, target: Callable[[], AsksOther] | AsksOther, prompt: str, /) -> Any: ...
    @abstractmethod
    async def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run another agent or pipeline function in this run, and return what it returns.

        Raises what it raises, and ConfigError if ``target`` is neither.
        """


class Session(ABC):
    """A conversation that goes on: what was said so far is part of each next prompt, and its KV cache is kept.

    Its questions are asked one after the other, also where several tasks ask at once. A question that fails or is
    cancelled leaves no trace in it.
    """

    @property
    @abstractmethod
    def messages(self) -> tuple[Message, ...]:
        """What was said, oldest first, the system message left out."""

    @abstractmethod
    async def ask(
        self,
        prompt: str,
        *,
        output: Any = None,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """See ``Run.ask``; the question and its answer become part of the conversation."""

    @abstractmethod
    def stream(
        self,
        prompt: str,
        *,
        tools: Sequence[Any] | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> AsyncGenerator[str, None]:
        """See ``Run.stream``; an answer whose iteration is ended early becomes no part of the conversation."""

    @abstractmethod
    def clear(self) -> None:
        """Forget what was said."""


class SupportsRun(Protocol[P, T_co]):
    """For the type checker: an agent with a ``run`` of its own."""

    def run(self, ctx: Run, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]:
        """Do the work within ``ctx``."""
        ...


class AsksOnce(Protocol[T_co]):
    """For the type checker: an agent without a ``run`` of its own whose ``output`` is a class.

    ``run`` is a mutable attribute here, whose type must be matched exactly, so that no method written by a user does:
    a coroutine function gives a Coroutine, which is more than the Awaitable that ``Agent.run`` is declared to give.
    """

    run: Callable[..., Awaitable[Any]]

    @property
    def output(self) -> type[T_co]:
        """The type of its answer."""
        ...


class AsksOther(Protocol):
    """For the type checker: such an agent whose ``output`` is a type but no class, as ``int | None`` is."""

    run: Callable[..., Awaitable[Any]]

    @property
    def output(self) -> NoClass:
        """The type of its answer."""
        ...


class Agent:
    """A task for one model, declared by class attributes. Instances hold no run state: one may run many times at once.

    ::

        class Planner(Agent):
            model = "planner"
            instructions = "Answer with a short numbered plan."
            output = Plan

    Override ``run`` for more than one question; it may take whatever arguments it likes after ``ctx``.
    """

    model: ClassVar[str] = ""
    """A name that the runtime, the configuration or the registry knows, a GGUF file's path, or
    ``hf:owner/repo:file.gguf``. What is not loaded yet is loaded when it is first asked."""
    instructions: ClassVar[str] = ""
    """System message; none is sent if this is empty and no schema is shown."""
    # Without an annotation: pyright would take it for all subclasses' attributes too, and not see what they set.
    output = cast(Any, str)
    """Type of the answer: ``str``, or anything pydantic validates, to which generation is then held by a grammar."""
    tools: ClassVar[Sequence[Any]] = ()
    """What the model may call before it answers: functions, ``Tool``s, other agents and pipeline functions."""
    tool_choice: ClassVar[str] = "auto"
    """Whether the first turn of a question calls: ``auto`` (as the model likes), ``required``, ``none``, or the name of
    the tool that it must call. From the second turn on it is ``auto``."""
    tool_rounds: ClassVar[int] = 16
    """Turns with calls of tools in one question; then the model has to answer."""
    sampling: ClassVar[SamplingParams] = SamplingParams()
    max_tokens: ClassVar[int] = 512
    """Tokens of one answer at most."""
    stop: ClassVar[tuple[str, ...]] = ()
    """Texts that end an answer; they are not part of it."""
    retries: ClassVar[int] = 2
    """Further turns, with the error fed back, for an answer that does not validate."""
    show_schema: ClassVar[bool] = True
    """Add the JSON schema of ``output`` to the system message (not for ``str``)."""
    thinking: ClassVar[bool | None] = None
    """For models that reason before they answer, where their chat template has a switch for it: on or off; None: as the
    template has it. What a model reasoned is no part of its answer."""
    priority: ClassVar[int] = 0
    """Turns with a higher one go first."""

    if TYPE_CHECKING:
        run: Callable[..., Awaitable[Any]]  # see AsksOnce
    else:

        async def run(self, ctx: Run, /, *args: Any, **kwargs: Any) -> Any:
            """Ask the model once with the one argument as prompt; subclasses do as they like."""
            if len(args) != 1 or kwargs:
                raise TypeError(f"{type(self).__name__}.run takes one prompt; override run(self, ctx, ...) for more")
            return await ctx.ask(args[0])


def resolve(target: Any) -> tuple[str, Agent | None, Callable[..., Awaitable[Any]]]:
    """Name, agent (None for a pipeline function) and coroutine function of what is to be run.

    Raises ConfigError if it is no Agent class, no Agent and no function marked by ``@pipeline``.
    """
    if isinstance(target, type) and issubclass(target, Agent):
        target = target()
    if isinstance(target, Agent):
        return type(target).__name__, target, target.run
    if getattr(target, PIPELINE_MARK, False):
        return target.__name__, None, target
    hint = "; decorate the function with @pipeline" if callable(target) else ""
    raise ConfigError(f"{target!r} cannot be run: it is neither an Agent nor a pipeline function{hint}")


def first_model(target: Any) -> str | None:
    """The model that is used first when ``target`` is run; None where that is not declared."""
    first = target
    while (within := getattr(first, FIRST_MARK, None)) is not None:
        first = within
    declares = isinstance(first, Agent) or (isinstance(first, type) and issubclass(first, Agent))
    return first.model or None if declares else None
