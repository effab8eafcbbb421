"""The container's smoke test, rehearsed on a CPU: converters and trainer are stand-ins, the rest is real.

The stand-ins write real zarr arrays in Megatron's layout and real safetensors, and the trainer's computes the
losses of a pack in transformers, in bf16 and in one forward pass, so what the smoke test compares is
compared. SMOKE_TRAP and SMOKE_MASK make them go wrong as the real ones might.
"""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from nemo_cot.launchers.smoke import STEPS_IN_ORDER, Smoke, main, run_steps
from nemo_cot.training.nemo_aligner import smoke_model
from tests.support import ROOT
from tests.training.nemo.packed_loss import TRAPS

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
if sys.argv[1] == "-c":
    sys.exit(0)
import torch, zarr, yaml
from safetensors.torch import save_file
from nemo_cot.training.nemo_aligner import smoke_model
from nemo_cot.training.nemo_aligner.packed_file import read_packed_file
from nemo_cot.training.nemo_aligner.parity import check_parity, packing_parity
from nemo_cot.training.nemo_aligner.weights import Heads, stacked, to_megatron
from tests.megatron_weights import to_hugging_face
from tests.training.nemo.packed_loss import model_of, packed_loss

trap, heads = os.environ.get("SMOKE_TRAP"), Heads(4, 2)

def write_zarr(folder, arrays):
    for name, tensor in arrays.items():
        zarr.save_array(str(folder / name), tensor.float().numpy())
    (folder / "metadata.json").write_text('{{"sharded_backend": "zarr"}}')

def read_zarr(folder):
    found = {{}}
    for path in folder.glob("*/.zarray"):
        array = torch.from_numpy(zarr.open(str(path.parent), "r")[:])
        name = path.parent.name.removeprefix("model.")
        if name.startswith("decoder.layers."):
            for layer, part in enumerate(array):
                found[name.replace("decoder.layers.", f"decoder.layers.{{layer}}.")] = part
        else:
            found[name] = array
    return found

if "nemo_skills" in sys.argv[2]:
    options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
    source, target = pathlib.Path(options["--in-path"]), pathlib.Path(options["--out-path"])
    target.mkdir()
    if "hf_to_nemo" in sys.argv[2]:
        own = json.loads((source / "config.json").read_text())
        tensors = to_megatron(smoke_model.load(source), Heads(4, 4) if trap == "layout" else heads)
        (target / "model_weights").mkdir()
        write_zarr(target / "model_weights", dict(stacked(tensors)))
        (target / "model_config.yaml").write_text(yaml.safe_dump({{
            "num_layers": own["num_hidden_layers"], "hidden_size": own["hidden_size"],
            "ffn_hidden_size": own["intermediate_size"], "num_attention_heads": 4, "num_query_groups": 2,
            "layernorm_epsilon": own["rms_norm_eps"], "rotary_base": own["rope_theta"],
            "precision": "16" if trap == "fp16" else "bf16"}}))
    else:
        tensors = to_hugging_face(read_zarr(source / "model_weights"), heads)
        if trap in ("back", "moves"):
            tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.5
        save_file({{n: t.bfloat16().contiguous() for n, t in tensors.items()}}, target / "model.safetensors")
else:
    config = yaml.safe_load(open(sys.argv[-1]))
    base = pathlib.Path(config["model"]["restore_from_path"])
    logs = pathlib.Path(config["exp_manager"]["explicit_log_dir"])
    model = model_of(base.parents[2] / "base", dtype="bfloat16")
    pack = read_packed_file(pathlib.Path(config["model"]["data"]["train_ds"]["file_path"]))[0]
    item = {{"input_ids": pack.input_ids, "loss_mask": pack.loss_mask,
            "seq_boundaries": [*pack.seq_start_id, len(pack.input_ids)]}}
    broken = os.environ.get("SMOKE_MASK")

    def loss_of(part):
        ends = part["seq_boundaries"]
        whole = [(part["input_ids"][a:b], part["loss_mask"][a:b]) for a, b in zip(ends, ends[1:])]
        return packed_loss(model, whole, trap=broken)

    found = packing_parity(item, loss_of)
    if trap != "unchecked":  # a trainer whose own check is blind
        check_parity(found)
    alone = found.packed if trap == "unchecked" else found.alone
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "packing.json").write_text(json.dumps({{"row": 0, "packed": found.packed, "alone": alone}}))
    steps = config["trainer"]["max_steps"]
    checkpoint = logs / "checkpoints" / f"megatron_gpt_sft-step={{steps}}-consumed_samples=8.0"
    checkpoint.mkdir(parents=True)
    tensors = {{p.parent.name: torch.from_numpy(zarr.open(str(p.parent), "r")[:]) + 0.001
               for p in (base / "model_weights").glob("*/.zarray")}}
    write_zarr(checkpoint, tensors)
