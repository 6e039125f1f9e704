"""The registry: what is added is there, nothing is lost, and a damaged file is told and never overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmux.config import ModelSpec
from agentmux.errors import ConfigError, ModelNotFound
from agentmux.models import Entry, Registry
from agentmux.models import registry as module

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry({"AGENTMUX_HOME": str(tmp_path / "home")})


def written(registry: Registry, text: str) -> None:
    registry.path.parent.mkdir(exist_ok=True)
    registry.path.write_text(text, encoding="utf-8")


def test_what_is_added_is_there(registry: Registry) -> None:
    assert registry.entries() == {}
    entry = Entry(
        path="/a.gguf", source="hf:o/r:x", context_tokens=8, slots=2, size_bytes=3, sha256="0" * 64, added=WHEN
    )
    registry.add("a", entry)
    registry.add("b.2-x_y", Entry(path="/b.gguf"))
    assert registry.entries() == {"a": entry, "b.2-x_y": Entry(path="/b.gguf")}
    assert registry.entries()["a"].spec == ModelSpec("/a.gguf", 8, 2)
    assert registry.remove("a") == entry
    assert set(registry.entries()) == {"b.2-x_y"}


NAMES = st.sampled_from(["a", "b", "c.d", "e-f"])
STEPS = st.lists(st.tuples(st.sampled_from(["add", "replace", "remove"]), NAMES, st.integers(1, 5)), max_size=12)


@given(steps=STEPS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_it_is_a_dictionary_that_lasts(tmp_path: Path, steps: list[tuple[str, str, int]]) -> None:
    registry = Registry({"AGENTMUX_HOME": str(tmp_path)})
    registry.path.unlink(missing_ok=True)
    model: dict[str, Entry] = {}
    for what, name, slots in steps:
        entry = Entry(path=f"/{slots}.gguf", slots=slots) if slots % 2 else Entry(path="/x.gguf", context_tokens=slots)
        try:
            if what == "remove":
                assert registry.remove(name) == model.pop(name, None)
            else:
                registry.add(name, entry, replace=what == "replace")
                assert what == "replace" or name not in model
                model[name] = entry
        except ModelNotFound:
            assert what == "remove"
        except ConfigError:
            assert what == "add"
            assert name in model
        assert registry.entries() == model


def test_comments_and_order_stay(registry: Registry) -> None:
    written(
        registry,
        '# mine\n[models.z]  # the last\npath = "/z.gguf"\nslots = 3 # three\n\n[models.a]\npath = "/a.gguf"\n',
    )
    registry.add("m", Entry(path="/m.gguf"))
    registry.add("z", Entry(path="/z2.gguf", slots=4), replace=True)
    text = registry.path.read_text()
    for kept in ("# mine", "# the last", "# three"):
        assert kept in text
    assert text.index("models.z") < text.index("models.a") < text.index("models.m")
    registry.remove("m")
    assert registry.entries() == {"z": Entry(path="/z2.gguf", slots=4), "a": Entry(path="/a.gguf")}


def test_by_hand_a_path_is_enough(registry: Registry) -> None:
    written(registry, '[models]\na = "/a.gguf"\nb = "b.gguf"\n')
    home = registry.path.parent
    assert {name: entry.path for name, entry in registry.entries().items()} == {"a": "/a.gguf", "b": f"{home}/b.gguf"}
    registry.add("a", Entry(path="/a2.gguf"), replace=True)
    registry.add("c", Entry(path="/c.gguf"))
    found = registry.entries()
    assert (found["a"].path, found["b"].path, found["c"].path) == ("/a2.gguf", f"{home}/b.gguf", "/c.gguf")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[models.a\n", "line 1"),
        ('[models.a]\npath = "/a"\n\nslots = \n', "line 4"),
        ('[models.a]\npath = "/a"\n\nslots = 0\n', "line 4: models.a.slots"),
        ('\n[models."a"]\npath = 3\n', "line 3: models.a.path"),
        ('[models.a]\npath = "/a"\nslot = 3\n', "line 3: models.a.slot"),
        ("\n[models.a]\nslots = 3\n", "line 2: models.a.path"),
        ("[models]\n\na = 3\n", "line 3: models.a"),
        ('[models.a]\npath = "/a"\nsha256 = "x"\n', "line 3: models.a.sha256"),
        ("\n[model.a]\n", "line 2: 'model'"),
        ("models = 3\n", "'models'"),
        ("a = " + "[" * 5000, "damaged"),
    ],
)
def test_a_damaged_registry_is_told_with_its_line_and_left_alone(registry: Registry, text: str, told: str) -> None:
    written(registry, text)
    for change in (
        registry.entries,
        lambda: registry.add("x", Entry(path="/x.gguf"), replace=True),
        lambda: registry.remove("a"),
    ):
        with pytest.raises(ConfigError) as caught:
            change()
        assert str(registry.path) in str(caught.value)
        assert told in str(caught.value)
    assert registry.path.read_text() == text


def test_a_registry_that_is_no_text(registry: Registry) -> None:
    written(registry, "")
    registry.path.write_bytes(b"# one\n# \xff\n")
    with pytest.raises(ConfigError, match="line 2: no UTF-8"):
        registry.entries()


@pytest.mark.parametrize("name", ["", "a/b", "a.gguf", "A.GGUF", "hf:a", "a b", "-a", ".a", "a\n", "ä"])
def test_what_cannot_be_a_name(registry: Registry, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a model's name"):
        registry.add(name, Entry(path="/a.gguf"))
    assert not registry.path.exists()


def test_names_that_are_taken_or_not_there(registry: Registry) -> None:
    registry.add("a", Entry(path="/a.gguf"))
    with pytest.raises(ConfigError, match=r"registered already, as /a.gguf; --replace"):
        registry.add("a", Entry(path="/b.gguf"))
    with pytest.raises(ModelNotFound, match=r"no model 'b' .* there are: a"):
        registry.remove("b")


ADD_MANY = """
import sys
from agentmux.models import Entry, Registry
registry = Registry({"AGENTMUX_HOME": sys.argv[1]})
for i in range(10):
    registry.add(f"{sys.argv[2]}-{i}", Entry(path=f"/{i}.gguf"))
