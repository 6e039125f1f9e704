"""For the tests of those who use agentmux: an engine that follows a script, and a clock that stands still.

::

    engine = ScriptedEngine({"planner": ['{"steps": ["sort"]}'], "coder": ["def f(x): ...", Failure("engine")]})
    async with Runtime(models=engine.models, engine=engine) as mux:
        result = await mux.run(write_code, "sort the even numbers")
    assert engine.calls[0].model == "planner"

``agentmux.testing.conformance`` holds the checks that any engine must pass.
"""

from agentmux.testing.clock import FakeClock, settle
from agentmux.testing.scripted import Answer, Failure, Refusal, ScriptedEngine, ScriptError, Step

__all__ = ["Answer", "Failure", "FakeClock", "Refusal", "ScriptError", "ScriptedEngine", "Step", "settle"]
