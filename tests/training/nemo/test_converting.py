"""The stages hf_to_nemo and nemo_to_hf, with stand-ins for the converters, which need NeMo and a GPU.

A stand-in writes what its script would: the weights of the checkpoint that it is given. What the
recipes hand over, check, average and leave behind is real.
"""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.launchers.slurm.jobs import chain_jobs
from nemo_cot.models.average import average_models
from nemo_cot.models.format import student_tokenizer
from nemo_cot.models.tensors import tensor_index
from nemo_cot.recipes.hf_to_nemo import hf_to_nemo
from nemo_cot.recipes.nemo_to_hf import nemo_to_hf
from nemo_cot.stages import RunDirectory, run_stage
from nemo_cot.training.backend import backend_of
from nemo_cot.training.nemo.checkpoints import steps_to_convert
from nemo_cot.training.nemo_aligner.checkpoints import link_newest, saved_steps, unpacked_view
from tests.tiny import write_tiny_tokenizer

CONFIG = {"model_type": "qwen2", "rope_theta": 1e6, "num_hidden_layers": 1, "max_position_embeddings": 131072}
STAND_IN = """import json, pathlib, runpy, sys
if sys.argv[1].endswith("mean.py"):  # this one is real
    pathlib.Path(sys.argv[0]).with_name("averaged_by").write_text(sys.argv.pop(0))
    sys.exit(runpy.run_path(sys.argv[0], run_name="__main__") and 0)
from safetensors.numpy import load_file, save_file
if sys.argv[1] == "-c":
    sys.exit(0)
module, options = sys.argv[2], dict(zip(sys.argv[3::2], sys.argv[4::2]))
source, target = pathlib.Path(options["--in-path"]), pathlib.Path(options["--out-path"])
target.mkdir()
if module.endswith("hf_to_nemo_qwen"):
    weights = load_file(source / "model.safetensors")
    (target / "model_config.yaml").write_text(json.dumps(FIELDS))
    for name, tensor in weights.items():
        (target / "model_weights" / name).mkdir(parents=True)
        (target / "model_weights" / name / ".zarray").write_text(json.dumps({"shape": list(tensor.shape)}))
else:
    assert (source / "model_config.yaml").is_file() and not list((source / "model_weights").glob("optimizer.*"))
    base = pathlib.Path(options["--hf-model-name"])
    scale = json.loads((source / "model_weights" / "scale.json").read_text())
    weights = load_file(base / "model.safetensors")
    save_file({n: t * scale for n, t in weights.items()}, target / "model.safetensors")
    config = json.loads((base / "config.json").read_text()) | {"max_position_embeddings": 64}
    (target / "config.json").write_text(json.dumps(config))
"""


def stand_in(folder: Path, **fields) -> Path:
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nFIELDS = {fields!r}\n{STAND_IN}")
    path.chmod(0o755)
    return path


