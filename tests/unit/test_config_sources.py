"""Where settings come from: files, the environment, and which goes first; every error says where."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux import ConfigError, Limits, ModelSpec
from agentmux.config import JournalConfig, LogConfig, RuntimeConfig, is_path
from agentmux.config.settings import DERIVED, VARIABLES
from agentmux.config.sources import find_file

ENVIRON = {"HOME": "/nowhere"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(text: str, environ: dict[str, str] | None = None, /, **settings: Any) -> RuntimeConfig:
    Path("agentmux.toml").write_text(text, encoding="utf-8")
    return RuntimeConfig.make({**ENVIRON, **(environ or {})}, **settings)


def refused(text: str, environ: dict[str, str] | None = None, /, **settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        configured(text, environ, **settings)
    return str(caught.value)


def test_a_file_has_all_settings(folder: Path) -> None:
    made = configured("""
        vram = "8GiB"
        threads = 3
        host_bytes = 1000000
        contexts = 2
        oversize = "host"
        switches_per_quantum = 2
        log = "debug"
        [models]
        short = "short.gguf"
        [models.long]
        path = "sub/long.gguf"
        context_tokens = 8192
        slots = 4
        [limits]
        turns = 5
        tool_calls = 7
        [journal]
        path = "runs.db"
        max_age_days = 30
        max_runs = 100
    """)
    assert (made.vram, made.threads, made.host_bytes, made.contexts) == (8 << 30, 3, 1000000, 2)
    assert (made.oversize, made.switches_per_quantum, made.log) == ("host", 2.0, LogConfig("debug"))
    assert made.models == {
        "short": ModelSpec(f"{folder}/short.gguf"),
        "long": ModelSpec(f"{folder}/sub/long.gguf", 8192, 4),
    }
    assert made.limits == Limits(turns=5, tool_calls=7)
    assert made.journal == JournalConfig(f"{folder}/runs.db", True, 30, 100)
    assert (made.source, made.configured) == (folder / "agentmux.toml", made.models)


def test_keywords_go_before_the_environment_before_the_file_before_defaults() -> None:
    file = 'device = "CUDA0"\nthreads = 1\nqueue_limit = 2'
    made = configured(file, {"AGENTMUX_THREADS": "3", "AGENTMUX_QUEUE_LIMIT": "4"}, queue_limit=5)
    assert (made.device, made.threads, made.queue_limit, made.max_wait_s) == ("CUDA0", 3, 5, 10.0)


SCALARS: dict[str, list[Any]] = {
    "vram": [1, 2, 3],
    "device": ["a", "b", "c"],
    "threads": [1, 2, 3],
    "queue_limit": [1, 2, 3],
    "max_wait_s": [1.0, 2.5, 3.0],
    "debug_poison": [True, False, True],
}


@given(st.fixed_dictionaries({name: st.sets(st.sampled_from(range(3))) for name in SCALARS}))
def test_each_setting_has_its_first_source(given_in: dict[str, set[int]]) -> None:
    """For each setting any subset of sources: 0 keywords, 1 the environment, 2 the file."""
    lines = [f"{n} = {json.dumps(SCALARS[n][2])}" for n, where in given_in.items() if 2 in where]
    environ = {f"AGENTMUX_{n.upper()}": str(SCALARS[n][1]) for n, where in given_in.items() if 1 in where}
    made = configured("\n".join(lines), environ, **{n: SCALARS[n][0] for n, where in given_in.items() if 0 in where})
    plain = RuntimeConfig.make({}, config=False)
    for name, where in given_in.items():
        expected = SCALARS[name][min(where)] if where else getattr(plain, name)
        assert getattr(made, name) == expected, name


def test_tables_are_put_together_key_by_key() -> None:
    made = configured("limits = {turns = 5, tokens = 6}\nlog = 'info'", {"AGENTMUX_LIMITS_TOKENS": "7"})
    assert made.limits == Limits(turns=5, tokens=7)
    assert configured("log = 'info'", {"AGENTMUX_LOG_FORMAT": "json"}).log == LogConfig("info", "json")
    whole = configured("limits = {turns = 5}", {"AGENTMUX_LIMITS_TOKENS": "7"}, limits=Limits(wall_s=1.0))
    assert whole.limits == Limits(wall_s=1.0)


def test_keyword_models_take_the_place_of_the_files_which_stay_known(folder: Path) -> None:
    made = configured('models.a = "a.gguf"', models={"b": "b.gguf"})
    assert (set(made.models), set(made.configured)) == ({"b"}, {"a"})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a.gguf", "{folder}/a.gguf"),
        ("../a.gguf", "{folder}/../a.gguf"),
        ("/abs/a.gguf", "/abs/a.gguf"),
        ("~/a.gguf", "/nowhere/a.gguf"),
        ("$WEIGHTS/a.gguf", "/data/a.gguf"),
        ("${WEIGHTS}x.gguf", "/datax.gguf"),
        ("$$a.gguf", "{folder}/$a.gguf"),
        ("coder", "coder"),
        ("hf:owner/repo:*$Q4.gguf", "hf:owner/repo:*$Q4.gguf"),
        ("owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("./owner/repo:Q4_K_M", "{folder}/owner/repo:Q4_K_M"),
    ],
)
def test_paths_are_as_from_the_file(folder: Path, value: str, path: str) -> None:
    environ = {"WEIGHTS": "/data"}
    for line in (f"models.m = {value!r}", f"models.m = {{path = {value!r}, slots = 2}}"):
        assert configured(line, environ).models["m"].path == path.format(folder=folder)


@pytest.mark.parametrize("value", ["$WEIGHTS/a.gguf", "${", "a$"])
def test_variables_that_are_not_there(value: str) -> None:
    message = refused(f"models.m = {value!r}")
    assert "agentmux.toml: models.m: " in message
    assert value in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vrma = 3", ["'vrma' is not known", "did you mean 'vram'?"]),
        ("threads = '4'", ["threads: ", "'4'"]),
        ("threads = 0", ["threads: ", "0"]),
        ("threads = true", ["threads: ", "True"]),
        ("vram = 'lots'", ["vram: ", "'lots'"]),
        ("oversize = 'cpu'", ["oversize: ", "'cpu'"]),
        ("limits = {turn = 3}", ["limits: ", "'turn'", "'turns'"]),
        ("limits = {turns = 'x'}", ["limits: ", "turns='x'"]),
        ("limits = 3", ["limits: ", "3 is neither a table"]),
        ("models = 3", ["models: ", "3"]),
        ("models.m = 3", ["models.m: ", "3"]),
        ("models.m = {slots = 3}", ["models.m: ", "no path"]),
        ("models.m = {path = 'a.gguf', slot = 3}", ["models.m: ", "'slot'", "'slots'"]),
        ("models.m = ''", ["models.m: ", "empty"]),
        ("journal = 3", ["journal: ", "3"]),
        ("journal = {max_runs = 0}", ["journal: ", "max_runs=0"]),
        ("log = 'loud'", ["log: ", "level='loud'", "debug"]),
        ("source = 'x'", ["'source' is not known"]),
        ("configured.a = 'x'", ["'configured' is not known"]),
        ("threads = = 3", ["TOML", "line 1"]),
        ("a = " + "[" * 5000, ["TOML"]),
    ],
)
def test_what_a_file_cannot_mean_is_told_with_file_and_key(folder: Path, text: str, told: list[str]) -> None:
    message = refused(text)
    for part in (str(folder / "agentmux.toml"), *told):
        assert part in message, message


def test_a_file_that_is_no_text(folder: Path) -> None:
    (folder / "agentmux.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"agentmux.toml is no valid TOML"):
        RuntimeConfig.make(ENVIRON)


def test_what_is_wrong_comes_from_the_source_that_has_it() -> None:
    assert "AGENTMUX_THREADS='x': is not a whole number" in refused("threads = 3", {"AGENTMUX_THREADS": "x"})
    assert "AGENTMUX_LIMITS_TURNS='0': limits: " in refused("", {"AGENTMUX_LIMITS_TURNS": "0"})
    assert refused("threads = 3", threads=0).startswith("invalid runtime settings: threads: ")


def test_there_is_a_variable_for_each_scalar() -> None:
    names = {variable.keys[0] for variable in VARIABLES}
    assert names == set(RuntimeConfig.model_fields) - DERIVED - {"models"}
    assert len({variable.name for variable in VARIABLES}) == len(VARIABLES)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_each_variable_sets_its_setting(variable: Any) -> None:
    texts = ("7", "true", "stream", "warning", "json", "first")
    for text in texts:
        try:
            made = RuntimeConfig.make({variable.name: text}, config=False)
        except ConfigError:
            continue
        plain: Any = RuntimeConfig.make({}, config=False)
        if variable.keys == ("journal", "enabled"):
            assert made.journal == JournalConfig()
            return
        value: Any = made
        for key in variable.keys:
            value = getattr(value, key)
            plain = getattr(plain, key, None)
        assert str(value).lower() in (text, "7.0")
        assert value != plain
        return
    pytest.fail(f"{variable.name} took none of {texts}")


def test_an_empty_variable_is_not_set() -> None:
    assert RuntimeConfig.make({"AGENTMUX_THREADS": "", "AGENTMUX_CONFIG": ""}, config=False).threads is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("AGENTMUX_VRMA", "AGENTMUX_VRAM"),
        ("AGENTMUX_THREAD", "AGENTMUX_THREADS"),
        ("AGENTMUX_LIMIT_TURNS", "AGENTMUX_LIMITS_TURNS"),
        ("AGENTMUX_CONFG", "AGENTMUX_CONFIG"),
    ],
)
def test_misspelt_variables_are_errors(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is not known; did you mean {near}\?"):
        RuntimeConfig.make({name: "1"}, config=False)


@pytest.mark.parametrize(
    "name",
    [
        "AGENTMUX_SERVICE_HOST",
        "AGENTMUX_SERVICE_PORT",
        "AGENTMUX_SERVICE_PORT_HTTP",
        "AGENTMUX_PORT",
        "AGENTMUX_PORT_8080_TCP",
        "AGENTMUX_PORT_8080_TCP_ADDR",
        "AGENTMUX_PORT_8080_TCP_PORT",
        "AGENTMUX_PORT_8080_TCP_PROTO",
        "AGENTMUX_HOME",
        "AGENTMUX_LLAMA_ROOT",
        "AGENTMUX_BUILD_TESTS",
        "VRAM",
    ],
)
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert RuntimeConfig.make({name: "x"}, config=False) == RuntimeConfig.make({}, config=False)


def test_the_nearest_file_up_to_the_home_folder_holds(folder: Path) -> None:
    below = folder / "home" / "project" / "sub"
    below.mkdir(parents=True)
    environ = {"HOME": str(folder / "home")}

    def found() -> Path | None:
        file = find_file(environ, below)
        return file.path if file else None

    (folder / "agentmux.toml").touch()
    assert found() is None
    for place in (folder / "home", folder / "home" / "project", below):
        (place / "agentmux.toml").touch()
        assert found() == place / "agentmux.toml"


def test_a_pyproject_counts_if_it_has_our_table(folder: Path) -> None:
    project, below = folder / "pyproject.toml", folder / "sub"
    below.mkdir()
    (below / "pyproject.toml").write_text("[project]\nname = 'x'\ndependencies = ['agentmux']")
    project.write_text("[tool.agentmux]\nthreads = 3\nmodels.m = 'm.gguf'")
    file = find_file(ENVIRON, below)
    assert file is not None
    assert (file.path, file.table["threads"]) == (project, 3)
    assert file.table["models"] == {"m": f"{folder}/m.gguf"}


def test_two_files_in_one_folder_are_one_too_many(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.agentmux]")
    assert "keep one of them" in refused("")
    (folder / "pyproject.toml").write_text("[tool.other]")
    assert configured("threads = 2").threads == 2


def test_another_projects_damaged_file_is_not_our_affair(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project")
    assert find_file(ENVIRON, folder) is None
    (folder / "pyproject.toml").write_text("[tool.agentmux")
    with pytest.raises(ConfigError, match="no valid TOML"):
        find_file(ENVIRON, folder)


def test_the_file_can_be_named(folder: Path) -> None:
    other = folder / "sub" / "other.toml"
    other.parent.mkdir()
    other.write_text("threads = 5\nmodels.m = 'm.gguf'")
    (folder / "agentmux.toml").write_text("threads = 1")
    for named in (
        RuntimeConfig.make({"AGENTMUX_CONFIG": "sub/other.toml"}),
        RuntimeConfig.make(ENVIRON, config=other),
        RuntimeConfig.make({"AGENTMUX_CONFIG": "agentmux.toml"}, config="sub/other.toml"),
    ):
        assert (named.threads, named.models["m"].path) == (5, f"{folder}/sub/m.gguf")
    assert RuntimeConfig.make({"AGENTMUX_CONFIG": str(other)}, config=False).threads is None
    assert RuntimeConfig.make({"AGENTMUX_CONFIG": os.devnull}).threads is None
    with pytest.raises(ConfigError, match=r"gone.toml cannot be read: No such file"):
        RuntimeConfig.make({"AGENTMUX_CONFIG": "gone.toml"})


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_that_anyone_may_have_left_is_not_obeyed(folder: Path) -> None:
    file = folder / "agentmux.toml"
    file.write_text("threads = 1")
    os.chown(file, 12345, -1)
    assert RuntimeConfig.make(ENVIRON).threads == 1
    folder.chmod(0o1777)
    with pytest.raises(ConfigError, match="another user"):
        RuntimeConfig.make(ENVIRON)
    assert RuntimeConfig.make({"AGENTMUX_CONFIG": "agentmux.toml"}).threads == 1


def test_a_current_folder_that_was_removed(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert RuntimeConfig.make(ENVIRON).source is None


@given(st.text(max_size=20))
def test_what_begins_with_hf_is_no_path_and_what_begins_with_a_dot_and_slash_is(text: str) -> None:
    assert not is_path("hf:" + text)
    assert is_path("./" + text)


@given(st.text(alphabet="abz09-_", min_size=1))
def test_a_bare_word_is_no_path_until_it_ends_in_gguf(text: str) -> None:
    assert not is_path(text)
    assert is_path(text + ".gguf")
    assert is_path(text + "/" + text)
    assert not is_path(f"owner/repo:{text}")
    assert is_path(f"owner/repo:{text}.gguf")


@pytest.mark.parametrize("value", [True, False, "runs.db", {"max_runs": 3}, JournalConfig(max_runs=3)])
def test_a_journal_is_a_path_a_table_or_on_and_off(value: Any) -> None:
    made = RuntimeConfig.make({}, config=False, journal=value).journal
    expected = {True: JournalConfig(), False: JournalConfig(enabled=False), "runs.db": JournalConfig("runs.db")}
    assert made == (expected[value] if isinstance(value, bool | str) else JournalConfig(max_runs=3))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: JournalConfig(path=3),  # type: ignore[arg-type]
        lambda: JournalConfig(path=""),
        lambda: JournalConfig(enabled="yes"),  # type: ignore[arg-type]
        lambda: JournalConfig(max_age_days=-1),
        lambda: JournalConfig(max_runs=0),
        lambda: LogConfig(level="loud"),  # type: ignore[arg-type]
        lambda: LogConfig(format="xml"),  # type: ignore[arg-type]
        lambda: Limits(tool_calls=0),
        lambda: Limits(wall_s="1"),  # type: ignore[arg-type]
        lambda: ModelSpec("a\0b"),
        lambda: ModelSpec(3),  # type: ignore[arg-type]
    ],
)
def test_values_check_themselves(bad: Any) -> None:
    with pytest.raises(ConfigError):
        bad()
