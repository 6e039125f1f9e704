"""What comes from a file can never hurt: one error of the tree that names what is wrong, or a model that runs."""

from __future__ import annotations

import copy
import math
import os
import random
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGUFValueType as Type
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmux import errors
from agentmux.engine.base import LoadSpec, TurnFailed, TurnFinished, TurnRequest
from agentmux.engine.native import NativeEngine

from . import gguf_files, random_models
from .conftest import endings, run, spec
from .gguf_files import File, Tensor, Value

MakeEngine = Callable[..., NativeEngine]

CRITIC = Path(__file__).parents[2] / "agents" / "models" / "critic.gguf"


random_models.MODELS |= {
    "lfm2-2048": random_models.MODELS["lfm2"] | {"lfm2.vocab_size": 2048},
    "gpt2-64": random_models._common("gpt2", context_length=64, attention__layer_norm_epsilon=1e-5),
}


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Path:
    return random_models.write("llama", model_folder)


@pytest.fixture
def engine(make_engine: MakeEngine) -> NativeEngine:
    return make_engine(None)


def refusal(engine: NativeEngine, path: Path | str) -> errors.ModelError:
    """The error that loading gives: one line that names the file."""
    with pytest.raises(errors.ModelError) as raised:
        engine.load(LoadSpec("bad", str(path), 128))
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert engine.stats().models == ()
    return raised.value


def answer(engine: NativeEngine, path: Path) -> TurnFinished:
    engine.load(spec(path))
    return run(engine, TurnRequest(1, "m", random_models.prompt(40), max_tokens=12, ignore_eos=True))[0]


# ---- split models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "lfm2"])
def test_a_split_model_gives_the_same_bits(
    name: str, tmp_path: Path, model_folder: Path, make_engine: MakeEngine
) -> None:
    whole = random_models.write(name, model_folder)
    parts = gguf_files.split(whole, tmp_path, 13)
    assert len(parts) > 3
    ends = [answer(make_engine(None), path) for path in (whole, parts[0])]
    assert ends[0].tokens == ends[1].tokens
    assert ends[0].stats.logits_crc32 == ends[1].stats.logits_crc32 != 0


def test_a_later_part_names_the_first(tmp_path: Path, model: Path, engine: NativeEngine) -> None:
    parts = gguf_files.split(model, tmp_path, 30)
    error = refusal(engine, parts[1])
    assert isinstance(error, errors.ModelUnsupported)
    assert f"is part 2 of {len(parts)} of a split model; load the first part, {parts[0]}" in str(error)


def test_a_missing_a_cut_and_a_foreign_part(tmp_path: Path, model: Path, engine: NativeEngine) -> None:
    parts = gguf_files.split(model, tmp_path, 30)
    second = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(errors.ModelNotFound, match=f"{parts[1]}: no such file"):
        engine.load(spec(parts[0]))
    parts[1].write_bytes(second[:-100])
    with pytest.raises(errors.ModelCorrupt, match=f"{parts[1]}: .* the file ends after"):
        engine.load(spec(parts[0]))
    shutil.copy(model, parts[1])
    with pytest.raises(errors.ModelCorrupt, match=f"{parts[1]}: .*split.no is missing"):
        engine.load(spec(parts[0]))


def test_a_link_to_the_first_part_and_a_renamed_one(tmp_path: Path, model: Path, make_engine: MakeEngine) -> None:
    parts = gguf_files.split(model, tmp_path, 30)
    link = tmp_path / "elsewhere" / "model.gguf"
    link.parent.mkdir()
    link.symlink_to(parts[0])
    assert answer(make_engine(None), link).tokens
    renamed = shutil.copy(parts[0], tmp_path / "renamed.gguf")
    assert "its name does not end in -00001-of-" in str(refusal(make_engine(None), renamed))


# ---- what is no file, and what is another kind of file --------------------------------------------------------------


def test_what_is_no_regular_file(tmp_path: Path, engine: NativeEngine) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for path, kind in [(tmp_path / "pipe", "pipe"), (tmp_path / "socket", "socket"), (Path("/dev/zero"), "device")]:
        error = refusal(engine, path)
        assert isinstance(error, errors.ModelNotFound)
        assert f"is a {kind}, not a GGUF file" in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, model: Path, engine: NativeEngine) -> None:
    path = Path(shutil.copy(model, tmp_path))
    path.chmod(0)
    assert "Permission denied" in str(refusal(engine, path))


def _with_text(key: str, value: str) -> Callable[[File], None]:
    return lambda file: file.metadata.update({key: Value(Type.STRING, value)})