@pytest.fixture
def base(tmp_path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (40, 8), "model.norm.weight": (8,), "lm_head.weight": (40, 8)}
    weights = {n: torch.randn(shape, generator=generator) for n, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tiny_tokenizer(folder)
    (folder / "generation_config.json").write_text('{"max_new_tokens": 2048, "top_k": 1, "eos_token_id": 5}')
    return folder


def settings(tmp_path, base, *overrides):
    good = {"num_layers": 1, "precision": "bf16", "rotary_base": 1e6}
    return load_config(
        [
            "model=hf_directory",
            f"model.path={base}",
            "train=nemo_aligner",
            "train/layout=qwen2.5_7b",
            "train.max_steps=30",
            f"train.python={stand_in(tmp_path, **good)}",
            f"runs_dir={tmp_path}",
            "name=r",
            *overrides,
        ]
    )


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A run whose train stage has checkpoints of three steps; each scales the base model's weights."""
    run = RunDirectory(tmp_path / "r").create()
    run.stage("convert").mkdir()
    (run.stage("convert") / "manifest.json").touch()
    for step, scale in ((10, 1.5), (20, 2.0), (30, 4.0)):
        folder = (
            run.stage("train") / "aligner/checkpoints" / f"megatron_gpt_sft-step={step}-consumed_samples=8.0"
        )
        (folder / "optimizer.state").mkdir(parents=True)
        (folder / "scale.json").write_text(str(scale))
        (folder / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    (run.stage("train") / "trained.json").write_text('{"id": "1"}')
    return run


def convert(recipe, cfg, run):
    for stage in recipe(cfg):
        run_stage(stage, run)
    return run


def test_the_base_model_is_converted_and_checked(tmp_path, base, run):
    cfg = settings(tmp_path, base)
    folder = convert(hf_to_nemo, cfg, run).artifact("hf_to_nemo", "model")
    assert (folder / "model_config.yaml").is_file()
    stand_in(tmp_path, num_layers=1, precision="16", rotary_base=1e6)  # what the script does without a GPU
    (base / "config.json").write_text(json.dumps(CONFIG | {"a": 1}))
    with pytest.raises(UserError, match="precision is '16'"):
        convert(hf_to_nemo, cfg, run)


def test_the_last_step_becomes_the_trained_model(tmp_path, base, run):
    cfg = settings(tmp_path, base)
    convert(hf_to_nemo, cfg, run)
    convert(nemo_to_hf, cfg, run)
    model = run.resolve(backend_of(cfg.train).trained_model(cfg))
    assert model == run.stage("nemo_to_hf") / "model"
    assert torch.equal(weights(model)["lm_head.weight"], weights(base)["lm_head.weight"] * 4)
    assert json.loads((model / "config.json").read_text())["max_position_embeddings"] == 131072
    assert (model / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert not (run.stage("nemo_to_hf") / "scratch").exists()
    ends = student_tokenizer(cfg.model, base).stop_ids
    assert json.loads((model / "generation_config.json").read_text()) == {
        "eos_token_id": ends, "pad_token_id": min(ends),
    }  # fmt: skip
    asked = [{"role": "user", "content": "What is 1+2?"}]
    rendered = AutoTokenizer.from_pretrained(model).apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True
    )
    assert rendered == cfg.model.prompt.replace("{problem}", "What is 1+2?")


def test_steps_are_averaged_and_training_is_not_repeated_for_it(tmp_path, base, run):
    convert(hf_to_nemo, settings(tmp_path, base), run)
    cfg = settings(tmp_path, base, "train.conversion.average_steps=[10,30]")
    convert(nemo_to_hf, cfg, run)
    assert (tmp_path / "averaged_by").read_text() == cfg.train.python, "not by the recipe's own interpreter"
    averaged = weights(run.artifact("nemo_to_hf", "model"))["lm_head.weight"]
    assert torch.allclose(averaged, weights(base)["lm_head.weight"] * (1.5 + 4.0) / 2, rtol=1e-6)
    from nemo_cot.config.checks import fingerprinted

    assert fingerprinted(cfg.train) == fingerprinted(settings(tmp_path, base).train)


def test_the_models_that_are_scored_are_converted_beside_the_last_and_once(tmp_path, base, run):
    """A step that is gone is named before any conversion; without such subjects the stage is what it was."""
    saves = ["train.save_interval_steps=10", "train.save_top_k=3", "train.max_steps=30"]
    convert(hf_to_nemo, settings(tmp_path, base), run)
    cfg = settings(tmp_path, base, *saves, "evaluate.subjects=[base,trained,checkpoints]")
    convert(nemo_to_hf, cfg, run)
    for step, scale in ((10, 1.5), (20, 2.0)):
        model = run.resolve(backend_of(cfg.train).checkpoint_model(cfg, step))
        assert torch.equal(weights(model)["lm_head.weight"], weights(base)["lm_head.weight"] * scale)
        assert (model / "generation_config.json").is_file()
    last = run.artifact("nemo_to_hf", "model")
    assert torch.equal(weights(last)["lm_head.weight"], weights(base)["lm_head.weight"] * 4)
    (plain,) = nemo_to_hf(settings(tmp_path, base, *saves))
    assert plain.config.keys() == {"conversion"} and plain.writes == ("model",)
    (one,) = nemo_to_hf(settings(tmp_path, base, *saves, "evaluate.subjects=[trained@20]"))
    assert one.config["checkpoints"] == [20]
    with pytest.raises(UserError, match="step 20 is not among the saved ones") as caught:
        steps_to_convert(cfg.train, [10, 30], [10, 20])
    assert caught.value.where == "evaluate.subjects"


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_converter_that_fails_or_changes_nothing_is_told(tmp_path, base, run):
    cfg = settings(tmp_path, base)
    convert(hf_to_nemo, cfg, run)
    last = saved_steps(run.stage("train"))[30]
    (last / "scale.json").write_text("1.0")
    with pytest.raises(UserError, match="every weight is the base model's"):
        convert(nemo_to_hf, cfg, run)
    (last / "scale.json").unlink()
    with pytest.raises(UserError, match="exit code 1"):
        convert(nemo_to_hf, cfg, run)
    (last / "scale.json").write_text("2.0")
    convert(nemo_to_hf, cfg, run)


def test_outside_of_the_container_one_line_says_so(tmp_path, base, run):
    cfg = settings(tmp_path, base, f"train.python={sys.executable}")
    with pytest.raises(UserError, match=r"nemo\.collections\.nlp cannot be imported by") as caught:
        convert(hf_to_nemo, cfg, run)
    assert "training container" in caught.value.fix and "\n" not in str(caught.value)


def test_the_mean_is_exact_and_keeps_the_split_into_files(tmp_path):
    generator = torch.Generator().manual_seed(0)
    models = [
        {"a": torch.randn(30, 7, generator=generator).bfloat16(), "b": torch.randn(9, generator=generator)}
        for _ in range(3)
    ]
    for number, model in enumerate(models):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        # The second model is split elsewhere: tensors are found by name.
        parts = [{"a": model["a"]}, {"b": model["b"]}] if number != 1 else [model, {}]
        for part, tensors in enumerate(parts):
            if tensors:
                save_file(tensors, folder / f"model-{part}.safetensors")
    average_models([tmp_path / str(n) for n in range(3)], tmp_path / "mean")
    index = tensor_index(tmp_path / "mean")
    for name in ("a", "b"):
        exact = torch.stack([model[name].double() for model in models]).mean(0)
        mean = load_file(index[name].file)[name]
        assert mean.dtype == models[0][name].dtype
        assert torch.allclose(mean.double(), exact, rtol=2**-8 if name == "a" else 1e-6, atol=1e-7)
    assert {path.name for path in (tmp_path / "mean").iterdir()} == {
        "config.json",
        "model-0.safetensors",
        "model-1.safetensors",
    }


def test_models_of_other_shapes_and_damaged_files_are_refused(tmp_path, base):
    other = tmp_path / "other"
    other.mkdir()
    save_file({"lm_head.weight": torch.zeros(3)}, other / "model.safetensors")
    with pytest.raises(UserError, match="has shape"):
        average_models([base, other], tmp_path / "mean")
    with pytest.raises(UserError, match="1 models"):
        average_models([base], tmp_path / "mean")
    whole = (base / "model.safetensors").read_bytes()
    for damaged in (whole[:-1], whole[:4], b"\xff" * 8 + whole[8:], whole[:8] + b"[" + whole[9:]):
        (other / "model.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match="damaged weights"):
            tensor_index(other)


def test_an_interpreter_without_torch_cannot_average_and_says_so(tmp_path, base):
    with pytest.raises(UserError, match="exit code 1"):
        average_models([base, base], tmp_path / "mean", python=[sys.executable, "-S", "-I"])
    with pytest.raises(UserError, match="No such file"):
        average_models([base, base], tmp_path / "mean", python=["/no/such/python"])


def test_a_packed_base_model_gives_its_description_alone(tmp_path):
    import io
    import tarfile

    path = tmp_path / "base.nemo"
    with tarfile.open(path, "w") as archive:
        for name in ("./model_config.yaml", "../outside.yaml", "model_weights/common.pt"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"{}"))
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    view = unpacked_view(tmp_path / "checkpoint", path, tmp_path / "a" / "view")
    assert sorted(p.name for p in view.iterdir()) == ["model_config.yaml", "model_weights"]
    assert (view / "model_config.yaml").read_text() == "dist_ckpt_format: torch_dist\n"
    assert not (tmp_path / "a" / "outside.yaml").exists()


def test_a_step_that_was_not_saved_is_named(tmp_path, base):
    cfg = settings(tmp_path, base, "train.conversion.average_steps=[10,25]")
    with pytest.raises(UserError, match="step 25 is not among"):
        steps_to_convert(cfg.train, [10, 20, 30])
    with pytest.raises(UserError, match=r"train\.conversion\.average_steps"):
        settings(tmp_path, base, "train.conversion.average_steps=[10]")


@pytest.mark.parametrize("changed, expected", [
    ([], ["hf_to_nemo", "nemo_to_hf"]),
    (["train.nemo_model=/models/base-nemo"], ["nemo_to_hf"]),
    (["train=nemo_rl", "train/layout=qwen2.5_7b"], ["nemo_to_hf"]),
    (["experiment=quickstart"], []),
])  # fmt: skip
def test_the_chain_has_the_conversions_where_they_are_needed(changed, expected, base):
    nemo = ["model=hf_directory", f"model.path={base}", "train=nemo_aligner", "train/layout=qwen2.5_7b"]
    chain = graph(load_config(changed if "experiment=quickstart" in changed else [*nemo, *changed]))
    assert [name for name in chain.stages if "nemo" in name] == expected
    assert set(expected) <= chain.ancestors("evaluate")


def test_the_conversions_alone_are_a_job_each(tmp_path, base):
    cfg = settings(tmp_path, base, "cluster=slurm_minimal", "launcher.stages=[hf_to_nemo,nemo_to_hf]")
    chain = graph(cfg)
    jobs = chain_jobs(cfg, chain, plan_chain(chain, run_directory(cfg)))
    assert [(job.key, job.after, job.resources) for job in jobs] == [
        ("hf_to_nemo", (), "conversion"), ("nemo_to_hf", ("hf_to_nemo",), "conversion"),
    ]  # fmt: skip


def test_a_checkpoint_that_names_no_format_is_refused(tmp_path, run):
    base = tmp_path / "nemo"
    base.mkdir()
    (base / "model_config.yaml").write_text("{}")
    last = saved_steps(run.stage("train"))[30]
    for damaged in (None, "{}", "no JSON"):
        (last / "metadata.json").unlink() if damaged is None else (last / "metadata.json").write_text(damaged)
        with pytest.raises(UserError, match="not a Megatron checkpoint"):
            unpacked_view(last, base, tmp_path / "view")


def test_the_newest_whole_checkpoint_is_what_a_training_resumes_from(run):
    """After any number of attempts there is one link; a half-written or removed checkpoint is none."""
    train = run.stage("train")
    checkpoints = train / "aligner/checkpoints"

    def last() -> list[str]:
        link_newest(train)
        return [path.resolve().name.split("-")[1] for path in checkpoints.glob("*-last")]

    assert last() == ["step=30"] == last()
    newest = saved_steps(train)[30]
    marker = newest.with_name(f"{newest.name}-unfinished")
    marker.touch()  # a kill while it was written
    assert last() == ["step=20"]
    marker.unlink()
    newest.rename(newest.with_name("elsewhere"))  # the link now leads nowhere
    assert last() == ["step=20"] and sorted(saved_steps(train)) == [10, 20]


def test_copies_of_an_earlier_version_are_gone_on_from(run):
    train = run.stage("train")
    newest = saved_steps(train)[30]
    copy = newest.with_name(f"{newest.name}-last")
    newest.rename(copy)  # with save_top_k 0 the copy was all
    (copy.parent / "megatron_gpt_sft-step=20-consumed_samples=8.0-last").mkdir()
    link_newest(train)
    (link,) = copy.parent.glob("*-last")
    assert link.is_symlink() and link.resolve() == newest and sorted(saved_steps(train)) == [10, 20, 30]


def test_what_is_written_and_for_how_long():
    """Qwen2.5-32B by hand: 32.76e9 parameters x 14 bytes = 459 GB each, every 10 of 25 steps and at the end."""
    from nemo_cot.preflight.estimate import estimate

    big = ["model=qwen2.5_32b", "model.path=/none", "train=nemo_aligner", "train/layout=qwen2.5_32b"]
    saves = ["train.max_steps=25", "train.save_interval_steps=10", "train.save_top_k=0"]
    cost = estimate(load_config([*big, *saves]), None, None).training
    assert cost.written_bytes == pytest.approx(3 * 458.7e9, rel=1e-3)
    assert cost.save_seconds == pytest.approx(3 * 458.7e9 / 2e9, rel=1e-3)
    assert cost.host_bytes == pytest.approx(393e9, rel=1e-2)  # 12 bytes x 32.76e9 / TP 8 x 8 ranks per node
    adapters = estimate(load_config([*big, *saves, "train.lora.enabled=true"]), None, None).training
    assert adapters.written_bytes < 0.02 * cost.written_bytes
