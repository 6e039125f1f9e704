"""Every bad input gets one error of the tree, and what runs goes on."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmux import errors
from agentmux.engine import _native
from agentmux.engine.base import EngineConfig, LoadSpec, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine
from agentmux.sampling import SamplingParams

from . import random_models
from .conftest import CONTEXT_TOKENS, endings, run, spec

MakeEngine = Callable[..., NativeEngine]


@pytest.fixture
def model(model_folder: Path) -> Path:
    return random_models.write("llama", model_folder)


@pytest.fixture
def loaded(model: Path, make_engine: MakeEngine) -> NativeEngine:
    engine = make_engine(None)
    engine.load(spec(model))
    return engine


def _still_works(engine: NativeEngine) -> None:
    assert len(run(engine, TurnRequest(10**6, "m", (1, 2, 3), max_tokens=4, ignore_eos=True))[0].tokens) == 4


def test_every_error_code_has_a_class() -> None:
    assert set(_native.error_code_names()) == errors.known_codes()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda p: p / "none.gguf", errors.ModelNotFound, "no such file"),
        (lambda p: p, errors.ModelNotFound, "directory"),
        (lambda p: _write(p / "empty.gguf", b""), errors.ModelCorrupt, "magic"),
        (lambda p: _write(p / "text.gguf", b"hello, this is no model at all"), errors.ModelCorrupt, "magic"),
        (lambda p: _write(p / "v9.gguf", b"GGUF" + struct.pack("<IQQ", 9, 1, 1)), errors.ModelUnsupported, "version 9"),
        (lambda p: _write(p / "n.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60)), errors.ModelCorrupt, "metadata"),
        (lambda p: _write(p / "t.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0)), errors.ModelCorrupt, "tensor"),
    ],
)
def test_files_that_are_no_model(
    make: Callable[[Path], Path], error: type[Exception], says: str, tmp_path: Path, loaded: NativeEngine
) -> None:
    path = make(tmp_path)
    with pytest.raises(error, match=says) as raised:
        loaded.load(spec(path, "bad"))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    _still_works(loaded)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.999])
def test_a_truncated_file(share: float, tmp_path: Path, model: Path, loaded: NativeEngine) -> None:
    whole = model.read_bytes()
    path = _write(tmp_path / "cut.gguf", whole[: int(len(whole) * share)])
    with pytest.raises(errors.ModelCorrupt, match=str(path)):
        loaded.load(spec(path, "cut"))
    _still_works(loaded)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_is_an_error_or_still_a_model(data: st.DataObject, model: Path, loaded: NativeEngine) -> None:
    """Bytes of the header changed at random: never an abort, never anything but an error of the tree."""
    whole = bytearray(model.read_bytes())
    header = gguf.GGUFReader(str(model)).data_offset
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header - 1))
        whole[at] = data.draw(st.integers(0, 255))
    path = _write(model.parent / "damaged.gguf", bytes(whole))
    try:
        loaded.load(spec(path, "damaged"))
    except errors.ModelError:
        return
    except errors.NeverFits:
        return
    loaded.unload("damaged")


def test_a_vocabulary_without_weights(tmp_path: Path, loaded: NativeEngine) -> None:
    path = tmp_path / "vocabulary.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(errors.ModelUnsupported, match="no weights"):
        loaded.load(spec(path, "vocabulary"))


@pytest.mark.parametrize(("name", "shown"), [(b"xlama", "xlama"), (b"\x80lama", "\N{REPLACEMENT CHARACTER}lama")])
def test_an_unknown_architecture(name: bytes, shown: str, tmp_path: Path, model: Path, loaded: NativeEngine) -> None:
    length = b"\x05\0\0\0\0\0\0\0"
    path = _write(tmp_path / "x.gguf", model.read_bytes().replace(length + b"llama", length + name, 1))
    with pytest.raises(errors.ModelUnsupported, match=shown):
        loaded.load(spec(path, "x"))


def test_a_model_file_that_goes_away_after_loading(tmp_path: Path, model: Path, make_engine: MakeEngine) -> None:
    path = shutil.copy(model, tmp_path / "gone.gguf")
    engine = make_engine(None)
    engine.load(spec(path))
    Path(path).unlink()
    _still_works(engine)


def test_a_budget_smaller_than_one_unit(model: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(1000)
    with pytest.raises(errors.NeverFits) as refused:
        engine.load(spec(model))
    assert refused.value.budget_bytes == 1000
    assert refused.value.needed_bytes > 1000
    assert engine.stats().models == ()


def test_a_failed_load_changes_nothing(model: Path, model_folder: Path, make_engine: MakeEngine) -> None:
    wide = random_models.write("qwen3moe", model_folder)
    engine = make_engine(600_000)  # a unit of the one, not of the other
    engine.load(spec(model))
    before = engine.stats().arena_bytes
    with pytest.raises(errors.NeverFits):
        engine.load(spec(wide, "wide"))
    assert engine.stats().arena_bytes == before
    _still_works(engine)
    with pytest.raises(errors.ModelNotFound):
        engine.prefetch("wide")


def test_the_same_name_twice(model: Path, loaded: NativeEngine) -> None:
    with pytest.raises(errors.ConfigError, match="m is loaded already"):
        loaded.load(spec(model))


@pytest.mark.parametrize(("field", "value"), [("context_tokens", 0), ("slots", 0), ("slots", -1), ("batch_tokens", 0)])
def test_impossible_settings(field: str, value: int, model: Path, make_engine: MakeEngine) -> None:
    with pytest.raises(errors.ConfigError, match=field):
        make_engine(None).load(LoadSpec("m", str(model), **{field: value}))


@pytest.mark.parametrize(("slots", "batch_tokens", "context_tokens"), [(8, 4, 512), (8, 64, 4)])
def test_more_slots_than_a_batch_has_tokens(
    slots: int, batch_tokens: int, context_tokens: int, model: Path, loaded: NativeEngine
) -> None:
    with pytest.raises(errors.ConfigError, match="8 slots do not go into one batch of 4 tokens"):
        loaded.load(LoadSpec("many", str(model), context_tokens, slots, batch_tokens))
    _still_works(loaded)


def test_an_unknown_device() -> None:
    with pytest.raises(errors.ConfigError, match="no device XPU9"):
        NativeEngine(EngineConfig(device="XPU9"))


def test_a_prompt_longer_than_the_context(loaded: NativeEngine) -> None:
    with pytest.raises(errors.ContextOverflow) as raised:
        loaded.submit(TurnRequest(1, "m", random_models.prompt(CONTEXT_TOKENS)))
    assert raised.value.prompt_tokens == CONTEXT_TOKENS
    assert raised.value.context_tokens == CONTEXT_TOKENS
    _still_works(loaded)


def test_the_context_is_used_to_its_end_and_no_further(loaded: NativeEngine) -> None:
    request = TurnRequest(1, "m", random_models.prompt(CONTEXT_TOKENS - 10), max_tokens=100, ignore_eos=True)
    end = run(loaded, request)[0]
    assert end.reason == "length"
    assert len(end.tokens) == 11  # the last one needs no place of its own


@pytest.mark.parametrize(
    "request_",
    [
        TurnRequest(1, "m", (0, 512)),
        TurnRequest(1, "m", (-1,)),
        TurnRequest(1, "m", ()),
        TurnRequest(1, "m", "text for a model without a vocabulary"),
        TurnRequest(1, "m", (1,), max_tokens=0),
        TurnRequest(1, "m", (1,), max_tokens=-5),
        TurnRequest(1, "m", (1,), stop=("",)),
        TurnRequest(1, "m", (1,), grammar="root ::= "),
    ],
)
def test_requests_that_cannot_be_run(request_: TurnRequest, loaded: NativeEngine) -> None:
    with pytest.raises(errors.RequestInvalid):
        loaded.submit(request_)
    _still_works(loaded)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 1.1),
        ("top_k", -1),
        ("top_k", True),
        ("min_p", 2),
        ("typical_p", -0.1),
        ("repeat_penalty", 0),
        ("frequency_penalty", float("inf")),
        ("presence_penalty", float("nan")),
        ("repeat_last_n", -2),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", 2**32 - 1),
        ("logit_bias", {3: float("nan")}),
        ("logit_bias", {3: float("inf")}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {"a": 1.0}),
    ],
)
def test_sampling_values_that_cannot_be_meant(field: str, value: float) -> None:
    with pytest.raises(errors.RequestInvalid, match=field):
        SamplingParams(**{field: value})


@pytest.mark.parametrize("logprobs", [-1, 21])
def test_more_alternatives_than_are_reported(logprobs: int) -> None:
    with pytest.raises(errors.RequestInvalid, match="logprobs"):
        TurnRequest(1, "m", (1,), logprobs=logprobs)


def test_an_unknown_model_and_an_unknown_turn(loaded: NativeEngine) -> None:
    with pytest.raises(errors.ModelNotFound, match="other"):
        loaded.submit(TurnRequest(1, "other", (1,)))
    loaded.cancel(4711)
    _still_works(loaded)


def test_close_ends_turns_in_flight_and_refuses_more(loaded: NativeEngine) -> None:
    for turn in range(6):
        loaded.submit(TurnRequest(turn, "m", (1, 2, 3), max_tokens=400, ignore_eos=True))
    loaded.close()
    ended = [event for event in loaded.poll() if isinstance(event, TurnFinished)]
    assert sorted(event.turn for event in ended) == list(range(6))
    assert {event.reason for event in ended} <= {"cancelled", "length"}
    with pytest.raises(errors.EngineError, match="closed"):
        loaded.submit(TurnRequest(9, "m", (1,)))
    with pytest.raises(errors.EngineError, match="closed"):
        loaded.load(LoadSpec("again", "x.gguf"))
    loaded.cancel(1)
    loaded.close()
    assert loaded.stats().models == ()


def test_unload_ends_its_turns_and_leaves_the_others(model: Path, model_folder: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(None)
    engine.load(spec(model))
    engine.load(spec(random_models.write("qwen3", model_folder), "other"))
    engine.submit(TurnRequest(1, "other", (1, 2, 3), max_tokens=500, ignore_eos=True))
    engine.unload("other")
    assert endings(engine, {1})[1].reason == "cancelled"  # type: ignore[union-attr]
    _still_works(engine)
    with pytest.raises(errors.ModelNotFound):
        engine.submit(TurnRequest(2, "other", (1,)))


def test_two_engines_in_one_process(model: Path, make_engine: MakeEngine) -> None:
    engines = [make_engine(None), make_engine(None)]
    for engine in engines:
        engine.load(spec(model))
    for engine in engines:
        engine.submit(TurnRequest(1, "m", (5, 6, 7), max_tokens=50, ignore_eos=True))
    ends = [endings(engine, {1})[1] for engine in engines]
    assert isinstance(ends[0], TurnFinished)
    assert isinstance(ends[1], TurnFinished)
    assert ends[0].tokens == ends[1].tokens