"""


def test_processes_that_add_at_once_lose_nothing(registry: Registry) -> None:
    home = str(registry.path.parent)
    adding = [subprocess.Popen([sys.executable, "-c", ADD_MANY, home, who]) for who in ("x", "y", "z")]
    assert [process.wait(timeout=120) for process in adding] == [0, 0, 0]
    assert set(registry.entries()) == {f"{who}-{i}" for who in ("x", "y", "z") for i in range(10)}
    assert sorted(os.listdir(home)) == ["models.lock", "models.toml"]


def test_a_lock_that_is_never_given_back_is_an_error(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.0)
    registry.path.parent.mkdir()
    with open(registry.path.with_suffix(".lock"), "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process has held"):
            registry.add("a", Entry(path="/a.gguf"))


def test_a_change_that_fails_leaves_the_old_file(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add("a", Entry(path="/a.gguf"))
    before = registry.path.read_text()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot be changed: No space left"):
        registry.add("b", Entry(path="/b.gguf"))
    assert registry.path.read_text() == before
    assert sorted(os.listdir(registry.path.parent)) == ["models.lock", "models.toml"]


def test_a_registry_that_is_a_link_stays_one(registry: Registry, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("# real\n")
    real.chmod(0o600)
    registry.path.parent.mkdir()
    registry.path.symlink_to(real)
    registry.add("a", Entry(path="/a.gguf"))
    assert registry.path.is_symlink()
    assert real.read_text().startswith("# real")
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    registry = Registry({"AGENTMUX_HOME": str(tmp_path / "file" / "home")})
    with pytest.raises(ConfigError, match=r"Not a directory"):
        registry.add("a", Entry(path="/a.gguf"))


@given(path=st.text(min_size=1, max_size=20), source=st.none() | st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_text_comes_back_or_is_refused(tmp_path: Path, path: str, source: Any) -> None:
    registry = Registry({"AGENTMUX_HOME": str(tmp_path)})
    before = registry.path.read_bytes() if registry.path.exists() else None
    try:
        registry.add("a", Entry(path="/" + path, source=source), replace=True)
    except ConfigError:
        assert (registry.path.read_bytes() if registry.path.exists() else None) == before
        return
    found = registry.entries()["a"]
    assert (Path(found.path), found.source) == (Path("/" + path), source)


def test_the_size_and_sum_of_a_split_model_are_of_all_parts(tmp_path: Path) -> None:
    import hashlib

    for part, data in ((1, b"one"), (2, b"two!")):
        (tmp_path / f"m-{part:05}-of-00002.gguf").write_bytes(data)
    first = tmp_path / "m-00001-of-00002.gguf"
    assert module.size_bytes(first) == 7
    assert module.sha256(first) == hashlib.sha256(b"onetwo!").hexdigest()
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    assert module.size_bytes(first) is None
