"""Weights between Hugging Face and Megatron: the same logits, both ways, with the real models on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.training.nemo.converted import check_nemo_folder
from nemo_cot.training.nemo_aligner.checkpoints import unpacked_view
from nemo_cot.training.nemo_aligner.weights import Heads, stacked, to_megatron
from tests.contract.megatron_cpu import gpt, shim_cuda
from tests.megatron_weights import to_hugging_face

HEADS = Heads(heads=4, kv_heads=2)
VOCABULARY, WIDTH, LAYERS, INNER, THETA = 96, 64, 3, 80, 1e6
_LOCAL_NAMES = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "mlp.linear_fc1.layer_norm_weight": "pre_mlp_layernorm.weight",
}
"""Transformer Engine fuses a norm into the product after it; the layers that run on a CPU do not."""


@pytest.fixture(scope="module")
def qwen2():
    """A tiny random Qwen2: grouped queries, biases on query, key and value, untied embeddings."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS.heads, num_key_value_heads=HEADS.kv_heads, rope_theta=THETA,
        rms_norm_eps=1e-6, tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():  # random norms and biases: transformers starts them as ones and zeros
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture
def megatron(one_rank, monkeypatch):
    """Megatron-core's GPTModel with the same shape."""
    shim_cuda(monkeypatch)
    return gpt(
        layers=LAYERS, width=WIDTH, inner=INNER, heads=HEADS.heads, kv_heads=HEADS.kv_heads,
        vocabulary=VOCABULARY, theta=THETA,
    )  # fmt: skip


def load(model, tensors) -> None:
    local = {}
    for name, tensor in tensors.items():
        for fused, apart in _LOCAL_NAMES.items():
            name = name.replace(fused, apart)
        local[name] = tensor
    missing, unexpected = model.load_state_dict(local, strict=False)
    assert not unexpected and all(name.endswith("_extra_state") for name in missing)


def logits(megatron, ids):
    import torch

    length = ids.shape[1]
    hidden = torch.triu(torch.ones(1, 1, length, length), 1).bool()
    with torch.no_grad():
        return megatron(ids, torch.arange(length)[None], hidden)


