"""The paging bench's router: a real process and real sockets, with a small server in llama-server's place."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from agentmux.bench.binaries import version_of
from agentmux.bench.gguf_writer import tokenizer_of
from agentmux.bench.paging import CONTENDERS, ROUTER, Settings, bench_paging
from agentmux.bench.paging_plan import Step, prompt_of
from agentmux.bench.paging_report import PagingReport
from agentmux.bench.router import LLAMA_SERVER, Router
from agentmux.bench.shapes import write_shape
from agentmux.bench.workload import Shape
from agentmux.cli.main import run
from agentmux.engine.base import EngineConfig, LoadSpec
from agentmux.engine.native import NativeEngine
from agentmux.errors import ConfigError, EngineError

SHAPE = Shape(256, 1, 128, 3)
LIMIT_S = 60.0
"""Nothing takes that long unless it hangs."""
SERVER = """#!PYTHON
import argparse, json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE, FOLDER = "MODE_HERE", "FOLDER_HERE"
if sys.argv[1:] == ["--version"]:
    print("version: 7 (made up)", file=sys.stderr)
    sys.exit()
if MODE == "exits":
    print("first line\\nerror: no such device\\nusage: -h\\n", file=sys.stderr)
    sys.exit(3)
options = argparse.ArgumentParser(allow_abbrev=False)
for name in ("host", "models-preset", "ctx-size", "device", "n-gpu-layers", "fit"):
    options.add_argument("--" + name)
for name in ("port", "models-max", "parallel", "batch-size", "ubatch-size", "threads", "threads-batch", "cache-ram"):
    options.add_argument("--" + name, type=int)
for name in ("kv-unified", "no-repack", "no-warmup", "offline"):
    options.add_argument("--" + name, action="store_true")
options = options.parse_args()
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.sigwait([signal.SIGTERM])"])


def record(what):
    with open(os.path.join(FOLDER, "record"), "a") as file:
        print(json.dumps(what), file=file)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(503 if MODE == "never" else 200)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        record({"path": self.path, "asked": asked})
        if MODE == "500":
            return self.answer(500, b"no room for the model")
        self.answer(200, b": a comment\\n\\n")
        for n in range(1, asked["n_predict"] + 1 - (MODE == "short")):
            self.wfile.write(b"data: " + json.dumps({"tokens_predicted": n, "stop": False}).encode() + b"\\n\\n")
            if MODE == "breaks" and n == 2:
                print("out of memory", file=sys.stderr, flush=True)
                os._exit(4)
            if MODE == "error" and n == 2:
                return self.wfile.write(b'data: {"error": {"message": "decode failed"}}\\n\\n')
            if MODE == "silent":
                time.sleep(LIMIT_HERE)
        self.wfile.write(b"data: " + json.dumps({"tokens_predicted": n, "stop": True}).encode() + b"\\n\\n")


server = ThreadingHTTPServer((options.host, options.port), Handler)
with open(options.models_preset) as presets:
    record({"options": vars(options), "presets": presets.read(), "processes": [os.getpid(), child.pid],
            "environment": sorted(name for name in os.environ if name.startswith("LLAMA_"))})
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTMUX_DEVICE", "cpu")
    yield
    structlog.reset_defaults()


def _server(folder: Path, mode: str = "well") -> str:
    text = SERVER.replace("PYTHON", sys.executable).replace("MODE_HERE", mode).replace("FOLDER_HERE", str(folder))
    path = folder / "llama-server"
    path.write_text(text.replace("LIMIT_HERE", str(LIMIT_S)))
    path.chmod(0o755)
    return str(path)


def _record(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "record").read_text().splitlines()]


def _models(folder: Path, count: int = 2) -> list[str]:
    paths = [str(folder / f"model {i}.gguf") for i in range(count)]
    for path in paths:
        write_shape("tiny", path, named=True)
    return paths


def _router(folder: Path, mode: str = "well", device: str = "CPU", loaded: int = 1, **limits: float) -> Router:
    return Router(_server(folder, mode), ["a", "b"], _models(folder), SHAPE, device, loaded, **limits)