def _as_architecture(name: str) -> Callable[[File], None]:
    def change(file: File) -> None:
        file.metadata = {key.replace("llama.", f"{name}.", 1): value for key, value in file.metadata.items()}
        file.metadata["general.architecture"] = Value(Type.STRING, name)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_with_text("general.type", "adapter"), "is an adapter (LoRA), not a model (general.type = adapter)"),
        (_with_text("general.type", "mmproj"), "is a multimodal projector (mmproj)"),
        (_with_text("general.type", "imatrix"), "is an importance matrix"),
        (_as_architecture("clip"), "is a multimodal projector (mmproj)"),
        (_as_architecture("bert"), "is an encoder, which gives embeddings and no text (architecture bert)"),
        (_as_architecture("t5"), "is an encoder-decoder"),
        (_as_architecture("dream"), "does not generate text token by token"),
        (lambda f: f.metadata.update({"llama.attention.causal": Value(Type.BOOL, False)}), "llama.attention.causal"),
        (lambda f: f.metadata.update({"llama.pooling_type": Value(Type.UINT32, 3)}), "llama.pooling_type = 3, last"),
        (lambda f: f.tensors.clear(), "holds a vocabulary and no weights"),
        (_with_text("tokenizer.ggml.model", "xyz"), "unknown tokenizer: 'xyz'"),
        (lambda f: setattr(f.tensors[3], "type", 99), "has type 99, which this version of llama.cpp does not know"),
        (lambda f: setattr(f, "version", 0x03000000), "big-endian"),
        (lambda f: setattr(f, "version", 1), "GGUF version 1"),
    ],
)
def test_what_cannot_generate_is_said_to_be_what_it_is(
    change: Callable[[File], None], says: str, tmp_path: Path, model: Path, engine: NativeEngine
) -> None:
    file = gguf_files.read(model)
    change(file)
    error = refusal(engine, file.write(tmp_path / "x.gguf"))
    assert isinstance(error, errors.ModelUnsupported), error
    assert says in str(error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.metadata.pop("llama.context_length"), "key not found in model: llama.context_length"),
        (lambda f: f.metadata.update({"llama.block_count": Value(Type.UINT32, 0)}), "llama.block_count is 0"),
        (
            lambda f: f.metadata.update({"llama.block_count": Value(Type.STRING, "6")}),
            "block_count has wrong type",
        ),
        (lambda f: f.tensors.pop(1), "not found"),
        (lambda f: setattr(f.tensors[1], "offset", 0), "starts at offset 0"),
        (lambda f: setattr(f.tensors[1], "shape", (2**40, 2**40)), "impossible shape: 1099511627776, 1099511627776"),
    ],
)
def test_what_is_wrong_is_named(
    change: Callable[[File], None], says: str, tmp_path: Path, model: Path, engine: NativeEngine
) -> None:
    file = gguf_files.read(model)
    change(file)
    error = refusal(engine, file.write(tmp_path / "x.gguf"))
    assert isinstance(error, errors.ModelCorrupt), error
    assert says in str(error)


def test_a_name_with_line_breaks_stays_one_line(tmp_path: Path, engine: NativeEngine) -> None:
    with pytest.raises(errors.ModelNotFound) as raised:
        engine.load(spec(tmp_path / "a\nb.gguf"))
    assert "a?b.gguf" in str(raised.value)


def test_a_context_beyond_learnt_positions(model_folder: Path, engine: NativeEngine) -> None:
    path = random_models.write("gpt2-64", model_folder)
    with pytest.raises(errors.ConfigError, match=r"context_tokens is 65; .* has learnt 64 positions"):
        engine.load(LoadSpec("m", str(path), 65))
    engine.load(LoadSpec("m", str(path), 64))
    assert run(engine, TurnRequest(1, "m", random_models.prompt(50), max_tokens=50, ignore_eos=True))[0].tokens


# ---- damage with knowledge of the format ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(model_folder: Path) -> dict[str, File]:
    """A llama-like model and a hybrid, both small and with a real vocabulary."""
    critic = gguf_files.read(CRITIC)
    hybrid = gguf_files.read(random_models.write("lfm2-2048", model_folder))
    return {"critic": critic, "hybrid": gguf_files.with_vocabulary(hybrid, critic)}


_NUMBERS = [0, 1, 3, 33, 1000, 2**31 - 1, 2**32 - 1, -1]
_OTHER_VALUES = [
    Value(Type.STRING, "x"),
    Value(Type.STRING, b"\xff\x00\n"),
    Value(Type.UINT32, 3),
    Value(Type.INT32, -3),
    Value(Type.FLOAT32, 0.5),
    Value(Type.BOOL, True),
    Value(Type.ARRAY, [1, 2], Type.INT32),
    Value(Type.ARRAY, [2**31 - 1] * 7, Type.INT32),
    Value(Type.ARRAY, [3] * 600, Type.UINT32),
    Value(Type.ARRAY, ["a", "b"], Type.STRING),
    Value(Type.ARRAY, [], Type.STRING),
]
# Settings that neither model has and llama.cpp knows.
_OPTIONAL = (
    *("expert_count", "expert_used_count", "attention.sliding_window", "rope.scaling.type", "rope.dimension_sections"),
    *("attention.causal", "nextn_predict_layers", "logit_scale", "attention.max_alibi_bias", "embedding_length_out"),
)


def _number(kind: Type, n: float) -> float:
    if kind in gguf_files.FLOATS:
        return float(n)
    bits = 8 * struct.calcsize(gguf_files._PACKED[kind])
    n = int(n) % 2**bits
    return n - 2**bits if kind.name.startswith("INT") and n >= 2 ** (bits - 1) else n