def test_the_two_models_give_the_same_logits(qwen2, megatron):
    import torch

    load(megatron, to_megatron(qwen2.state_dict(), HEADS))
    ids = torch.randint(0, VOCABULARY, (1, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = qwen2(ids).logits
    ours = logits(megatron, ids)
    assert theirs.std() > 0.1, "the model must tell tokens apart"
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize("trap", ["qkv", "gate"])
def test_another_layout_gives_other_logits(trap, qwen2, megatron):
    """The test above can fail: with q, k and v simply one after another, or up before gate."""
    import torch

    tensors = to_megatron(qwen2.state_dict(), HEADS)
    for name, tensor in tensors.items():
        if trap == "qkv" and name.endswith("linear_qkv.weight"):
            own = name.replace("decoder", "model").replace("self_attention.linear_qkv", "self_attn.{}_proj")
            tensors[name] = torch.cat([qwen2.state_dict()[own.format(part)] for part in "qkv"])
        if trap == "gate" and name.endswith("linear_fc1.weight"):
            tensors[name] = torch.cat(tensor.chunk(2)[::-1])
    load(megatron, tensors)
    ids = torch.arange(24)[None]
    with torch.no_grad():
        theirs = qwen2(ids).logits
    assert (logits(megatron, ids) - theirs).abs().max() > 1e-2 * theirs.abs().max()


def test_back_again_is_bit_for_bit(qwen2):
    import torch

    there = to_megatron(qwen2.state_dict(), HEADS)
    back = to_hugging_face(there, HEADS)
    assert back.keys() == qwen2.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in qwen2.state_dict().items())


@pytest.fixture
def nemo_folder(qwen2, megatron, tmp_path) -> Path:
    """What NeMo writes: Megatron's own distributed checkpoint, in zarr, and model_config.yaml."""
    from megatron.core import dist_checkpointing

    load(megatron, to_megatron(qwen2.state_dict(), HEADS))
    weights = tmp_path / "nemo" / "model_weights"
    weights.mkdir(parents=True)
    dist_checkpointing.save(megatron.sharded_state_dict(prefix="model."), str(weights), ("zarr", 1))
    write_config(tmp_path / "nemo")
    return tmp_path / "nemo"


def write_config(folder, **changed):
    fields = {
        "num_layers": LAYERS, "hidden_size": WIDTH, "ffn_hidden_size": INNER, "precision": "bf16",
        "num_attention_heads": HEADS.heads, "num_query_groups": HEADS.kv_heads, "rotary_base": THETA,
        "layernorm_epsilon": 1e-6,
    }  # fmt: skip
    (folder / "model_config.yaml").write_text(json.dumps(fields | changed))  # JSON is YAML


@pytest.fixture
def hugging_face(qwen2, tmp_path) -> Path:
    qwen2.save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def test_the_checkpoint_holds_what_the_layout_says(nemo_folder, qwen2):
    import torch
    import zarr

    there = dict(stacked(to_megatron(qwen2.state_dict(), HEADS)))
    arrays = {p.parent.name: p.parent for p in (nemo_folder / "model_weights").glob("*/.zarray")}
    assert arrays.keys() == there.keys()
    for name, folder in arrays.items():
        assert torch.equal(torch.from_numpy(zarr.open(str(folder), "r")[:]), there[name]), name


def test_a_converted_model_passes_and_a_wrong_one_does_not(nemo_folder, hugging_face):
    check_nemo_folder(nemo_folder, hugging_face)
    for field, value in (("precision", "16"), ("rotary_base", 1e4), ("num_query_groups", 4)):
        write_config(nemo_folder, **{field: value})
        with pytest.raises(UserError, match=field):
            check_nemo_folder(nemo_folder, hugging_face)
    write_config(nemo_folder)
    (nemo_folder / "model_weights" / "model.output_layer.weight" / ".zarray").unlink()
    with pytest.raises(UserError, match="parameters in"):
        check_nemo_folder(nemo_folder, hugging_face)


def test_a_training_checkpoint_is_read_through_its_view(nemo_folder, megatron, qwen2, tmp_path):
    """Without the optimizer's state, by Megatron's own loader, into a model with other weights."""
    import torch
    from megatron.core import dist_checkpointing

    checkpoint = nemo_folder / "model_weights"
    (checkpoint / "optimizer.state.exp_avg").mkdir()
    view = unpacked_view(checkpoint, nemo_folder, tmp_path / "view")
    assert (view / "model_config.yaml").is_file()
    assert not list((view / "model_weights").glob("optimizer.*"))
    with torch.no_grad():
        for parameter in megatron.parameters():
            parameter.zero_()
    state = {"state_dict": megatron.sharded_state_dict(prefix="model.")}
    loaded = dist_checkpointing.load(state, str(view / "model_weights"))["state_dict"]
    megatron.load_state_dict({name.removeprefix("model."): value for name, value in loaded.items()})
    assert torch.equal(megatron.output_layer.weight, qwen2.lm_head.weight)
    assert torch.equal(
        megatron.decoder.layers[2].mlp.linear_fc2.weight, qwen2.model.layers[2].mlp.down_proj.weight
    )


@pytest.fixture
def torch_dist(megatron, qwen2, tmp_path, monkeypatch) -> Path:
    """A training checkpoint as NeMo writes it with the format that we render, a moment of Adam's beside the weights."""
    from megatron.core.dist_checkpointing import ShardedTensor
    from nemo.utils.callbacks.dist_ckpt_io import DistributedCheckpointIO

    from nemo_cot.training.nemo_aligner.render import _checkpoint_format

    write_as_the_container_s_torch(monkeypatch)
    load(megatron, to_megatron(qwen2.state_dict(), HEADS))
    state = {"state_dict": {}, "sharded_state_dict": megatron.sharded_state_dict(prefix="model.")}
    moment = megatron.output_layer.weight.detach().clone()
    key = "optimizer.state.exp_avg.output_layer"
    state["optimizer_states"] = [ShardedTensor.from_rank_offsets(key, moment)]
    folder = tmp_path / "step=10"
    DistributedCheckpointIO.from_config(_checkpoint_format()).save_checkpoint(state, folder)
    return folder


def write_as_the_container_s_torch(monkeypatch):
    """This Megatron calls a function of torch that has got two more arguments since."""
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from torch.distributed.checkpoint import filesystem

    def write(*given):
        transforms = filesystem._StorageWriterTransforms()
        return now(transforms, *given, filesystem.SerializationFormat.TORCH_SAVE)

    now = filesystem._write_item
    monkeypatch.setattr(filesystem_async, "_write_item", write)


@pytest.mark.parametrize("named", [True, False])
def test_a_torch_dist_checkpoint_is_read_as_such_beside_a_base_in_zarr(
    torch_dist, nemo_folder, megatron, qwen2, tmp_path, named
):
    """nemo_to_hf reads model_config.yaml, which the base's conversion wrote: NeMo takes its word for the format."""
    import torch
    from nemo.utils.callbacks.dist_ckpt_io import DistributedCheckpointIO

    from nemo_cot.training.nemo.rendered import from_yaml

    write_config(nemo_folder, dist_ckpt_format="zarr")
    view = unpacked_view(torch_dist, nemo_folder, tmp_path / "view")
    if not named:
        write_config(view, dist_ckpt_format="zarr")
    with torch.no_grad():
        for parameter in megatron.parameters():
            parameter.zero_()
    reader = DistributedCheckpointIO.from_config(from_yaml(view / "model_config.yaml"))
    state = {"state_dict": megatron.sharded_state_dict(prefix="model.")}
    if not named:
        with pytest.raises(Exception, match=r"zarr|array|not found"):
            reader.load_checkpoint(str(view / "model_weights"), sharded_state_dict=state)
        return
    found = reader.load_checkpoint(str(view / "model_weights"), sharded_state_dict=state)["state_dict"]
    megatron.load_state_dict({name.removeprefix("model."): value for name, value in found.items()})
    assert torch.equal(megatron.output_layer.weight, qwen2.lm_head.weight)
