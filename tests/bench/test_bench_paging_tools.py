"""The paging bench beside llama.cpp's own benches: real processes, with small programs in their place."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agentmux.bench.binaries import said_by, version_of
from agentmux.bench.engine import EngineContender
from agentmux.bench.llama_tools import llama_batched_bench, llama_bench
from agentmux.bench.paging import Settings, bench_paging
from agentmux.bench.paging_report import PagingReport, Single, ToolRun, beside_engine
from agentmux.bench.plain_llama import PlainLlama
from agentmux.bench.shapes import write_shape
from agentmux.bench.workload import Shape, Workload
from agentmux.cli.main import run
from agentmux.engine.base import EngineConfig
from agentmux.errors import ConfigError, EngineError

LIMIT_S = 60.0
"""Nothing takes that long unless it hangs."""
TOOL = """#!PYTHON
import argparse, json, os, signal, sys

MODE, FOLDER = "MODE_HERE", "FOLDER_HERE"
if sys.argv[1:] == ["--version"]:
    if MODE == "unlinked":
        print("llama-bench: error while loading shared libraries: libllama.so.0: cannot open", file=sys.stderr)
        sys.exit(127)
    if MODE == "old":
        print("error: invalid parameter for argument: --version", file=sys.stderr)
        sys.exit(1)
    print("version: 7 (made up)", file=sys.stderr)
    sys.exit()
name = os.path.basename(sys.argv[0])
with open(os.path.join(FOLDER, "record"), "a") as file:
    inherited = sorted(variable for variable in os.environ if variable.startswith("LLAMA_"))
    print(json.dumps({"name": name, "asked": sys.argv[1:], "process": os.getpid(), "inherited": inherited}), file=file)
if MODE == "fails":
    print("loading\\nllama-bench: error: failed to load model 'm'\\nbye", file=sys.stderr)
    sys.exit(3)
if MODE == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if MODE == "hangs":
    print("ready", flush=True)
    signal.sigwait([signal.SIGUSR1])
if MODE == "silent":
    sys.exit()
if MODE == "other":
    print("| model | size |\\n| tiny  | 5 MB |")
    sys.exit()
options = argparse.ArgumentParser(allow_abbrev=False)


def numbers(text):
    return [int(part) for part in text.split(",")]


if name == "llama-bench":
    for option in ("m", "dev", "ngl", "o"):
        options.add_argument("-" + option)
    for option in ("p", "n", "b", "ub", "t", "r"):
        options.add_argument("-" + option, type=int)
    options.add_argument("-d", type=numbers)
    options.add_argument("--repack", type=int)
    asked = options.parse_args()
    tests = [(asked.p, 0, d) for d in asked.d] + [(0, asked.n, d) for d in asked.d[: 1 if MODE == "less" else None]]
    print(json.dumps([{"n_prompt": p, "n_gen": n, "n_depth": d, "build_commit": "made up",
                       "samples_ns": [(p + n) * 20_000_000 * (1 + i) for i in range(asked.r)]} for p, n, d in tests]))
else:
    for option in ("-m", "--device", "-ngl", "--output-format"):
        options.add_argument(option)
    for option in ("-ntg", "-c", "-b", "-ub", "-t", "-lv"):
        options.add_argument(option, type=int)
    for option in ("-npp", "-npl"):
        options.add_argument(option, type=numbers)
    options.add_argument("--no-repack", action="store_true")
    asked = options.parse_args()
    print("llama_context: kv_unified            = KV_HERE", file=sys.stderr)
    for pp in asked.npp:
        for i, pl in enumerate(asked.npl[: 1 if MODE == "less" else None]):
            row = {"pp": pp, "tg": asked.ntg, "pl": pl, "speed_pp": 1000 + i, "speed_tg": 100 * pl + pp + i}
            print(json.dumps(row), end="\\n\\n")
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    yield
    structlog.reset_defaults()


