"""The pytest plugin: fixtures ``scripted``, ``fake_clock`` and ``agentmux_home``, and the switch for real engines.

pytest loads this in every project of an environment that agentmux is installed in. So it is installed as a package of
its own, ``agentmux_pytest``, and imports nothing of agentmux before a test uses a fixture.

Settings: ``agentmux_real_engines = forbid`` makes every real engine an error; ``@pytest.mark.agentmux_real_engines``
allows them to one test again. ``-p no:agentmux`` switches the plugin off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from agentmux.runtime import Runtime
    from agentmux.testing import FakeClock, ScriptedEngine

OPTION = "agentmux_real_engines"
VARIABLE = "AGENTMUX_REAL_ENGINES"


class Scripted(NamedTuple):
    """What the fixture ``scripted`` makes: the engine, to look at, and the runtime, to enter."""

    engine: ScriptedEngine
    runtime: Runtime


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's setting."""
    parser.addini(OPTION, "forbid: making a real (native) agentmux engine is an error in tests", default="allow")


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and the switch."""
    config.addinivalue_line("markers", f"{OPTION}: this test may make real agentmux engines")
    setting = config.getini(OPTION)
    if setting not in ("allow", "forbid"):
        raise pytest.UsageError(f"{OPTION} = {setting!r} makes no sense; it is allow or forbid")
    if setting == "forbid":
        environment = pytest.MonkeyPatch()
        environment.setenv(VARIABLE, "0")
        config.add_cleanup(environment.undo)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Allow real engines to a marked test, its fixtures included."""
    if VARIABLE not in os.environ or item.get_closest_marker(OPTION) is None:
        return (yield)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv(VARIABLE)
        return (yield)


@pytest.fixture
def scripted(request: pytest.FixtureRequest) -> Iterator[Callable[..., Scripted]]:
    """Makes engines that follow a script, each with a runtime: ``engine, mux = scripted({"planner": ["a plan"]})``.

    ``weight_bytes``, ``arena_bytes`` and ``strict`` go to the ScriptedEngine, everything else to the Runtime. After a
    test that has not failed, steps of a script that no turn asked for are an error.
    """
    from agentmux.runtime import Runtime
    from agentmux.testing import ScriptedEngine, ScriptError

    made: list[tuple[ScriptedEngine, bool]] = []
    failed = request.session.testsfailed

    def make(
        script: Any, *, weight_bytes: Any = None, arena_bytes: int | None = None, strict: bool = True, **settings: Any
    ) -> Scripted:
        engine = ScriptedEngine(script, weight_bytes=weight_bytes, arena_bytes=arena_bytes, strict=strict)
        made.append((engine, strict))
        return Scripted(engine, Runtime(**{"models": engine.models, "engine": engine, **settings}))

    yield make
    for engine, strict in made:
        with suppress(ScriptError):  # where the runtime was left by an exception, that was the one to be seen
            engine.close()
        if strict and request.session.testsfailed == failed:
            engine.assert_consumed()


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until it is told to move, for ``Runtime(clock=...)``."""
    from agentmux.testing import FakeClock

    return FakeClock()


@pytest.fixture
def agentmux_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own as ``AGENTMUX_HOME``, where registry and journal live."""
    home = tmp_path / "agentmux-home"
    home.mkdir()
    monkeypatch.setenv("AGENTMUX_HOME", str(home))
    return home
