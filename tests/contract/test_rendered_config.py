"""The rendered Aligner config through the real functions that read it, as its training script calls them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import yaml

from nemo_cot.config import LoggersConfig, OptimConfig, PackConfig, SchedConfig
from nemo_cot.packing import literal_draws, literal_packs
from nemo_cot.training.nemo.config import ConversionConfig, LayoutConfig, LoraConfig
from nemo_cot.training.nemo.rendered import to_yaml
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from nemo_cot.training.nemo_aligner.packed_file import packed_lengths, write_packed_file
from nemo_cot.training.nemo_aligner.render import AlignerInputs, render_nemo_aligner

STEPS, BATCH, PEAK = 50, 1024, 1e-5
CHECKPOINT = {
    "num_layers": 2,
    "hidden_size": 64,
    "encoder_seq_length": 4096,
    "mcore_gpt": True,
    "nemo_version": "2.1.0",
    "target": "some.Model",
    "precision": "bf16",
    "tokenizer": {"library": "huggingface", "type": "/models/base"},
}
"""The part of a checkpoint's model_config.yaml that decides anything here."""


def train_config(schedule: str = "cosine", **changes) -> AlignerTrain:
    layout = LayoutConfig(1, 1, 1, 1, 1, False, "full", True, 79.6, 8.0)
    values = dict(
        backend="nemo_aligner",
        max_steps=STEPS,
        global_batch_size=BATCH,
        batching="literal",
        objective="pack_mean",
        precision="bf16",
        seed=1234,
        gradient_clip_val=1.0,
        save_interval_steps=20,
        layout=layout,
        optim=OptimConfig("adamw", PEAK, [0.9, 0.98], 1e-8, 0.01, SchedConfig(schedule, 5, 0.0)),
        lora=LoraConfig(False, 32, 32, 0.0, ["attention_qkv"]),
        micro_batch_size=1,
        save_top_k=5,
        max_time_per_run="00:03:45:00",
        num_workers=0,
        conversion=ConversionConfig([]),
        nemo_model=None,
        megatron_amp_O2=True,
        process_launcher="torchrun",
        srun_arguments=[],
        master_port=29500,
        python="python",
        overrides={},
        loggers=LoggersConfig(True, False, False, "p", None),
    )
    return AlignerTrain(**(values | changes))


@pytest.fixture(scope="session")
def literal(traces, layout):
    draws = literal_draws(len(traces), STEPS, BATCH, seed=3)
    lengths = packed_lengths(traces, layout)
    return literal_packs(draws, lengths, layout.capacity_tokens, strategy="shuffle")


@pytest.fixture
def rendered(tmp_path, traces, layout, literal):
    """The rendered config as its YAML file reads back, over a literal packed file of all 50 steps."""
    packed, base = tmp_path / "train.npy", tmp_path / "base-nemo"
    write_packed_file(packed, literal.packs, traces, layout, packs_per_step=literal.packs_per_step)
    base.mkdir()
    (base / "model_config.yaml").write_text(yaml.safe_dump(CHECKPOINT))
    inputs = AlignerInputs(
        str(base), str(packed), literal.packs_per_step, str(tmp_path / "aligner"), "contract"
    )
    return render_nemo_aligner(train_config(), PackConfig(layout.capacity_tokens, "shuffle", 0), inputs)


@pytest.fixture
def loaded(rendered, tmp_path):
    """As nemo_cot.training.nemo_aligner.aligner_sft loads it: from YAML, merged over the checkpoint's own config."""
    from nemo_cot.training.nemo_aligner.aligner_sft import load

    path = tmp_path / "aligner.yaml"
    path.write_text(to_yaml(rendered))
    return load(str(path))


def test_the_checkpoint_s_config_is_overridden_where_it_must_be(loaded, layout):
    model = loaded.model
    assert model.precision == loaded.trainer.precision == "bf16"
    assert model.encoder_seq_length == layout.capacity_tokens  # not the checkpoint's 4096
    assert model.num_layers == 2 and model.tokenizer.type == "/models/base"
    assert "target" not in model and "nemo_version" not in model


