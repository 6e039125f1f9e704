"""The bench of paging: its plan and arithmetic, models in real shapes, and one small run of everything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agentmux.bench.gguf_writer import tokenizer_of
from agentmux.bench.paging import Settings
from agentmux.bench.paging_plan import bound_first_token_s, missing_bytes, steps
from agentmux.bench.paging_report import PagingReport, Repetition, Summary, TurnNumbers, summarised
from agentmux.bench.shapes import SHAPES, shape_bytes, write_shape
from agentmux.cli.main import run
from agentmux.engine.base import EngineConfig, LoadSpec
from agentmux.engine.native import NativeEngine
from agentmux.errors import ConfigError, ModelCorrupt, ModelNotFound
from agentmux.models import bundled_models

CODER = str(bundled_models()["coder"].path)
THREE = ("random:tiny",) * 3


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    yield
    structlog.reset_defaults()


def test_equal_shares_are_a_cycle_and_agents_take_turns() -> None:
    plan = steps(8, (1, 1, 1), agents=2)
    assert [step.model for step in plan] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [step.following for step in plan] == [1, 2, 0, 1, 2, 0, 1, 2]
    assert [step.agent for step in plan] == [0, 0, 0, 1, 1, 1, 0, 0]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(sum), st.integers(1, 80))
def test_each_model_has_its_share_at_any_time(use: list[int], n_turns: int) -> None:
    plan = steps(n_turns, use, agents=1)
    for n in range(1, n_turns + 1):
        had = Counter(step.model for step in plan[:n])
        assert all(abs(had[m] - n * share / sum(use)) < len(use) for m, share in enumerate(use))


def test_shares_that_say_nothing_are_refused() -> None:
    for use in ((0, 0), (1, -1), ()):
        with pytest.raises(ConfigError):
            steps(3, use, agents=1)


def test_what_cannot_be_there_when_the_model_before_ends() -> None:
    assert missing_bytes(100, 60, 60) == 20
    assert missing_bytes(120, 60, 60) == 0
    assert missing_bytes(50, 60, 60) == 60
    assert missing_bytes(50, 60, None) == 10
    assert missing_bytes(100, 60, None) == 0
    assert bound_first_token_s(0.05, 20, 100) == 0.2
    assert bound_first_token_s(0.05, 1, 100) == 0.05


@pytest.mark.parametrize(("name", "gigabytes"), [("llama3-8b", 4.52), ("qwen3-8b", 4.61), ("mistral-7b", 4.08)])
def test_shapes_are_as_large_as_the_models_they_stand_for(name: str, gigabytes: float) -> None:
    assert shape_bytes(name) / 1e9 == pytest.approx(gigabytes, abs=0.01)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_llama_cpp_runs_each_architecture(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With widths cut down: what is written must be what its architecture asks for."""
    full = SHAPES[name]
    small = {"layers": 2, "width": 64, "inner": 96, "heads": 2, "kv_heads": 1, "head_width": 32, "vocabulary": 128}
    shape = type(full)(**{field: getattr(full, field) for field in full.__slots__} | small)
    monkeypatch.setattr("agentmux.bench.shapes.SHAPES", {name: shape})
    path = tmp_path / "m.gguf"
    assert write_shape(name, str(path), seed=3) == path.stat().st_size
    engine = NativeEngine(EngineConfig("cpu", threads=1))
    footprint = engine.load(LoadSpec("m", str(path), 256, 1, 64))
    engine.close()
    assert footprint.architecture == full.architecture


def test_a_given_tokenizer_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_shape("tiny", str(path), tokenizer=CODER)
    assert tokenizer_of(str(path)) == tokenizer_of(CODER)
    engine = NativeEngine(EngineConfig("cpu", threads=1))
    assert engine.load(LoadSpec("m", str(path), 256, 1, 64)).vocabulary_tokens == tokenizer_of(CODER)[1]
    engine.close()


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        tokenizer_of(str(tmp_path / "absent"))
    whole = Path(CODER).read_bytes()
    for cut in (b"no GGUF", whole[:6], whole[:400]):
        path = tmp_path / "cut"
        path.write_bytes(cut)
        with pytest.raises(ModelCorrupt):
            tokenizer_of(str(path))
    write_shape("tiny", str(tmp_path / "ids"))
    with pytest.raises(ModelCorrupt, match="no tokenizer"):
        tokenizer_of(str(tmp_path / "ids"))