def _has_ended(process: int) -> bool:
    """Waits for it, if it is there."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], LIMIT_S)[0])
    finally:
        os.close(handle)


def test_each_turn_is_asked_for_as_the_others_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "7")
    with closing(_router(tmp_path)) as router:
        first, second = (router.turn(Step(model, 0, 0), 5, 4, 1.5) for model in (1, 0))
    assert (first.model, second.model, first.begin_s, first.tokens) == ("b", "a", 1.5, 4)
    assert 0 < first.first_token_s <= first.whole_s
    started, *asked = _record(tmp_path)
    options = started["options"]
    assert (options["models_max"], options["ctx_size"], options["parallel"], options["threads"]) == (1, "256", 1, 3)
    assert (options["host"], options["device"], options["n_gpu_layers"]) == ("127.0.0.1", "none", None)
    assert started["environment"] == ["LLAMA_CACHE"]
    assert started["presets"].splitlines()[:2] == ["[model-1]", f"model = {tmp_path}/model 0.gguf"]
    assert [one["path"] for one in asked] == ["/completion"] * 2
    assert asked[0]["asked"] == {
        "model": "model-2",
        "prompt": list(prompt_of(5, 1, 512)),
        "n_predict": 4,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
        "stream": True,
    }
    assert asked[1]["asked"]["model"] == "model-1"
    assert all(_has_ended(process) for process in started["processes"])


def test_all_models_are_there_before_the_first_turn_where_all_have_room(tmp_path: Path) -> None:
    _router(tmp_path, device="CUDA0", loaded=2).close()
    started, *asked = _record(tmp_path)
    options = started["options"]
    assert (options["models_max"], options["device"], options["n_gpu_layers"]) == (2, "CUDA0", "999")
    assert [one["asked"]["model"] for one in asked] == ["model-1", "model-2"]


def test_a_server_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"ended before it was ready \(exit status 3\); it said: error: no such dev"):
        _router(tmp_path, "exits")


def test_a_server_that_never_gets_well_is_given_up_and_ended(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"was not ready within 2 s"):
        _router(tmp_path, "never", healthy_s=2)
    for started in _record(tmp_path) if (tmp_path / "record").exists() else ():
        assert all(_has_ended(process) for process in started["processes"])


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("500", "answered 500: no room for the model"),
        ("breaks", "after 2 of 4 tokens.*; it said: out of memory"),
        ("error", "failed in mid-answer.*decode failed"),
        ("short", "ended a turn of a after 3 of 4 tokens"),
        ("silent", "failed at a turn of a: TimeoutError"),
    ],
)
def test_a_turn_that_fails_is_one_error_and_nothing_stays(tmp_path: Path, mode: str, said: str) -> None:
    limit_s = 1 if mode == "silent" else LIMIT_S
    with closing(_router(tmp_path, mode, silence_s=limit_s)) as router, pytest.raises(EngineError, match=said):
        router.turn(Step(0, 0, 0), 5, 4, 0)
    assert all(_has_ended(process) for process in _record(tmp_path)[0]["processes"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_the_server_ends_with_a_bench_that_is_killed(tmp_path: Path) -> None:
    arguments = (_server(tmp_path), _models(tmp_path))
    text = "import sys; from agentmux.bench.router import Router; from agentmux.bench.workload import Shape\n"
    text += f"router = Router({arguments[0]!r}, ['a', 'b'], {arguments[1]!r}, Shape(256, 1, 128, 1), 'CPU', 1)\n"
    text += "print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bench:
        assert bench.stdout is not None
        assert bench.stdout.readline() == b"ready\n"
        bench.kill()
    server, child = _record(tmp_path)[0]["processes"]
    ended = _has_ended(server)
    os.kill(child, signal.SIGTERM)  # llama-server's own end with it
    assert ended


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    for binary in (tmp_path / "absent", tmp_path, text):
        with pytest.raises(ConfigError, match="no file that can be run"):
            Settings(("random:tiny",), None, router=str(binary))
    text.chmod(0o755)
    with pytest.raises(ConfigError, match="Exec format"):
        version_of(str(text), LLAMA_SERVER)
    assert version_of(_server(tmp_path), LLAMA_SERVER) == "7 (made up)"


def test_a_router_is_a_contender_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"router: needs a llama-server.*--router"):
        Settings(("random:tiny",), None, contenders=("paged", ROUTER))
    assert Settings(("random:tiny",), None).chosen == CONTENDERS
    assert Settings(("random:tiny",), None, router=_server(tmp_path)).chosen == (*CONTENDERS, ROUTER)


def test_a_model_without_a_vocabulary_is_refused_before_anything_runs(tmp_path: Path) -> None:
    write_shape("tiny", str(tmp_path / "ids.gguf"))
    with pytest.raises(ConfigError, match=r"ids\.gguf: has no tokenizer; llama-server ends"):
        bench_paging(Settings((str(tmp_path / "ids.gguf"),), 5_000_000, router=_server(tmp_path)))
    assert not (tmp_path / "record").exists()


def test_names_that_were_made_up_make_a_model_with_a_vocabulary(tmp_path: Path) -> None:
    (path,) = _models(tmp_path, 1)
    assert tokenizer_of(path)[1] == 512
    with closing(NativeEngine(EngineConfig("cpu", threads=1))) as engine:
        assert engine.load(LoadSpec("m", path, 256, 1, 64)).vocabulary_tokens == 512


def test_the_bench_has_both_routers_in_its_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "paging", "random:tiny", "random:tiny", "--device-bytes", "5000000", "--threads", "1"]
    sizes = ["--turns", "4", "--repetitions", "2", "--prompt-tokens", "16", "--tokens", "4"]
    chosen = ["--router", _server(tmp_path), "--contenders", "paged,router,router-resident", "--json", "-"]
    assert run([*command, *sizes, *chosen]) == 0
    report = PagingReport.model_validate_json(capfd.readouterr().out)
    assert report.router == "7 (made up)"
    assert [one.contender for one in report.summaries] == ["paged", "router", "router-resident"]
    turns = {one.contender: [turn.model for turn in one.turns] for one in report.repetitions}
    assert turns["router"] == ["tiny-1", "tiny-2", "tiny-1"]
    assert turns["router-resident"] == ["tiny-1", "tiny-2", "tiny-1", "tiny-2"]