def _damage_metadata(choice: random.Random, file: File) -> None:
    architecture = next(key.split(".")[0] for key in file.metadata if key.startswith(("qwen2.", "lfm2.")))
    key = choice.choice([*file.metadata, *(f"{architecture}.{name}" for name in _OPTIONAL)])
    value = file.metadata.get(key)
    how = choice.choice(["drop", "number", "other"])
    if value is None or how == "other":
        file.metadata[key] = copy.deepcopy(choice.choice(_OTHER_VALUES))
    elif how == "drop":
        del file.metadata[key]
    elif value.type is Type.ARRAY:
        del value.data[choice.randrange(len(value.data) + 1) :]
    elif value.type in gguf_files.FLOATS:
        value.data = choice.choice([*map(float, _NUMBERS), math.nan, math.inf, -math.inf])
    elif value.type in gguf_files.INTEGERS:
        value.data = _number(value.type, choice.choice(_NUMBERS))


def _damage_tensor(choice: random.Random, file: File) -> None:
    tensor = choice.choice(file.tensors)
    how = choice.choice(["drop", "rename", "reverse", "flat", "retype", "values"])
    if how == "drop":
        file.tensors.remove(tensor)
    elif how == "rename":
        tensor.name += "x"
    elif how == "reverse":
        tensor.shape = tensor.shape[::-1]
    elif how == "flat":
        tensor.shape = (math.prod(tensor.shape),)
    elif how == "values":
        tensor.data = b"\xff" * len(tensor.data)
    else:
        _retype(choice, tensor)


def _retype(choice: random.Random, tensor: Tensor) -> None:
    """Another type, with as many bytes as it needs: f16, i8, i32, q4_0, q8_0, q2_k, a removed one."""
    types = {1: (1, 2), 24: (1, 1), 26: (1, 4), 2: (32, 18), 8: (32, 34), 10: (256, 84), 4: (32, 18)}
    tensor.type = choice.choice(list(types))
    block, size = types[tensor.type]
    tensor.data = bytes(-(-math.prod(tensor.shape) // block) * size)


@pytest.mark.parametrize("name", ["critic", "hybrid"])
def test_a_file_with_a_wrong_field_is_an_error_or_runs(
    name: str, sound: dict[str, File], tmp_path: Path, engine: NativeEngine
) -> None:
    """An abort would end this process: what loads must also run a turn to one end, were it a failure."""

    # The same files every time, so that a change that breaks one is the change to blame.
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        _load_damaged(sound[name], seed, tmp_path, engine)

    check()


def _load_damaged(whole: File, seed: int, tmp_path: Path, engine: NativeEngine) -> None:
    file = copy.deepcopy(whole)
    choice = random.Random(seed)
    for _ in range(choice.randint(1, 2)):
        choice.choice([_damage_metadata, _damage_metadata, _damage_tensor])(choice, file)
    spec_ = LoadSpec("damaged", str(file.write(tmp_path / "damaged.gguf")), 64, 1, 16)
    try:
        footprint = engine.load(spec_)
    except (errors.ModelError, errors.NeverFits):
        return
    try:
        prompt = "Hello, <s> w\xf6rld\n" if footprint.vocabulary_tokens else (1, 0, 1)
        engine.submit(TurnRequest(1, "damaged", prompt, max_tokens=3, ignore_eos=True))
        assert isinstance(endings(engine, {1})[1], TurnFinished | TurnFailed)
    except errors.RequestInvalid:
        pass  # a vocabulary that is no use for this text
    finally:
        engine.unload("damaged")


# ---- real sizes -----------------------------------------------------------------------------------------------------


def _large_vocabulary(file: File, n_tokens: int) -> None:
    """``n_tokens`` pieces, and a merge for each that is not a single byte."""
    old = file.metadata["tokenizer.ggml.tokens"].data
    added = [f"t{i:06}" for i in range(n_tokens - len(old))]
    file.metadata["tokenizer.ggml.tokens"].data = old + added
    file.metadata["tokenizer.ggml.token_type"].data += [1] * len(added)
    file.metadata["tokenizer.ggml.merges"].data += [f"t {name[1:]}" for name in added]
    file.metadata["qwen2.vocab_size"].data = n_tokens
    for tensor in file.tensors:
        if tensor.shape[-1:] == (len(old),):
            tensor.data += bytes(len(tensor.data) // len(old) * len(added))
            tensor.shape = (*tensor.shape[:-1], n_tokens)


def test_a_vocabulary_of_128_thousand_tokens(tmp_path: Path, sound: dict[str, File], engine: NativeEngine) -> None:
    file = copy.deepcopy(sound["critic"])
    _large_vocabulary(file, 128_000)
    footprint = engine.load(LoadSpec("m", str(file.write(tmp_path / "large.gguf")), 128))
    assert footprint.vocabulary_tokens == 128_000
    assert run(engine, TurnRequest(1, "m", "def f():", max_tokens=2, ignore_eos=True))[0].tokens
