"""``agentmux models add | list | pull | remove``, and that every command takes the names that they make."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
import structlog

from agentmux.cli.main import run
from agentmux.inspection import Inspection
from agentmux.models import BUNDLED_MODELS, Registry, bundled_models
from agentmux.models.listing import Row
from tests.unit.hub_server import HubServer, serving

CODER = Path(bundled_models()["coder"].path)
HUB_NAME = "hf:owner/repo:*Q8_0.gguf"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Current folder and home, with a model in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTMUX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    shutil.copy(CODER, tmp_path / "m.gguf")
    yield tmp_path
    structlog.reset_defaults()


@pytest.fixture
def capture(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``agentmux models ...`` and gives back its output."""

    def call(*arguments: str) -> str:
        assert run(["models", *arguments]) == 0, capsys.readouterr().err
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return call


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command that is to fail, and gives back what it said."""

    def call(*arguments: str, status: int = 1) -> str:
        assert run(["models", *arguments]) == status
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err.removeprefix("agentmux: error: ")

    return call


def listed(capture: Any, *arguments: str) -> dict[str, Row]:
    rows = [Row.model_validate(row) for row in json.loads(capture("list", "--json", *arguments))["models"]]
    return {f"{row.origin} {row.name}": row for row in rows}


def test_what_is_added_is_listed(capture: Any, folder: Path) -> None:
    out = capture("add", "mine", "m.gguf", "--context-tokens", "512", "--slots", "2", "--batch-tokens", "64")
    assert out == f"added mine: llama, 6.7 MiB, {folder}/m.gguf\n"
    row = listed(capture)["registry mine"]
    assert (row.state, row.architecture, row.training_context_tokens) == ("ok", "llama", 1024)
    assert (row.path, row.size_bytes, row.source) == (f"{folder}/m.gguf", CODER.stat().st_size, None)
    assert (row.context_tokens, row.slots, row.batch_tokens) == (512, 2, 64)
    assert row.sha256 == hashlib.sha256(CODER.read_bytes()).hexdigest()
    assert row.added is not None


def test_the_list_has_all_that_have_names(capture: Any, folder: Path) -> None:
    capture("add", "coder", "m.gguf", "--no-checksum")
    (folder / "agentmux.toml").write_text(
        f'[models]\nother = "coder"\nmissing = "gone.gguf"\ndamaged = "{folder}/agentmux.toml"\n'
    )
    rows = listed(capture)
    assert {key: row.state for key, row in rows.items()} == {
        "config damaged": "damaged",
        "config missing": "missing",
        "config other": "refers",
        "registry coder": "ok",
        **{f"bundled {name}": "ok" for name in BUNDLED_MODELS},
    }
    assert [key for key, row in rows.items() if row.hidden] == ["bundled coder"]
    assert rows["registry coder"].sha256 is None
    table = capture("list")
    assert all(line == line.rstrip() for line in table.splitlines())
    for word in ("damaged", "missing", "refers", "hidden", "qwen3", "6.7 MiB"):
        assert word in table


def test_a_changed_file_is_noticed(capture: Any, refuse: Any, folder: Path) -> None:
    capture("add", "mine", "m.gguf")
    with open("m.gguf", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    assert listed(capture)["registry mine"].state == "ok"
    assert listed(capture, "--verify")["registry mine"].state == "changed"
    with open("m.gguf", "ab") as file:
        file.write(b"\0")
    assert listed(capture)["registry mine"].state == "changed"
    assert "has changed" in refuse("inspect", "mine")
    assert "registered already" in refuse("add", "mine", "m.gguf")
    capture("add", "mine", "m.gguf", "--replace")
    assert listed(capture, "--verify")["registry mine"].state == "ok"


def test_inspect_takes_any_name_with_its_settings(capture: Any, folder: Path) -> None:
    capture("add", "mine", "m.gguf", "--context-tokens", "256", "--slots", "2")
    (folder / "agentmux.toml").write_text('models.conf = {path = "mine", slots = 3}')
    for name, tokens, slots in (("mine", 256, 2), ("conf", 256, 3), ("coder", 1024, 1), ("./m.gguf", 1024, 1)):
        found = Inspection.model_validate_json(capture("inspect", name, "--json"))
        assert (found.context_tokens, found.slots) == (tokens, slots), name
    found = Inspection.model_validate_json(capture("inspect", "mine", "--json", "--slots", "1"))
    assert (found.context_tokens, found.slots) == (256, 1)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["add", "mine", "gone.gguf"], 1, "gone.gguf: no such file"),
        (["add", "mine", __file__], 1, "no GGUF file"),
        (["add", "a/b", "m.gguf"], 1, "'a/b' cannot be a model's name"),
        (["add", "mine"], 2, "Missing argument"),
        (["add", "mine", "m.gguf", "--slots", "0"], 2, "--slots"),
        (["add", "mine", "hf:nonsense"], 1, "no name on the hub"),
        (["add", "mine", "coder"], 1, "coder: no such file"),
        (["remove", "mine"], 1, "no model 'mine' is registered"),
        (["remove", "coder"], 1, "no model 'coder' is registered"),
        (["pull", "mine"], 1, "no model named 'mine'"),
        (["pull", "coder"], 1, "coder.gguf, on no hub"),
        (["inspect", "mine"], 1, "no model named 'mine'"),
    ],
)
def test_errors_are_one_line(refuse: Any, arguments: list[str], status: int, told: str) -> None:
    assert told in refuse(*arguments, status=status)


def test_a_damaged_registry_is_told_by_every_command_and_stays(refuse: Any, folder: Path) -> None:
    registry = folder / "home" / "models.toml"
    registry.parent.mkdir()
    registry.write_text("[models.x]\npath = 3\n")
    for arguments in (["list"], ["add", "a", "m.gguf"], ["remove", "x"], ["pull", "x"], ["inspect", "x"]):
        message = refuse(*arguments)
        assert f"{registry} is damaged in line 2: models.x.path" in message
    assert registry.read_text() == "[models.x]\npath = 3\n"


def test_a_configuration_that_is_wrong_is_told(refuse: Any, folder: Path) -> None:
    (folder / "agentmux.toml").write_text("vrma = 3")
    assert "agentmux.toml: 'vrma' is not known" in refuse("list")


def test_a_file_is_deleted_only_if_asked(capture: Any, refuse: Any, folder: Path) -> None:
    capture("add", "mine", "m.gguf")
    assert capture("remove", "mine") == "removed mine from the registry\n"
    assert (folder / "m.gguf").exists()
    capture("add", "mine", "m.gguf")
    capture("add", "same", "./m.gguf")
    assert "is also the file of same" in refuse("remove", "mine", "--delete-file")
    assert set(Registry({"AGENTMUX_HOME": "home"}).entries()) == {"mine", "same"}
    capture("remove", "same")
    document = json.loads(capture("remove", "mine", "--delete-file", "--json"))
    assert document == {"name": "mine", "deleted": [f"{folder}/m.gguf"]}
    assert not (folder / "m.gguf").exists()
    assert CODER.exists()


def test_a_link_is_deleted_and_not_what_it_leads_to(capture: Any, folder: Path) -> None:
    (folder / "link.gguf").symlink_to(folder / "m.gguf")
    capture("add", "mine", "link.gguf")
    capture("remove", "mine", "--delete-file")
    assert (folder / "m.gguf").exists()
    assert not (folder / "link.gguf").is_symlink()


def test_a_split_model_by_any_of_its_parts(capture: Any, refuse: Any, folder: Path) -> None:
    parts = [folder / f"s-{part:05}-of-00002.gguf" for part in (1, 2)]
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_uint16("split.count", 2)
        writer.add_uint16("split.no", number)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    capture("add", "split", parts[1].name)
    row = listed(capture)["registry split"]
    assert (row.path, row.size_bytes) == (str(parts[0]), sum(part.stat().st_size for part in parts))
    capture("remove", "split", "--delete-file")
    assert not any(part.exists() for part in parts)
    parts[0].write_bytes(CODER.read_bytes()[:5000])
    assert "00002-of-00002.gguf: No such file" in refuse("add", "split", parts[0].name)


def test_the_bundled_name_is_free_to_be_taken_and_comes_back(capture: Any) -> None:
    assert "goes before the bundled model coder" in capture("add", "coder", "m.gguf")
    assert "coder is the bundled model again" in capture("remove", "coder")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with the demonstration model."""
    with serving() as state:
        state.files = {"x-Q8_0.gguf": CODER.read_bytes(), "mmproj-x-Q8_0.gguf": b"GGUF"}
        yield state


