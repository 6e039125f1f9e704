"""The switch that keeps real engines out of tests: ``AGENTMUX_REAL_ENGINES=0`` in the environment."""

from __future__ import annotations

from collections.abc import Mapping

from agentmux.errors import EngineError

REAL_ENGINES_VARIABLE = "AGENTMUX_REAL_ENGINES"
_NO = frozenset({"0", "false", "no", "off", "forbid"})


def require_real_engines(environ: Mapping[str, str]) -> None:
    """To be called before an engine is made that loads models. Raises EngineError, naming the test that runs, where
    real engines are forbidden."""
    setting = environ.get(REAL_ENGINES_VARIABLE, "")
    if setting.strip().lower() not in _NO:
        return
    test = environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    raise EngineError(
        f"{f'{test} asked for a real engine' if test else 'a real engine was asked for'}, but "
        f"{REAL_ENGINES_VARIABLE}={setting} forbids them; pass Runtime(engine=ScriptedEngine(...))"
    )
