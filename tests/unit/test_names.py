"""Which file a name stands for: the order in which names are looked up, and what is said where there is none."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux.config import ModelSpec, RuntimeConfig
from agentmux.errors import ConfigError, ModelCorrupt, ModelError, ModelNotFound
from agentmux.models import Entry, Names, Registry, bundled_models, named, resolve, resolve_all
from agentmux.models.hub import Hub, HubName, Pulled

HERE = {"AGENTMUX_HOME": "home"}
WORDS = ("coder", "planner", "mine", "other")


class NoHub(Hub):
    """Answers each pull with a file of the name that was asked for."""

    def pull(self, name: HubName) -> Pulled:
        return Pulled(Path("/hub") / name.text, 1, None)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder and home of nobody else's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTMUX_HOME", str(tmp_path / "home"))
    return tmp_path


def names(
    folder: Path, explicit: Any = None, configured: Any = None, registered: dict[str, str] | None = None
) -> Names:
    def specs(values: dict[str, str]) -> dict[str, ModelSpec]:
        return {name: ModelSpec(path) for name, path in values.items()}

    registry = Registry({"AGENTMUX_HOME": str(folder / "home")})
    for name, path in (registered or {}).items():
        registry.add(name, Entry(path=path))
    return Names(specs(explicit or {}), specs(configured or {}), registry, NoHub())


def files(folder: Path) -> dict[str, str]:
    """A file for each that may know a name."""
    made = {level: str(folder / f"{level}.gguf") for level in ("explicit", "configured", "registered")}
    for path in made.values():
        Path(path).touch()
    return made


@given(
    name=st.sampled_from(WORDS),
    levels=st.sets(st.sampled_from(["explicit", "configured", "registered"])),
    there=st.booleans(),
)
def test_the_first_that_knows_a_name_decides(name: str, levels: set[str], there: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        made = files(folder)
        found = names(folder, **{level: {name: made[level]} for level in levels})
        if there:
            Path(name).touch()
        for level in ("explicit", "configured", "registered"):
            if level in levels:
                assert found.resolve(name).path == made[level]
                return
        if name in bundled_models():
            assert found.resolve(name) == bundled_models()[name]
        elif there:
            assert found.resolve(name).path == name
        else:
            with pytest.raises(ModelNotFound):
                found.resolve(name)
    finally:
        shutil.rmtree(folder)
        Path(name).unlink(missing_ok=True)


@given(data=st.data())
def test_names_may_stand_for_names_and_never_go_in_circles(data: Any) -> None:
    """Whatever tables say of each other, a name is a file, a bundled model, or unknown."""
    table = st.dictionaries(st.sampled_from(WORDS), st.sampled_from(WORDS))
    found = Names(
        *({name: ModelSpec(to) for name, to in data.draw(table).items()} for _ in range(2)),
        Registry({"AGENTMUX_HOME": "/nowhere"}),
        NoHub(),
    )
    for name in WORDS:
        expected = found.configured.get(found.explicit.get(name, ModelSpec(name)).path, None)  # type: ignore[call-overload]
        target = str(expected.path if expected else found.explicit.get(name, ModelSpec(name)).path)
        if target in bundled_models():
            assert found.resolve(name) == bundled_models()[target]
        else:
            with pytest.raises(ModelNotFound, match=f"'{target}'"):
                found.resolve(name)


def test_settings_nearer_to_the_user_go_first(folder: Path) -> None:
    made = files(folder)
    found = names(folder)
    found.registry.add("qwen", Entry(path=made["registered"], context_tokens=8192, slots=4, batch_tokens=64))
    explicit = {"a": ModelSpec("qwen", slots=2), "b": ModelSpec("qwen")}
    found = Names(explicit, {}, found.registry, NoHub())
    assert found.resolve("a") == ModelSpec(made["registered"], 8192, 2, 64)
    assert found.resolve("b") == ModelSpec(made["registered"], 8192, 4, 64)


def test_paths(folder: Path) -> None:
    found = names(folder, registered={"plain": files(folder)["registered"]})
    for path in ("sub/x.gguf", "x.gguf", "sub/without", "x.GGUF", "plain"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    for path in ("sub/x.gguf", "./x.gguf", "x.gguf", "sub/without", "x.GGUF", "./plain"):
        assert found.resolve(path).path == path
    assert found.resolve("plain").path == files(folder)["registered"]  # the registry's, not the file of that name


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    Path("x.gguf").touch()
    assert names(folder).resolve("~/x.gguf").path == f"{folder}/x.gguf"


@pytest.mark.parametrize(
    "name", ["hf:owner/repo:*Q4_K_M.gguf", "hf:owner/repo/sub/x.gguf", "hf:owner/repo", "owner/repo:Q4_K_M"]
)
def test_the_hub_comes_last(folder: Path, name: str) -> None:
    found = names(folder, explicit={"m": name})
    assert str(found.resolve(name).path) == f"/hub/{name}"
    assert str(found.resolve("m").path) == f"/hub/{name}"
    if not name.startswith("hf:"):
        Path(name).parent.mkdir()
        Path(name).touch()
        assert found.resolve(name).path == name


@pytest.mark.parametrize("name", ["hf:", "hf:owner", "hf:owner/repo:", "hf:../repo:x", "hf:owner/repo@:x"])
def test_what_is_no_hub_name(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no name on the hub"):
        names(folder).resolve(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("codr", "did you mean 'coder'?"),
        ("qwen2", "did you mean 'qwen'?"),
        ("zzz", "there are: coder, critic, planner, qwen"),
        ("zzz", "agentmux models add"),
        ("no/such.gguf", "no/such.gguf: no such file"),
        ("Qwen/Qwen3-8B-GGUF", "hf:Qwen/Qwen3-8B-GGUF"),
        ("", "no model named ''"),
    ],
)
def test_an_unknown_name_is_told_with_what_is_near(folder: Path, name: str, told: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        names(folder, registered={"qwen": "/q.gguf"}).resolve(name)
    assert told in str(caught.value)


def test_a_registered_file_that_is_gone_or_changed_is_told(folder: Path) -> None:
    found = names(folder)
    (folder / "x.gguf").write_bytes(b"12345")
    found.registry.add("x", Entry(path=str(folder / "x.gguf"), size_bytes=5))
    assert found.resolve("x").path == str(folder / "x.gguf")
    (folder / "x.gguf").write_bytes(b"1234")
    with pytest.raises(ModelCorrupt, match="has 4 bytes, not 5"):
        found.resolve("x")
    (folder / "x.gguf").unlink()
    with pytest.raises(ModelNotFound, match=r"gone.*agentmux models add x FILE"):
        found.resolve("x")


def test_resolve_reads_the_configuration_of_the_folder(folder: Path) -> None:
    Path("m.gguf").touch()
    Path("agentmux.toml").write_text('models.m = {path = "m.gguf", slots = 3}\nmodels.n = "m"')
    assert resolve("m", environ=HERE) == ModelSpec(f"{folder}/m.gguf", slots=3)
    assert named("m") == resolve("m")
    config = RuntimeConfig.make({}, models={"m": "coder", "o": "planner"})
    assert resolve("m", config=config, environ=HERE) == bundled_models()["coder"]
    assert resolve_all(config, HERE) == {"m": bundled_models()["coder"], "o": bundled_models()["planner"]}


def test_without_models_a_runtime_has_the_bundled_ones(folder: Path) -> None:
    everything = resolve_all(RuntimeConfig.make({}, config=False), HERE)
    assert {name: str(spec.path) for name, spec in everything.items()} == {
        name: str(spec.path) for name, spec in bundled_models().items()
    }
    assert resolve_all(RuntimeConfig.make({}, config=False, models={}), HERE) == {}


@given(name=st.text(min_size=1, max_size=30))
def test_any_text_is_a_model_or_a_clear_error(name: str) -> None:
    found = Names({}, {}, Registry({"AGENTMUX_HOME": "/nowhere"}), NoHub())
    with suppress(ModelError, ConfigError):
        assert isinstance(found.resolve(name), ModelSpec)
