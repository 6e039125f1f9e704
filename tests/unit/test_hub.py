"""Models on the hub: which file a name means, and downloads from a real socket, whole, broken off and refused."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmux.errors import AgentmuxError, ConfigError, ModelNotFound
from agentmux.models.hub import Hub, HubName, parse, select
from tests.unit.hub_server import HubServer, serving

FILES = (
    "README.md",
    "config.json",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "m-IQ4_XS.gguf",
    "m.Q8_0.gguf",
    "mmproj-m-f16.gguf",
    "m-mmproj-Q4_K_M.gguf",
    "big/m-BF16-00001-of-00002.gguf",
    "big/m-BF16-00002-of-00002.gguf",
    "torn/m-F32-00001-of-00003.gguf",
    "torn/m-F32-00003-of-00003.gguf",
)
BIG = ("big/m-BF16-00001-of-00002.gguf", "big/m-BF16-00002-of-00002.gguf")


def named(text: str) -> HubName:
    name = parse(text)
    assert name is not None
    return name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:owner/repo:*Q4_K_M.gguf", ("m-Q4_K_M.gguf",)),
        ("hf:owner/repo/m.Q8_0.gguf", ("m.Q8_0.gguf",)),
        ("hf:owner/repo@v1:*IQ4*", ("m-IQ4_XS.gguf",)),
        ("hf:owner/repo/mmproj-m-f16.gguf", ("mmproj-m-f16.gguf",)),
        ("owner/repo:Q4_K_M", ("m-Q4_K_M.gguf",)),
        ("owner/repo:q8_0", ("m.Q8_0.gguf",)),
        ("owner/repo:bf16", BIG),
        ("hf:owner/repo:*BF16*", BIG),
        ("hf:owner/repo:big/*", BIG),
        ("hf:owner/repo:m-BF16*", BIG),
        ("hf:owner/repo:*-00002-of-00002.gguf", BIG),
        ("hf:owner/repo/big/m-BF16-00002-of-00002.gguf", BIG),
    ],
)
def test_a_name_means_one_model(text: str, parts: tuple[str, ...]) -> None:
    assert select(named(text), FILES) == parts


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("hf:owner/repo:*Q4*", ConfigError, "m-IQ4_XS.gguf, m-Q4_K_M.gguf, m-Q4_K_S.gguf"),
        ("hf:owner/repo", ConfigError, "fits several"),
        ("hf:owner/repo:*Q2*", ModelNotFound, "it has m-Q4_K_M.gguf, m-Q4_K_S.gguf"),
        ("hf:owner/repo:*.q4_k_m.gguf", ModelNotFound, "no such GGUF"),
        ("hf:owner/repo:mmproj*", ModelNotFound, "no such GGUF"),
        ("hf:owner/repo:README.md", ModelNotFound, "no such GGUF"),
        ("hf:owner/repo/README.txt", ModelNotFound, "no such GGUF"),
        ("owner/repo:Q4_K", ModelNotFound, "no such GGUF"),
        ("owner/repo:4", ModelNotFound, "no such GGUF"),
        ("owner/repo:F32", ModelNotFound, "missing: torn/m-F32-00002-of-00003.gguf"),
    ],
)
def test_what_is_no_one_model_is_told_with_what_is_there(text: str, kind: type[AgentmuxError], told: str) -> None:
    with pytest.raises(kind) as caught:
        select(named(text), FILES)
    assert told in str(caught.value)


@given(st.permutations(FILES), st.sampled_from(["*Q4_K_M.gguf", "*BF16*", "*", "*Q4*", "*F32*", "?.Q8_0.gguf", "x"]))
def test_the_order_of_the_listing_does_not_matter(files: list[str], pattern: str) -> None:
    name = named(f"hf:owner/repo:{pattern}")

    def outcome(listing: tuple[str, ...]) -> object:
        try:
            return select(name, listing)
        except AgentmuxError as error:
            return type(error)

    assert outcome(tuple(files)) == outcome(FILES)


@pytest.mark.parametrize("text", ["a", "a/b", "./a/b:c", "a/b/c:d", "a/b:c.gguf", "/a/b:c", "a/b:c d", "HF:a/b:c", ""])
def test_what_is_no_hub_name(text: str) -> None:
    assert parse(text) is None


def test_the_pieces_of_a_name() -> None:
    assert parse("hf:o/r@v1.2:a/*:x") == HubName("hf:o/r@v1.2:a/*:x", "o/r", "v1.2", "a/*:x")
    assert parse("hf:o/r@abc/d/x.gguf") == HubName("hf:o/r@abc/d/x.gguf", "o/r", "abc", None, file="d/x.gguf")
    assert parse("o/r@abc:Q4") == HubName("o/r@abc:Q4", "o/r", "abc", None, tag="Q4")


@pytest.fixture
def server() -> Iterator[HubServer]:
    with serving() as state:
        state.files = {"README.md": b"x", "m-Q4_K_M.gguf": b"GGUF" + bytes(100_000), BIG[0]: b"one", BIG[1]: b"two!"}
        yield state


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(server.endpoint, tmp_path / "cache")


Q4 = named("hf:owner/repo:*Q4_K_M.gguf")


def test_a_model_is_downloaded_into_the_cache_once(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    pulled = hub.pull(Q4)
    data = server.files["m-Q4_K_M.gguf"]
    assert pulled.path.read_bytes() == data
    assert (pulled.size_bytes, pulled.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert pulled.path.is_relative_to(tmp_path / "cache" / "models--owner--repo" / "snapshots" / server.commit)
    assert len(server.downloads) == 1
    assert hub.pull(Q4) == pulled
    assert len(server.downloads) == 1


def test_all_parts_come_and_the_first_is_the_model(hub: Hub) -> None:
    pulled = hub.pull(named("owner/repo:BF16"))
    assert (pulled.path.name, pulled.size_bytes, pulled.sha256) == ("m-BF16-00001-of-00002.gguf", 7, None)
    assert pulled.path.with_name("m-BF16-00002-of-00002.gguf").read_bytes() == b"two!"


def test_a_newer_file_comes_and_an_unchanged_one_does_not(server: HubServer, hub: Hub) -> None:
    first = hub.pull(Q4)
    server.commit = "f" * 40
    assert hub.pull(Q4).path.resolve() == first.path.resolve()
    assert len(server.downloads) == 1
    server.files["m-Q4_K_M.gguf"] = b"GGUFnew"
    server.commit = "e" * 40
    assert hub.pull(Q4).path.read_bytes() == b"GGUFnew"
    assert first.path.read_bytes() != b"GGUFnew"


def test_a_download_that_breaks_off_goes_on_where_it_was(server: HubServer, hub: Hub) -> None:
    server.files["m-Q4_K_M.gguf"] = b"GGUF" + os.urandom(12 << 20)
    server.breaks_after = 11 << 20  # more than the library writes at once, 10 MiB
    assert hub.pull(Q4).path.read_bytes() == server.files["m-Q4_K_M.gguf"]
    ranges = [re.search(r"bytes=(\d+)-", request) for request in server.downloads]
    assert [begin and int(begin[1]) > 0 for begin in ranges] == [None, True]


def test_offline_the_cache_is_used(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    pulled = hub.pull(Q4)
    away = Hub("http://127.0.0.1:9", tmp_path / "cache")
    for text in ("hf:owner/repo:*Q4_K_M.gguf", "hf:owner/repo/m-Q4_K_M.gguf", "owner/repo:Q4_K_M"):
        again = away.pull(named(text))
        assert (again.path, again.size_bytes) == (pulled.path, pulled.size_bytes)
    server.problem = (503, "")
    assert hub.pull(named(f"hf:owner/repo@{server.commit}:*Q4*")).path == pulled.path
    for text in ("owner/repo:BF16", "hf:owner/other:*Q4*", "hf:owner/repo@v1:*Q4*"):
        with pytest.raises(ConfigError, match=r"is not in the cache, and the hub cannot be reached"):
            away.pull(named(text))


def test_half_of_a_split_model_in_the_cache_is_not_used(hub: Hub, tmp_path: Path) -> None:
    pulled = hub.pull(named("owner/repo:BF16"))
    pulled.path.with_name("m-BF16-00002-of-00002.gguf").unlink()
    with pytest.raises(ConfigError, match="not in the cache"):
        Hub("http://127.0.0.1:9", tmp_path / "cache").pull(named("owner/repo:BF16"))


@pytest.mark.parametrize(
    ("problem", "kind", "told"),
    [
        ((403, "GatedRepo"), ModelNotFound, "gated; ask for access at https://huggingface.co/owner/repo, set HF_TOKEN"),
        ((401, "RepoNotFound"), ModelNotFound, "no repository owner/repo, or it is private"),
        ((404, "RepoNotFound"), ModelNotFound, "no repository owner/repo"),
        ((404, "RevisionNotFound"), ModelNotFound, "no revision"),
        ((403, ""), ModelNotFound, "refuses access"),
        ((400, ""), ConfigError, "status 400"),
        ((503, ""), ConfigError, "the hub answers with status 503"),
    ],
)
def test_each_refusal_is_one_clear_error(
    server: HubServer, hub: Hub, problem: tuple[int, str], kind: type[AgentmuxError], told: str
) -> None:
    server.problem = problem
    with pytest.raises(kind) as caught:
        hub.pull(Q4)
    assert told in str(caught.value)
    assert "owner/repo:*Q4_K_M.gguf" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gated_repository_can_be_listed_but_not_downloaded(server: HubServer, hub: Hub) -> None:
    server.files_problem = (403, "GatedRepo")
    with pytest.raises(ModelNotFound, match="gated; ask for access"):
        hub.pull(Q4)


def test_without_network_and_cache(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"is not in the cache, and the hub cannot be reached: ConnectError"
    ) as caught:
        Hub("http://127.0.0.1:9", tmp_path / "none").pull(Q4)
    assert "\n" not in str(caught.value)


def test_a_file_that_the_listing_has_and_the_hub_has_not(server: HubServer, hub: Hub) -> None:
    listed = server.files["m-Q4_K_M.gguf"]

    class Gone(dict[str, bytes]):
        def get(self, name: str, default: object = None) -> None:  # type: ignore[override]
            return None

    server.files = Gone({"m-Q4_K_M.gguf": listed})
    with pytest.raises(ModelNotFound, match="the file is gone"):
        hub.pull(Q4)


def test_a_file_larger_than_the_disk_is_refused_at_once(server: HubServer, hub: Hub) -> None:
    server.claimed_bytes["m-Q4_K_M.gguf"] = 1 << 60
    with pytest.raises(ConfigError, match=rf"no room in .*cache for {1 << 60} bytes, \d+ are free") as caught:
        hub.pull(Q4)
    assert caught.value.numbers["needed_bytes"] == 1 << 60
    assert server.downloads == []


PULL = """
import resource, sys
from pathlib import Path
if len(sys.argv) > 2:
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
from agentmux.errors import AgentmuxError
from agentmux.models.hub import Hub, parse
try:
    print(Hub().pull(parse(sys.argv[1])).path)