def test_data_set_and_loader_give_exactly_50_steps_of_their_own_packs(
    loaded, literal, base_tokenizer, one_rank
):
    from nemo_aligner.data.nlp.builders import build_dataloader, build_sft_dataset
    from nemo_aligner.utils.trainer_utils import compute_limit_batches, compute_num_steps_per_epoch

    from nemo_cot.training.nemo_aligner.aligner_sft import build_loader, build_packed_dataset

    dataset = build_packed_dataset(loaded, loaded.model.data.train_ds, base_tokenizer, build_sft_dataset)
    loader = build_loader(loaded, loaded.model.data.train_ds, dataset, 0, build_dataloader)
    sft = loaded.trainer.sft
    steps = compute_num_steps_per_epoch(loader.batch_sampler, sft.limit_train_batches)
    assert steps == len(loader) == STEPS == min(steps * sft.max_epochs, sft.max_steps)
    batches = list(loader.batch_sampler)
    assert batches == [
        list(range(i * literal.packs_per_step, (i + 1) * literal.packs_per_step)) for i in range(STEPS)
    ]
    drawn = list(
        itertools.chain.from_iterable(literal.packs[number] for batch in batches for number in batch)
    )
    assert len(drawn) == STEPS * BATCH
    assert compute_limit_batches(len(loader), sft.limit_val_batches) == 0


def test_a_resumed_run_goes_on_with_the_next_step(loaded, literal, base_tokenizer, one_rank):
    from nemo_aligner.data.nlp.builders import build_dataloader, build_sft_dataset

    from nemo_cot.training.nemo_aligner.aligner_sft import build_loader, build_packed_dataset

    dataset = build_packed_dataset(loaded, loaded.model.data.train_ds, base_tokenizer, build_sft_dataset)
    consumed = 20 * loaded.model.global_batch_size  # as Aligner's trainer counts
    loader = build_loader(loaded, loaded.model.data.train_ds, dataset, consumed, build_dataloader)
    batches = list(loader.batch_sampler)
    assert len(batches) == 30 and batches[0][0] == 20 * literal.packs_per_step


def test_the_answer_s_tokens_alone_are_trained(loaded, base_tokenizer, one_rank):
    from nemo_aligner.data.nlp.builders import build_dataloader, build_sft_dataset

    from nemo_cot.training.nemo_aligner.aligner_sft import build_loader, build_packed_dataset
    from tests.contract.contract_data import END_OF_TURN, PROBLEMS, trained_texts

    dataset = build_packed_dataset(loaded, loaded.model.data.train_ds, base_tokenizer, build_sft_dataset)
    answers = {answer + END_OF_TURN for _, answer in PROBLEMS}
    batch = dataset.collate_fn([dataset[0]])
    texts = trained_texts(batch, base_tokenizer)
    assert texts and set(texts) <= answers
    loader = build_loader(loaded, loaded.model.data.train_ds, dataset, 0, build_dataloader)
    assert next(iter(loader))["tokens"].shape[0] == loaded.model.global_batch_size


def rates(sched: dict) -> list[float]:
    import torch
    from nemo.core.optim import prepare_lr_scheduler
    from omegaconf import OmegaConf

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = prepare_lr_scheduler(optimizer, OmegaConf.create(sched), None)["scheduler"]
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def expected(schedule: str, step: int) -> float:
    """NeMo's warm-up, (step + 1)/(warmup + 1) of the peak; then the schedule, to 0 after the last step."""
    if step <= 5:
        return PEAK * (step + 1) / 6
    left = 1 - (step - 5) / (STEPS - 5)
    return (
        PEAK
        * {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left)))}[schedule]
    )


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_learning_rate_over_the_50_steps_is_the_intended_one(schedule, layout):
    inputs = AlignerInputs("/b", "/p", 8, "/l", "n")
    sched = render_nemo_aligner(train_config(schedule), PackConfig(128, "shuffle", 0), inputs)["model"][
        "optim"
    ]["sched"]
    assert rates(sched) == pytest.approx([expected(schedule, step) for step in range(STEPS)])


def test_the_save_points_are_hit(loaded):
    from nemo_aligner.utils.trainer_utils import check_progress

    sft = loaded.trainer.sft
    points = [
        check_progress(step, sft.max_steps, sft.val_check_interval, sft.save_interval, sft.limit_val_batches)
        for step in range(1, STEPS + 1)
    ]
    assert [step for step, (_, saves, _) in enumerate(points, 1) if saves] == [20, 40, 50]
    assert not any(validates for validates, _, _ in points)


