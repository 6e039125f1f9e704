"""For the tests of those who use agentmux: an engine that follows a script, and a clock that stands still.

::

    engine = ScriptedEngine({"planner": ['{"steps": ["sort"]}'], "coder": ["def f(x): ...", Failure("engine")]})
    async with Runtime(models=engine.models, engine=engine) as mux:
        result = await mux.run(write_code, "sort the even numbers")
    assert engine.calls[0].model == "planner"

``ByPrompt`` answers by what is asked, ``Cassette`` by what a real engine once answered, and ``forbid_real_engines``
keeps models out of tests. ``agentmux.testing.conformance`` holds the checks that any engine must pass. docs/testing.md
says more, and what fixtures the pytest plugin has.
"""

from agentmux.testing.cassette import Cassette
from agentmux.testing.clock import FakeClock, settle
from agentmux.testing.matching import ByPrompt, When
from agentmux.testing.real import forbid_real_engines
from agentmux.testing.scripted import ScriptedEngine
from agentmux.testing.steps import Answer, Failure, Refusal, Script, ScriptError, Step

__all__ = [
    "Answer",
    "ByPrompt",
    "Cassette",
    "Failure",
    "FakeClock",
    "Refusal",
    "Script",
    "ScriptError",
    "ScriptedEngine",
    "Step",
    "When",
    "forbid_real_engines",
    "settle",
]