except AgentmuxError as error:
    print(type(error).__name__, error)
"""


def pull_elsewhere(environ: dict[str, str], *arguments: str) -> str:
    """In a process of its own, since the library reads its variables when it is imported."""
    run = [sys.executable, "-c", PULL, *arguments]
    done = subprocess.run(run, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_disk_that_fills_up_while_downloading(server: HubServer, tmp_path: Path) -> None:
    environ = {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path)}
    message = pull_elsewhere(environ, Q4.text, "50000")
    assert message.startswith(f"ConfigError {Q4.text}: no room for it in the cache: File too large")
    assert Path(pull_elsewhere(environ, Q4.text)).read_bytes() == server.files["m-Q4_K_M.gguf"]


def test_the_librarys_own_variables_hold(server: HubServer, tmp_path: Path) -> None:
    online = {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path)}
    path = Path(pull_elsewhere(online, Q4.text))
    assert path.is_relative_to(tmp_path)
    asked = len(server.requests)
    offline = {**online, "HF_HUB_OFFLINE": "1"}
    assert Path(pull_elsewhere(offline, Q4.text)) == path
    message = pull_elsewhere(offline, "owner/repo:BF16")
    assert message == "ConfigError owner/repo:BF16 is not in the cache, and HF_HUB_OFFLINE is set"
    assert len(server.requests) == asked


def test_without_the_extra_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'agentmux\[hub\]'"):
        Hub().pull(Q4)


def test_the_library_is_loaded_only_for_the_hub() -> None:
    code = "import sys, agentmux.models; print({'huggingface_hub', 'tomlkit'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