def test_exp_manager_and_trainer_take_their_keys_and_keep_the_latest_checkpoints(loaded, tmp_path):
    from lightning.pytorch import Trainer
    from nemo.utils.exp_manager import NeMoModelCheckpoint, exp_manager
    from omegaconf import OmegaConf

    keys = OmegaConf.to_container(loaded.trainer)
    keys.pop("sft")
    keys |= {
        "accelerator": "cpu",
        "precision": "bf16-mixed",
    }  # MegatronTrainerBuilder makes a plugin of "bf16"
    trainer = Trainer(**keys)
    assert trainer.max_steps == STEPS
    exp_manager(trainer, loaded.exp_manager)
    (callback,) = [c for c in trainer.callbacks if isinstance(c, NeMoModelCheckpoint)]
    assert (callback.monitor, callback.mode, callback.save_top_k, callback.save_last) == (
        "step",
        "max",
        5,
        False,
    )
    assert Path(callback.dirpath) == tmp_path / "aligner" / "checkpoints"
    assert trainer.ckpt_path is None  # nothing to resume from, and no error


def test_the_run_timer_reads_the_time_limit(loaded):
    from nemo_aligner.utils.distributed import Timer

    assert Timer(loaded.exp_manager.max_time_per_run)._duration == (3 * 60 + 45) * 60


def test_adapters_are_those_that_peft_config_builds(layout):
    from nemo.collections.nlp.parts.peft_config import PEFT_CONFIG_MAP
    from omegaconf import OmegaConf

    train = train_config(lora=LoraConfig(True, 8, 16, 0.0, ["attention_qkv", "mlp_fc1"]))
    model = render_nemo_aligner(
        train, PackConfig(128, "shuffle", 0), AlignerInputs("/b", "/p", 8, "/l", "n")
    )["model"]
    model |= {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_layers": 2,
        "ffn_hidden_size": 128,
        "num_query_groups": 2,
    }
    config = PEFT_CONFIG_MAP[model["peft"]["peft_scheme"]](OmegaConf.create(model))
    adapters = list(config.name_key_to_cfg.values())
    assert len(adapters) == 2
    assert {(a.dim, a.alpha) for a in adapters} == {(8, 16)}


def test_checkpoints_are_named_by_their_step_and_the_latest_are_kept(loaded, tmp_path, monkeypatch):
    """The real callback through Aligner's own save function; only the writing of weights is a stand-in.

    Each save is written once, and a second attempt resumes from the newest through a link.
    """
    import torch
    from lightning.pytorch import Trainer
    from nemo.utils.exp_manager import NeMoModelCheckpoint, exp_manager
    from nemo_aligner.utils.utils import custom_save_ckpt_func

    from nemo_cot.training.nemo_aligner.checkpoints import link_newest, saved_steps

    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    loaded.exp_manager.checkpoint_callback_params.save_top_k = 2
    exp_manager(trainer, loaded.exp_manager)
    (callback,) = [c for c in trainer.callbacks if isinstance(c, NeMoModelCheckpoint)]
    written, removed = [], []

    def write(trainer, path):
        written.append(Path(path).with_suffix(""))
        written[-1].mkdir(parents=True)

    monkeypatch.setattr(callback, "_save_checkpoint", write)
    monkeypatch.setattr(
        callback, "_remove_checkpoint", lambda trainer, path, *_: removed.append(Path(path).name)
    )
    for step in (20, 40, 50):
        counts = {"step": step, "consumed_samples": step * 8, "epoch": 0}
        candidates = {name: torch.tensor(value, dtype=torch.int32) for name, value in counts.items()}
        custom_save_ckpt_func(callback, trainer, None, candidates)
        assert max(saved_steps(tmp_path)) == step
    assert len(written) == 3 and len(removed) == 1 and "step=20-" in removed[0]
    link_newest(tmp_path)
    again = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    exp_manager(again, loaded.exp_manager)
    assert Path(again.ckpt_path).resolve() == written[-1] and Path(again.ckpt_path).name.endswith("-last")