"""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    python = folder / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return Smoke(folder / "work", [f"train.python={python}"])


@pytest.fixture(scope="module")
def passed(smoke):
    """All steps but the first, which wants a GPU."""
    assert run_steps(smoke, STEPS_IN_ORDER[1:]) == 0
    return smoke


def test_without_a_gpu_the_first_step_says_so(smoke, capsys):
    assert run_steps(smoke) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("1/7 tools: FAILED") and "GPU" in lines[-1]


def test_the_other_steps_leave_what_they_compare(passed):
    rendered = json.loads((passed.run.stage("train") / "command.json").read_text())
    assert "--nproc-per-node=1" in rendered["argv"]
    assert passed.run.artifact("nemo_to_hf", "model").is_dir()


@pytest.mark.parametrize(
    ("trap", "step", "stage"),
    [
        ("layout", "to_nemo", "hf_to_nemo"),
        ("fp16", "to_nemo", "hf_to_nemo"),
        ("back", "there_and_back", "back"),
        ("moves", "to_hugging_face", "nemo_to_hf"),
    ],
)
def test_what_goes_wrong_is_found_at_its_step(trap, step, stage, passed, capsys, monkeypatch):
    kept = passed.run.stage(stage).rename(passed.run.path / "kept")
    monkeypatch.setenv("SMOKE_TRAP", trap)
    try:
        assert run_steps(passed, [step]) == 1
        assert f"{step}: FAILED" in capsys.readouterr().out.splitlines()[-1]
    finally:
        shutil.rmtree(passed.run.stage(stage), ignore_errors=True)
        kept.rename(passed.run.stage(stage))


@pytest.mark.parametrize("mask", TRAPS)
@pytest.mark.parametrize(("trap", "failing"), [("", "train"), ("unchecked", "loss")])
def test_trap_a_trainer_whose_mask_is_broken_is_found(mask, trap, failing, passed, capsys, monkeypatch):
    """By the trainer's own check before the first step; where that is blind, by the loss in transformers."""
    kept = passed.run.stage("train").rename(passed.run.path / "kept")
    monkeypatch.setenv("SMOKE_MASK", mask)
    monkeypatch.setenv("SMOKE_TRAP", trap)
    try:
        assert run_steps(passed, ["train", "loss"]) == 1
        assert f"{failing}: FAILED" in capsys.readouterr().out.splitlines()[-1]
    finally:
        shutil.rmtree(passed.run.stage("train"), ignore_errors=True)
        kept.rename(passed.run.stage("train"))


def test_the_two_losses_of_a_pack_are_computed_apart_and_agree(passed):
    found = json.loads((passed.run.stage("train") / "aligner" / "packing.json").read_text())
    own = smoke_model.loss_of_pack(passed.base, passed.run.stage("train") / "train.npy", found["row"])
    assert len({found["packed"], found["alone"], own}) == 3  # bf16 in two shapes, and fp32
    assert found["packed"] == pytest.approx(own, rel=smoke_model.TOLERANCE / 2)


def test_another_loss_than_transformers_is_found(passed, capsys):
    path = passed.run.stage("train") / "aligner" / "packing.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"packed": found["packed"] * 1.4}))
    assert run_steps(passed, ["loss"]) == 1
    assert "loss: FAILED" in capsys.readouterr().out
    path.write_text(json.dumps(found))
    assert run_steps(passed, ["loss"]) == 0


def test_the_command_line(tmp_path, capsys):
    assert main([]) == 2 and main(["-h"]) == 0
    assert main([str(tmp_path), "train.nonsense=1"]) == 2
    assert "unknown key" in capsys.readouterr().err