def test_settings_that_cannot_be_measured_are_refused() -> None:
    for wrong in ({"tokens": 1}, {"contenders": ("paged", "other")}, {"use": (1, 2)}):
        with pytest.raises(ConfigError):
            Settings(THREE, 5_000_000, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no shape"):
        write_shape("other", "/nowhere")


def test_one_run_of_everything(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target, svg = tmp_path / "paging.json", tmp_path / "paging.svg"
    command = ["bench", "paging", *THREE, "--device-bytes", "5000000", "--threads", "1", "--alone", "2"]
    sizes = ["--turns", "6", "--repetitions", "2", "--prompt-tokens", "32", "--tokens", "8"]
    assert run([*command, *sizes, "--json", str(target), "--svg", str(svg)]) == 0
    assert "resident" in capfd.readouterr().out
    report = PagingReport.model_validate_json(target.read_text())
    assert [one.contender for one in report.summaries] == ["paged", "resident", "reload", "static"]
    assert report.arena_bytes <= 5_000_000 < sum(model.weight_bytes for model in report.models)
    paged, resident = report.summaries[:2]
    assert paged.uploaded_bytes_per_turn > 0
    assert resident.uploaded_bytes_per_turn == 0
    assert paged.bound_tokens_per_s is not None
    assert {(one.contender, one.phase) for one in report.singles} == {
        (contender, phase) for contender in ("engine", "plain") for phase in ("prefill", "decode")
    }
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


def test_kept_sessions_are_not_computed_again(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "paging", "random:tiny", "random:tiny", "--device-bytes", "3000000", "--threads", "1"]
    sizes = ["--turns", "8", "--repetitions", "1", "--prompt-tokens", "32", "--tokens", "8", "--agents", "2"]
    assert run([*command, *sizes, "--contenders", "paged", "--json", "-"]) == 0
    report = json.loads(capfd.readouterr().out)
    turns = report["repetitions"][0]["turns"]
    returning = [turn for turn in turns if turn["prompt_tokens"] > turn["new_tokens"]]
    assert len(returning) == 4
    # The last token of an answer has not been through the model when the next turn comes.
    assert all(turn["prompt_tokens"] - turn["new_tokens"] - turn["reused_tokens"] == 1 for turn in returning)
    # Two agents and one slot: each brings its session back, and the other's goes.
    kv_bytes = {size["model"]: size["kv_bytes_per_token"] for size in report["models"]}
    for turn in returning:
        assert turn["session_bytes"] >= turn["reused_tokens"] * kv_bytes[turn["model"]]
        assert turn["displaced_bytes"] > 0
    began = [turn for turn in turns if turn not in returning]
    assert not any(turn["session_bytes"] for turn in began)
    assert [turn["displaced_bytes"] > 0 for turn in began] == [False, False, True, True]
    (paged,) = report["summaries"]
    assert paged["returning_of_needed"] > 0


def _turn(first_token_s: float, reused: int, back: int, away: int) -> TurnNumbers:
    return TurnNumbers(
        model="m",
        agent=0,
        begin_s=0,
        first_token_s=first_token_s,
        whole_s=10,
        prompt_tokens=100,
        new_tokens=50,
        reused_tokens=reused,
        tokens=8,
        upload_wait_s=0,
        uploaded_bytes=0,
        bound_first_token_s=None,
        session_bytes=back,
        displaced_bytes=away,
    )


def test_returning_sessions_are_held_against_what_their_bytes_need() -> None:
    empty, displacing, returning = _turn(1.0, 0, 0, 0), _turn(7.0, 0, 0, 200), _turn(6.0, 49, 200, 200)

    def summary(*turns: TurnNumbers, link: float = 100) -> Summary:
        whole = Repetition(
            contender="paged",
            repetition=0,
            whole_s=10,
            uploaded_bytes=0,
            peak_device_bytes=None,
            energy_j=None,
            turns=turns,
        )
        return summarised([whole], {}, link)[0]

    found = summary(empty, displacing, returning)
    assert (found.empty_first_token_s, found.returning_first_token_s, found.returning_of_needed) == (1.0, 6.0, 2.0)
    assert summary(empty, displacing, returning, link=0).returning_of_needed is None
    assert summary(empty, displacing).returning_first_token_s is None
    assert summary(displacing, returning).empty_first_token_s is None
