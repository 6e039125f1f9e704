"""``agentmux models inspect``: what it prints, its document, and that its budgets are the ones that work."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
import structlog

from agentmux.cli.main import run
from agentmux.engine.base import EngineConfig, LoadSpec
from agentmux.engine.native import NativeEngine
from agentmux.errors import NeverFits
from agentmux.inspection import Inspection
from agentmux.models import bundled_models

CODER = str(bundled_models()["coder"].path)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    yield
    structlog.reset_defaults()


def inspected(capsys: pytest.CaptureFixture[str], *arguments: str) -> Inspection:
    assert run(["models", "inspect", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return Inspection.model_validate_json(out)


def test_the_document_is_what_the_engine_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, CODER, "--context-tokens", "512", "--slots", "2")
    engine = NativeEngine(EngineConfig(device="cpu"))
    footprint = engine.load(LoadSpec(CODER, CODER, context_tokens=512, slots=2))
    engine.close()
    assert found.unit_bytes == footprint.unit_bytes
    assert found.chat_template is True
    apart = {"unit_bytes", "chat_template", "min_arena_bytes"}  # the last with little room: see the budgets below
    same = set(Inspection.model_fields) & set(footprint.__dataclass_fields__) - apart
    assert len(same) > 8
    for name in same:
        assert getattr(found, name) == getattr(footprint, name), name


def test_the_types_are_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, "coder")
    tensors = gguf.GGUFReader(CODER).tensors
    assert found.file_bytes == Path(CODER).stat().st_size
    assert {share.type.upper(): share.tensors for share in found.types} == Counter(t.tensor_type.name for t in tensors)
    assert sum(share.bytes for share in found.types) == sum(int(t.n_bytes) for t in tensors)


def test_budgets_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, "coder")
    spec = LoadSpec("coder", CODER, context_tokens=found.context_tokens)
    for budget, arena in (
        (found.min_budget_bytes, found.min_arena_bytes),
        (found.resident_budget_bytes, found.weight_bytes),
    ):
        engine = NativeEngine(EngineConfig(device="cpu", device_bytes=budget))
        engine.load(spec)
        assert engine.stats().arena_bytes == arena
        engine.close()
    engine = NativeEngine(EngineConfig(device="cpu", device_bytes=found.min_budget_bytes - 1))
    with pytest.raises(NeverFits):
        engine.load(spec)
    engine.close()


def test_what_people_see_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "inspect", "coder", "--slots", "3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert all(line[16] == " " and line[17] != " " and line == line.rstrip() for line in lines)
    shown = {line[:17].strip(): line[17:] for line in lines}
    assert shown["model"] == "coder"
    assert shown["measured with"] == "context of 1024 tokens, 3 slots, on CPU"
    assert shown["vocabulary"] == "2048 tokens, with chat template"
    assert shown["smallest budget"].endswith("iB")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["no/such.gguf"], 1, "no/such.gguf: no such file"),
        ([__file__], 1, "magic"),
        (["coder", "--device", "XPU9"], 1, "no device XPU9"),
        ([], 2, "Missing argument 'MODEL'"),
        (["coder", "--slots", "0"], 2, "--slots"),
        (["coder", "--context-tokens", "-1"], 2, "--context-tokens"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert run(["models", "inspect", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentmux: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "inspect", "no/such.gguf", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_document_has_a_schema_that_says_what_each_field_is() -> None:
    schema = Inspection.model_json_schema()
    assert all(field["description"] for field in schema["properties"].values())
    json.dumps(schema)
