"""Every architecture that llama.cpp generates with: paged, greedy output equals plain llama.cpp's to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmux.engine.base import EngineConfig, LoadSpec
from agentmux.engine.native import NativeEngine
from agentmux.errors import ModelCorrupt, ModelUnsupported

from . import architecture_check, architectures
from .architecture_check import Row

TABLE = Path(__file__).parents[2] / "docs" / "architectures.md"

_measured: dict[str, Row] = {}


def _table_lines(heading: str) -> dict[str, str]:
    """[name] -> line, of the table under a heading."""
    section = TABLE.read_text().partition(heading)[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return {row.split("|")[1].strip(): row for row in rows}


@pytest.mark.parametrize("name", architectures.MODELS)
def test_paged_output_is_llama_cpps_to_the_bit(name: str, tmp_path: Path) -> None:
    row = _measured[name] = architecture_check.check(name, tmp_path)
    assert row.units >= 4, "too few units to page"
    assert row.same_tokens
    assert row.same_logits
    assert row.paged, "nothing was evicted"


def test_all_architectures_are_accounted_for() -> None:
    generating = {architectures.architecture(name) for name in architectures.MODELS}
    assert not generating & set(architectures.NOT_GENERATING)
    assert sorted(generating | set(architectures.NOT_GENERATING)) == sorted(architectures.known_to_llama_cpp())


@pytest.mark.parametrize("name", architectures.REFUSED)
def test_what_generates_no_text_is_refused(name: str, tmp_path: Path) -> None:
    """And does not end the process, which llama.cpp would over some of them."""
    assert name in architectures.NOT_GENERATING
    path = architectures.write(name, tmp_path)
    engine = NativeEngine(EngineConfig(device="cpu", threads=1))
    try:
        with pytest.raises((ModelUnsupported, ModelCorrupt)):
            engine.load(LoadSpec("m", str(path)))
    finally:
        engine.close()


def test_the_page_lists_every_architecture() -> None:
    assert tuple(_table_lines("# Architectures")) == architectures.MODELS
    assert tuple(_table_lines("## Without text")) == tuple(architectures.NOT_GENERATING)


def test_the_page_says_what_was_measured() -> None:
    """Of the models that this run computed: run last, it measures nothing itself."""
    if not _measured:
        pytest.skip("no architecture was computed in this run")
    written = _table_lines("# Architectures")
    stale = [name for name, row in _measured.items() if written.get(name) != architecture_check.line(row)]
    assert not stale, "python -m tests.engine.architecture_check > docs/architectures.md"
