"""The bench: its arithmetic, its plain loop, and one small run of everything."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agentmux.bench import random_models
from agentmux.bench.engine import EngineContender, Settings
from agentmux.bench.plain_llama import PlainLlama
from agentmux.bench.report import PAGED, PLAIN, RESIDENT, Measurement, Report, compared
from agentmux.bench.workload import Shape, Workload
from agentmux.cli.main import run
from agentmux.engine.base import EngineConfig
from agentmux.errors import ConfigError, ModelNotFound
from agentmux.models import bundled_models

CODER = str(bundled_models()["coder"].path)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    yield
    structlog.reset_defaults()


def measured(contender: str, repetition: int, whole_s: float, compute_s: float) -> Measurement:
    return Measurement(
        model="m",
        contender=contender,
        slots=1,
        phase="decode",
        repetition=repetition,
        prompt_tokens=1,
        tokens=100,
        whole_s=whole_s,
        compute_s=compute_s,
        cpu_s=whole_s,
        same_output=True,
        uploaded_bytes=0,
        upload_wait_s=0,
    )


def test_ratios_are_taken_within_a_repetition() -> None:
    # The machine was half as fast in the second repetition, for both.
    plain = [measured(PLAIN, 0, 1.0, 0.8), measured(PLAIN, 1, 2.0, 1.6), measured(PLAIN, 2, 1.0, 0.8)]
    own = [measured(RESIDENT, 0, 1.0, 1.0), measured(RESIDENT, 1, 2.5, 1.6), measured(RESIDENT, 2, 1.25, 0.8)]
    (one,) = compared(plain + own)
    assert (one.whole.min, one.whole.median, one.whole.max) == (0.8, 0.8, 1.0)
    assert (one.compute.min, one.compute.median, one.compute.max) == (0.8, 1.0, 1.0)
    assert (one.plain_tokens_per_s, one.tokens_per_s) == (100, 80)


@given(slots=st.integers(1, 64), prompt=st.integers(1, 1000), tokens=st.integers(2, 100), batch=st.integers(64, 512))
def test_prompts_of_a_decode_go_into_one_batch(slots: int, prompt: int, tokens: int, batch: int) -> None:
    workload = Workload.decode(slots, prompt, tokens, batch)
    assert 1 <= workload.prompt_tokens <= prompt
    assert slots == 1 or slots * workload.prompt_tokens <= batch
    assert workload.tokens == slots * (tokens - 1)
    prompts = workload.prompts(1, 300)
    assert [len(p) for p in prompts] == [workload.prompt_tokens] * slots
    assert all(0 <= token < 300 for p in prompts for token in p)
    assert prompts != workload.prompts(2, 300)


@pytest.mark.parametrize("settings", [{"tokens": 1}, {"slots": (1, 300)}])
def test_what_cannot_be_measured_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Settings(("coder",), **settings)  # type: ignore[arg-type]


def test_an_unknown_random_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="random:llama-tiny"):
        random_models.write("random:what", tmp_path)


@pytest.mark.parametrize("slots", [1, 3])
def test_plain_loop_and_engine_give_the_same_tokens(slots: int) -> None:
    """Also for prompts of several batches, and for prompts that share one."""
    shape = Shape(context_tokens=256, slots=slots, batch_tokens=32, threads=2)
    engine = EngineContender(CODER, shape, EngineConfig("cpu", threads=2))
    plain = PlainLlama(CODER, shape)
    try:
        for workload in (Workload.prefill(slots, 70), Workload.decode(1, 70, 12, 32)):
            prompts = workload.prompts(1, plain.n_vocabulary)
            expected, got = plain.run(workload, prompts), engine.run(workload, prompts)
            assert got.answers == expected.answers
            for timing in (expected, got):
                assert [len(answer) for answer in timing.answers] == [workload.max_tokens] * workload.slots
                assert timing.whole_s > 0
                assert timing.compute_s > 0
            assert slots > 1 or expected.compute_s < expected.whole_s
    finally:
        engine.close()
        plain.close()


SMALL = ["random:llama-tiny", "--prompt-tokens", "40", "--tokens", "4", "--slots", "1,2", "--repetitions", "2"]


def test_a_small_run_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "engine", *SMALL, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = Report.model_validate_json(out)
    assert len(report.measurements) == 2 * 2 * 2 * 3
    every = itertools.product((1, 2), ("prefill", "decode"), (RESIDENT, PAGED))
    assert {(c.slots, c.phase, c.contender) for c in report.comparisons} == set(every)
    assert all(one.same_output for one in report.measurements if one.slots == 1)
    assert all((one.uploaded_bytes > 0) == (one.contender == PAGED) for one in report.measurements)
    (model,) = report.models
    assert model.paged_arena_bytes <= model.weight_bytes / 2 + 1
    assert report.machine.device == "CPU"
    assert report.machine.cores > 0
    assert report.versions.llama_cpp_python == "0.3.36"
    assert report.versions.llama_cpp
    assert "(" in report.versions.ggml


def test_table_and_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    small = [*SMALL[:-4], "--slots", "1", "--repetitions", "1", "--device-bytes", "3MiB"]
    assert run(["bench", "engine", *small, "--json", str(target)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "paged through" in out
    assert out.count("random:llama-tiny") == 5
    report = Report.model_validate(json.loads(target.read_text()))
    assert report.models[0].paged_arena_bytes <= 3 << 20


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "MODEL"),
        (["coder", "--slots", "0"], 2, "'0' is no list of numbers"),
        (["coder", "--slots", "1,x"], 2, "no list of numbers"),
        (["coder", "--tokens", "1"], 2, "--tokens"),
        (["coder", "--arena-share", "2"], 2, "--arena-share"),
        (["coder", "--device-bytes", "much"], 2, "not a size"),
        (["coder", "--slots", "1000"], 1, "1000 slots"),
        (["coder", "--device-bytes", "1"], 1, "budget"),
        (["no/such.gguf"], 1, "no such file"),
        (["random:what"], 1, "random:llama-tiny"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert run(["bench", "engine", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentmux: error: ")
    assert err.count("\n") == 1
    assert message in err