def _tool(folder: Path, name: str = "llama-bench", mode: str = "well", unified: str = "false") -> str:
    text = TOOL.replace("PYTHON", sys.executable).replace("MODE_HERE", mode).replace("KV_HERE", unified)
    path = folder / name
    path.write_text(text.replace("FOLDER_HERE", str(folder)))
    path.chmod(0o755)
    return str(path)


def _record(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "record").read_text().splitlines()]


def _settings(**chosen: Any) -> Settings:
    return Settings(("random:tiny",), None, prompt_tokens=32, tokens=8, repetitions=2, **chosen)


def _bench(folder: Path, mode: str = "well", device: str = "CPU") -> tuple[list[Single], ToolRun]:
    shape = Shape(256, 1, 64, 3)
    return llama_bench(_tool(folder, mode=mode), "m.gguf", _settings(), shape, device, "7")


def _batched(
    folder: Path, mode: str = "well", device: str = "CPU", unified: str = "false", depth: int = 16
) -> tuple[list[Single], ToolRun]:
    binary = _tool(folder, "llama-batched-bench", mode, unified)
    return llama_batched_bench(binary, "m.gguf", _settings(), Shape(256, 4, 64, 3), depth, device, "7")


def test_llama_bench_is_asked_for_the_same_and_its_samples_are_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "7")
    singles, tool = _bench(tmp_path)
    # Each token takes 20 ms in the first repetition and 40 ms in the second.
    assert {(one.phase, one.depth_tokens) for one in singles} == {
        (phase, depth) for phase in ("prefill", "decode") for depth in (0, 32)
    }
    assert {(one.tokens_per_s, one.all_tokens_per_s) for one in singles} == {(37.5, (50, 25))}
    assert {(one.contender, one.slots) for one in singles} == {("llama-bench", 1)}
    (asked,) = _record(tmp_path)
    given = "-m m.gguf -p 32 -n 8 -d 0,32 -b 64 -ub 64 -t 3 -r 2 -dev none --repack 0 -o json"
    assert asked["asked"] == given.split()
    assert asked["inherited"] == []
    assert tool == ToolRun(
        tool="llama-bench",
        slots=1,
        version="7",
        command=(str(tmp_path / "llama-bench"), *given.split()),
        unified_kv=None,
    )


def test_the_first_of_llama_batched_benchs_runs_is_not_counted(tmp_path: Path) -> None:
    singles, tool = _batched(tmp_path)
    found = [(one.phase, one.slots, one.depth_tokens, one.all_tokens_per_s) for one in singles]
    assert found == [
        ("prefill", 4, 0, (1001, 1002)),
        ("decode", 4, 16, (417, 418)),
        ("decode", 4, 32, (433, 434)),
    ]
    given = "-m m.gguf -npp 16,32 -ntg 8 -npl 4,4,4 -c 1024 -b 64 -ub 64 -t 3 --device none --no-repack -lv 4"
    assert tool.command[1:] == (*given.split(), "--output-format", "jsonl")
    assert tool.unified_kv is False
    assert _batched(tmp_path, unified="true")[1].unified_kv is True
    assert _batched(tmp_path, unified="unheard of")[1].unified_kv is None


def test_prompts_that_all_go_into_one_batch_are_run_once(tmp_path: Path) -> None:
    singles, tool = _batched(tmp_path, depth=32)
    assert [(one.phase, one.depth_tokens) for one in singles] == [("prefill", 0), ("decode", 32)]
    assert tool.command[tool.command.index("-npp") + 1] == "32"


def test_on_a_gpu_every_layer_is_on_the_engines_device(tmp_path: Path) -> None:
    for option, (_, tool) in (
        ("-dev", _bench(tmp_path, device="CUDA1")),
        ("--device", _batched(tmp_path, device="CUDA1")),
    ):
        begin = tool.command.index(option)
        assert tool.command[begin : begin + 4] == (option, "CUDA1", "-ngl", "999")
        assert not any("repack" in part for part in tool.command)


