"""Several AI agents, each bound to its own LLM, on one small GPU.

::

    class Planner(Agent):
        model = "planner"
        instructions = "Answer with a short numbered plan."

    async with Runtime(models={"planner": "planner.gguf"}, vram="8GiB") as mux:
        result = await mux.run(Planner, "sort the even numbers")
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentmux.public import *  # noqa: F403
    from agentmux.public import __all__ as __all__


FUNCTIONS = frozenset({"pipeline"})
"""For users these are functions; importing our modules of the same names must not hide them."""


class _Package(ModuleType):
    """The names lie in ``agentmux.public`` and are loaded when one of them is asked for: a command that needs none, or
    is interrupted before it gets there, should not wait for pydantic."""

    def __getattr__(self, name: str) -> object:
        from importlib import import_module
        from importlib.util import find_spec

        is_special = name.startswith("__") and name != "__all__"
        if is_special or (name not in FUNCTIONS and find_spec(f"{self.__name__}.{name}") is not None):
            # What is a module will be imported by whoever asks for it.
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        public = import_module("agentmux.public")
        vars(self).update({each: getattr(public, each) for each in (*public.__all__, "__all__")})
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in FUNCTIONS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        public: list[str] = getattr(self, "__all__")  # noqa: B009  # mypy thinks of the class
        return sorted({*vars(self), *public})


sys.modules[__name__].__class__ = _Package
