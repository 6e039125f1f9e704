"""Declarations: what an agent is, and what it may ask of the run it is in. Nothing here holds a run's state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from agentmux.errors import ConfigError
from agentmux.messages import Usage
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

    @overload
    async def ask(
        self,
        prompt: str,
        *,
        output: type[T],
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> T: ...
    @overload
    async def ask(
        self,
        prompt: str,
        *,
        output: NoClass | None = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any: ...
    @abstractmethod
    async def ask(
        self,
        prompt: str,
        *,
        output: Any = None,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """Ask the agent's model once, with the agent's instructions as system message.

        Args:
            prompt: the user message.
            output: type of the answer; None: the agent's ``output``.
            sampling: None: the agent's.
            max_tokens: tokens of the answer at most; None: the agent's.

        Returns the text where the type is ``str`` (also when ``max_tokens`` cut it: the ``TurnCompleted`` event says
        ``length``), else the value that pydantic made of the JSON that the model was held to.

        Raises OutputInvalid once the retries are used up; ContextOverflow, NeverFits, QueueFull, QueueTimeout,
        LimitExceeded, ModelNotFound, RequestInvalid, EngineError; ConfigError in a pipeline function, which has no
        model, and for a type that cannot be generated. Cancelled, it ends its turn in the engine first.
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
    """A name that the runtime knows."""
    instructions: ClassVar[str] = ""
    """System message; none is sent if this is empty and no schema is shown."""
    # Without an annotation: pyright would take it for all subclasses' attributes too, and not see what they set.
    output = cast(Any, str)
    """Type of the answer: ``str``, or anything pydantic validates, to which generation is then held by a grammar."""
    sampling: ClassVar[SamplingParams] = SamplingParams()
    max_tokens: ClassVar[int] = 512
    """Tokens of one answer at most."""
    stop: ClassVar[tuple[str, ...]] = ()
    """Texts that end an answer; they are not part of it."""
    retries: ClassVar[int] = 2
    """Further turns, with the error fed back, for an answer that does not validate."""
    show_schema: ClassVar[bool] = True
    """Add the JSON schema of ``output`` to the system message (not for ``str``)."""

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