@pytest.mark.parametrize("measure", [_bench, _batched])
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fails", r"failed \(exit status 3\); it said: llama-bench: error: failed to load model 'm'$"),
        ("killed", r"failed \(signal 9: Killed\)$"),
        ("silent", "not what this version of llama-[a-z-]+ should print; it said nothing$"),
        ("other", r"not what this version of llama-[a-z-]+ should print; it said: \| tiny  \| 5 MB \|$"),
        ("less", "not what this version of llama-[a-z-]+ should print; it said: "),
    ],
)
def test_what_goes_wrong_is_one_error_that_names_the_file(tmp_path: Path, measure: Any, mode: str, said: str) -> None:
    with pytest.raises(EngineError, match=rf"^{tmp_path}/llama-[a-z-]+:? {said}"):
        measure(tmp_path, mode)


def test_a_program_that_never_ends_is_given_up_and_ended(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="llama-bench: not done within 2 s"):
        said_by([_tool(tmp_path, mode="hangs")], limit_s=2)
    for begun in _record(tmp_path) if (tmp_path / "record").exists() else ():
        with pytest.raises(ProcessLookupError):
            os.kill(begun["process"], 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_the_program_ends_with_a_bench_that_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "record"
    os.mkfifo(fifo)
    text = f"from agentmux.bench.binaries import said_by; said_by([{_tool(tmp_path, mode='hangs')!r}])"
    with subprocess.Popen([sys.executable, "-c", text]) as bench:
        process = json.loads(fifo.read_text())["process"]
        handle = os.pidfd_open(process)
        bench.kill()
    ended = select.select([handle], [], [], LIMIT_S)[0]
    os.close(handle)
    assert ended


def test_files_that_cannot_be_run_and_slots_that_are_not_asked_for_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    for binary in (str(tmp_path / "absent"), str(tmp_path), str(text)):
        for option, slots in (("llama_bench", (1,)), ("llama_batched_bench", (8,))):
            with pytest.raises(
                ConfigError, match=rf"{binary}: no file that can be run; .* {option.replace('_', '-')}$"
            ):
                _settings(**{option: binary}, single_slots=slots)
    binary = _tool(tmp_path)
    for slots in ((), (8,)):
        with pytest.raises(ConfigError, match=r"in one slot.*--alone 1"):
            _settings(llama_bench=binary, single_slots=slots)
    for slots in ((), (1,)):
        with pytest.raises(ConfigError, match=r"in several slots.*--alone 8"):
            _settings(llama_batched_bench=binary, single_slots=slots)
    assert _settings(llama_bench=binary, llama_batched_bench=binary, single_slots=(1, 8)).single_slots == (1, 8)
    with pytest.raises(ConfigError, match="no model whose name has a comma"):
        llama_bench(binary, "a,b.gguf", _settings(), Shape(256, 1, 64, 3), "CPU", None)
    text.chmod(0o755)
    with pytest.raises(ConfigError, match="Exec format"):
        said_by([str(text)])


def test_a_program_that_cannot_start_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    binary = _tool(tmp_path, mode="unlinked")
    with pytest.raises(ConfigError, match=r"llama-bench cannot run \(exit status 127\); it said: .*libllama\.so\.0"):
        bench_paging(_settings(llama_bench=binary, single_slots=(1,)))
    assert version_of(_tool(tmp_path, mode="old"), "llama-bench") is None


def _one(contender: str, phase: str, slots: int, depth: int, rate: float) -> Single:
    return Single(
        contender=contender,
        phase=phase,
        slots=slots,
        depth_tokens=depth,
        tokens_per_s=rate,
        all_tokens_per_s=(rate,),
    )


def test_the_same_stands_beside_the_engine_with_its_share() -> None:
    engine = [
        _one("engine", "decode", 1, 0, 99),
        _one("engine", "prefill", 1, 0, 500),
        _one("engine", "decode", 8, 0, 3),
    ]
    others = [_one("llama-bench", "decode", 1, 512, 100), _one("llama-bench", "decode", 1, 0, 100)]
    found = [(one.contender, one.phase, one.engine_share) for one in beside_engine([*engine, *others])]
    assert found == [
        ("engine", "prefill", None),
        ("engine", "decode", None),
        ("llama-bench", "decode", 0.99),
        ("llama-bench", "decode", None),
        ("engine", "decode", None),
    ]


@pytest.mark.parametrize("slots", [1, 3])
def test_from_an_empty_context_a_step_is_counted_for_each_token(tmp_path: Path, slots: int) -> None:
    path = str(tmp_path / "m.gguf")
    write_shape("tiny", path)
    workload = Workload.from_empty(slots, 8)
    prompts = workload.prompts(0, 512)
    assert [len(prompt) for prompt in prompts] == [1] * slots
    assert workload.tokens == 8 * slots
    assert Workload.decode(slots, 1, 8, 64).tokens == 7 * slots
    shape = Shape(256, slots, 64, 1)
    for contender in (EngineContender(path, shape, EngineConfig("cpu", threads=1)), PlainLlama(path, shape)):
        whole = contender.run(workload, prompts)
        contender.close()
        assert [len(answer) for answer in whole.answers] == [8] * slots
        assert 0 < whole.compute_s <= whole.whole_s * slots


def test_the_bench_has_both_in_its_report_and_in_its_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "paging", "random:tiny", "--device-bytes", "5000000", "--threads", "1", "--contenders", "paged"]
    sizes = ["--turns", "2", "--repetitions", "2", "--prompt-tokens", "32", "--tokens", "8", "--batch-tokens", "32"]
    tools = ["--llama-bench", _tool(tmp_path), "--llama-batched-bench", _tool(tmp_path, "llama-batched-bench")]
    assert run([*command, *sizes, "--alone", "1,2", *tools, "--json", "-"]) == 0
    report = PagingReport.model_validate_json(capfd.readouterr().out)
    assert [(one.tool, one.slots, one.version, one.unified_kv) for one in report.tools] == [
        ("llama-bench", 1, "7 (made up)", None),
        ("llama-batched-bench", 2, "7 (made up)", False),
    ]
    kinds = {
        name: {(one.slots, one.phase, one.depth_tokens) for one in report.singles if one.contender == name}
        for name in ("engine", "plain", "llama-bench", "llama-batched-bench")
    }
    one = {(1, "prefill", 0), (1, "decode", 0), (1, "decode", 32)}
    two = {(2, "prefill", 0), (2, "decode", 0), (2, "decode", 16)}
    assert kinds["engine"] == kinds["plain"] == one | two
    assert kinds["llama-bench"] == one | {(1, "prefill", 32)}
    assert kinds["llama-batched-bench"] == two - {(2, "decode", 0)} | {(2, "decode", 32)}
    engine = {(one.slots, one.phase, one.depth_tokens): one.tokens_per_s for one in report.singles if _is_engine(one)}
    for single in report.singles:
        rate = engine.get((single.slots, single.phase, single.depth_tokens))
        share = None if rate is None or _is_engine(single) else rate / single.tokens_per_s
        assert single.engine_share == share
    assert run([*command, *sizes, "--alone", "1,2", *tools]) == 0
    shown = capfd.readouterr().out
    assert "engine is" in shown
    assert "llama-batched-bench, 2 slot(s): 7 (made up), a KV cache for each slot" in shown


def _is_engine(one: Single) -> bool:
    return one.contender == "engine"


def test_a_program_that_fails_ends_the_bench_with_its_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "paging", "random:tiny", "--device-bytes", "5000000", "--threads", "1", "--contenders", "paged"]
    sizes = ["--turns", "1", "--repetitions", "1", "--prompt-tokens", "16", "--tokens", "4"]
    assert run([*command, *sizes, "--alone", "1", "--llama-bench", _tool(tmp_path, mode="fails")]) != 0
    assert "error: failed to load model 'm'" in " ".join(capfd.readouterr().err.split())