def on_hub(server: HubServer, folder: Path, *arguments: str) -> str:
    """In a process of its own: the hub's library reads its variables when it is imported."""
    code = "import os, sys; from agentmux.cli.main import main; main(sys.argv[1:])"
    environ = {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(folder / "hf"), "AGENTMUX_HOME": str(folder / "home")}
    run = [sys.executable, "-c", code, "models", *arguments]
    done = subprocess.run(run, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_from_the_hub(capture: Any, refuse: Any, server: HubServer, folder: Path) -> None:
    row = Row.model_validate_json(on_hub(server, folder, "add", "mine", HUB_NAME, "--slots", "2", "--json"))
    assert (row.source, row.state, row.slots, row.architecture) == (HUB_NAME, "ok", 2, "llama")
    assert row.sha256 == hashlib.sha256(CODER.read_bytes()).hexdigest()
    assert Path(row.path).is_relative_to(folder / "hf" / "hub")
    assert listed(capture, "--verify")["registry mine"].state == "ok"
    assert Inspection.model_validate_json(capture("inspect", "mine", "--json")).slots == 2  # without asking the hub

    server.files["x-Q8_0.gguf"] = Path(bundled_models()["critic"].path).read_bytes()
    server.commit = "a" * 40
    latest = json.loads(on_hub(server, folder, "pull", "mine", "--json"))["path"]
    row = listed(capture, "--verify")["registry mine"]
    assert (row.path, row.architecture, row.state, row.slots) == (latest, "qwen2", "ok", 2)
    assert latest != row.source

    blob = Path(latest).resolve()
    assert blob.parent.name == "blobs"
    capture("remove", "mine", "--delete-file")
    assert not blob.exists()
    assert not Path(latest).is_symlink()


def test_pull_takes_a_name_on_the_hub_or_of_the_configuration(server: HubServer, folder: Path) -> None:
    path = on_hub(server, folder, "pull", "owner/repo:Q8_0").strip()
    assert Path(path).read_bytes() == CODER.read_bytes()
    (folder / "agentmux.toml").write_text(f'models.m = "{HUB_NAME}"')
    assert on_hub(server, folder, "pull", "m").strip() == path
    assert not (folder / "home").exists()


def test_a_registered_file_is_on_no_hub(capture: Any, refuse: Any) -> None:
    capture("add", "mine", "m.gguf")
    assert "was added as a file" in refuse("pull", "mine")


def test_the_list_has_a_schema_that_says_what_each_field_is() -> None:
    assert all(field["description"] for field in Row.model_json_schema()["properties"].values())
