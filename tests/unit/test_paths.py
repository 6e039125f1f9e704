"""Where agentmux keeps its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmux.errors import ConfigError
from agentmux.paths import home, journal_path


def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home({"AGENTMUX_HOME": "/srv/mux", "HOME": "/home/a"}) == Path("/srv/mux")
    assert home({"AGENTMUX_HOME": "", "HOME": "/home/a"}) == Path("/home/a/.agentmux")
    monkeypatch.chdir(tmp_path)
    assert home({"AGENTMUX_HOME": "here"}) == tmp_path / "here"
    monkeypatch.setenv("HOME", "/home/b")
    assert home({"AGENTMUX_HOME": "~/mux"}) == Path("/home/b/mux")
    assert home({}) == Path("/home/b/.agentmux")
    assert journal_path({"AGENTMUX_HOME": "/srv/mux"}) == Path("/srv/mux/journal.db")


def test_a_user_without_a_home_is_told_what_to_set() -> None:
    with pytest.raises(ConfigError, match="AGENTMUX_HOME"):
        home({"AGENTMUX_HOME": "~nobody-has-this-name/x"})
