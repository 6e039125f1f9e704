"""docs/configuration.md: its file is accepted and has every key, its table every variable."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

from agentmux.config import JournalConfig, Limits, LogConfig, ModelSpec, RuntimeConfig
from agentmux.config.settings import DERIVED, VARIABLES

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
(FILE,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "agentmux.toml"
    path.write_text(FILE, encoding="utf-8")
    made = RuntimeConfig.make({}, config=path)
    assert made.vram == 7 << 30
    assert made.models["planner"].path == f"{tmp_path}/weights/planner.gguf"


def test_the_file_has_every_key() -> None:
    table = tomllib.loads(FILE)
    for_measurements = {"arena_bytes", "link_bytes_per_s", "debug_poison"}
    assert table.keys() == RuntimeConfig.model_fields.keys() - DERIVED - for_measurements
    assert all(f"`{name}`" in TEXT for name in for_measurements)
    for key, kind in (("limits", Limits), ("journal", JournalConfig), ("log", LogConfig)):
        assert table[key].keys() == {field.name for field in dataclasses.fields(kind)}
    assert table["models"]["coder"].keys() == {field.name for field in dataclasses.fields(ModelSpec)}


def test_the_table_has_every_variable() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ")]
    told = set(re.findall(r"`(AGENTMUX_[A-Z_]+)`", "\n".join(rows)))
    assert told - {"AGENTMUX_HOME", "AGENTMUX_CONFIG", "AGENTMUX_LLAMA_ROOT"} == {v.name for v in VARIABLES}
