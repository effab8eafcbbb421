"""NeMo-Aligner's whole SFT config, as a pure function of ours.

Aligner's wheel holds no gpt_sft.yaml, and a default that nobody chose is how runs go wrong: so
every key that its code reads is written here, and no other (tests/contract/test_keys_are_read.py). A key whose value departs from gpt_sft.yaml (Aligner 0.7.0) has its
reason beside it. docs/nemo.md lists the traps that these values avoid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nemo_cot.config import LoggersConfig, OptimConfig, PackConfig
from nemo_cot.training.lora import LoraConfig
from nemo_cot.training.nemo.rendered import overridden
from nemo_cot.training.nemo_aligner.config import AlignerTrain

Rendered = dict[str, Any]


OURS = {
    "trainer.num_nodes": "train.layout.num_nodes",
    "trainer.devices": "train.layout.gpus_per_node",
    "trainer.precision": "train.precision",
    "trainer.max_steps": "train.max_steps",
    "trainer.sft.max_steps": "train.max_steps",
    "trainer.sft.save_interval": "train.save_interval_steps",
    "trainer.sft.val_check_interval": "train.save_interval_steps",
    "exp_manager.explicit_log_dir": "runs_dir",
    "exp_manager.resume_if_exists": "train.save_interval_steps",
    "exp_manager.max_time_per_run": "train.max_time_per_run",
    "exp_manager.checkpoint_callback_params": "train.save_top_k",
    "model.restore_from_path": "train.nemo_model",
    "model.tensor_model_parallel_size": "train.layout.tensor_model_parallel_size",
    "model.pipeline_model_parallel_size": "train.layout.pipeline_model_parallel_size",
    "model.virtual_pipeline_model_parallel_size": "train.layout.pipeline_model_parallel_size",
    "model.context_parallel_size": "train.layout.context_parallel_size",
    "model.sequence_parallel": "train.layout.sequence_parallel",
    "model.activations_checkpoint_granularity": "train.layout.checkpoint_activations",
    "model.activations_checkpoint_method": "train.layout.checkpoint_activations",
    "model.activations_checkpoint_num_layers": "train.layout.checkpoint_activations",
    "model.megatron_amp_O2": "train.megatron_amp_O2",
    "model.encoder_seq_length": "pack.capacity_tokens",
    "model.global_batch_size": "train.global_batch_size",
    "model.micro_batch_size": "train.micro_batch_size",
    "model.hidden_dropout": "train.batching",
    "model.attention_dropout": "train.batching",
    "model.ffn_dropout": "train.batching",
    "model.overwrite_base_config": "train.optim",
    "model.dist_ckpt_format": "train.save_top_k",
    "model.data": "pack",
    "model.peft": "train.lora",
    "model.optim": "train.optim",
}
"""Keys, or beginnings of keys, that rules and estimates go by -> what of our config they go by."""


class AlignerInputs(NamedTuple):
    """What is known only when the run's files are there. Paths are those inside the container."""

    base_model: str  # NeMo checkpoint, a folder or a .nemo file
    packed_file: str
    packs_per_step: int  # of the packed file's sidecar
    log_dir: str  # checkpoints/ and logs; a later attempt resumes from it
    name: str


def render_nemo_aligner(train: AlignerTrain, pack: PackConfig, inputs: AlignerInputs) -> Rendered:
    """The config that nemo_cot.training.nemo_aligner.aligner_sft reads, as plain dicts, lists, numbers and strings.

    Raises UserError when the layout's GPUs do not make whole copies of the model. Everything
    else that can be wrong is preflight's to find (nemo_cot.training.nemo.rules).
    """
    layout, recomputed = train.layout, train.layout.checkpoint_activations
    _ = layout.data_parallel_size  # raises for GPUs that make no whole copies
    rendered = {
        "trainer": _trainer(train),
        "exp_manager": _exp_manager(train, inputs),
        "model": {
            "seed": train.seed,
            "restore_from_path": inputs.base_model,
            # The checkpoint brings an optim section of its own, whose keys (constant_steps, bucket_cap_mb) would
            # join ours, and be refused by the schedule or the optimizer that we name.
            "overwrite_base_config": {"optim": True},
            **_checkpoint_format(),
            "tensor_model_parallel_size": layout.tensor_model_parallel_size,
            "pipeline_model_parallel_size": layout.pipeline_model_parallel_size,
            "context_parallel_size": layout.context_parallel_size,
            "sequence_parallel": layout.sequence_parallel,
            "megatron_amp_O2": train.megatron_amp_O2,
            "encoder_seq_length": pack.capacity_tokens,  # default 4096, which would override the checkpoint's
            "global_batch_size": inputs.packs_per_step,  # Aligner counts packs, not sequences
            "micro_batch_size": 1,
            "activations_checkpoint_granularity": None if recomputed == "none" else recomputed,
            "activations_checkpoint_method": "uniform" if recomputed == "full" else None,
            "activations_checkpoint_num_layers": 1 if recomputed == "full" else None,
            "activations_checkpoint_layers_per_pipeline": None,
            "transformer_engine": True,  # the packed (THD) attention kernel is Transformer Engine's
            "gradient_as_bucket_view": False,
            "answer_only_loss": True,  # default False; Aligner's script passes True by hand, ours reads it
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "ffn_dropout": 0.0,
            "peft": _peft(train.lora),
            "data": _data(train, pack, inputs),
            "optim": render_optim(train.optim, train.max_steps, distributed=layout.distributed_optimizer),
        },
    }
    return overridden(rendered, train.overrides)


def _trainer(train: AlignerTrain) -> Rendered:
    return {
        "num_nodes": train.layout.num_nodes,
        "devices": train.layout.gpus_per_node,
        "accelerator": "gpu",
        "precision": "bf16" if train.precision == "bf16" else "32",
        "logger": False,
        "enable_checkpointing": False,
        "use_distributed_sampler": False,
        "max_time": None,
        "max_epochs": 1,
        # With -1 NeMo spreads the learning-rate schedule over the micro batches: 51,200, not 50.
        "max_steps": train.max_steps,
        "gradient_clip_val": train.gradient_clip_val,  # for Megatron's own optimizer, if it is chosen by hand
        "sft": {
            "max_epochs": 1,  # the packed file holds every step in order; more needs the random sampler
            "max_steps": train.max_steps,
            "limit_train_batches": 1.0,
            # No validation: 20 traces leave none to hold out, and the evaluation stage measures more.
            "limit_val_batches": 0,
            "val_check_interval": train.save_interval_steps,  # save_interval must be a multiple of it
            "save_interval": train.save_interval_steps,
            "gradient_clip_val": train.gradient_clip_val,
        },
    }


def _exp_manager(train: AlignerTrain, inputs: AlignerInputs) -> Rendered:
    return {
        "explicit_log_dir": inputs.log_dir,  # one place, so that a requeued job finds its checkpoints
        "exp_dir": None,
        "name": inputs.name,
        **_loggers(train.loggers, inputs),
        "resume_if_exists": True,
        "resume_ignore_no_checkpoint": True,
        "max_time_per_run": train.max_time_per_run,  # default null: Slurm would kill it between checkpoints
        "log_step_timing": False,  # a Lightning callback; Aligner's own loop never calls it
        "log_tflops_per_sec_per_gpu": False,  # likewise
        "create_preemption_callback": False,  # likewise
        "create_checkpoint_callback": True,
        "checkpoint_callback_params": {
            "monitor": "step",  # default val_loss, which does not exist without validation
            "mode": "max",
            "save_top_k": train.kept_saves,
            # Default true: every save is written twice. What resumes is a link (checkpoints.link_newest).
            "save_last": False,
            "save_nemo_on_train_end": False,  # weights once more, which nothing reads: nemo_to_hf takes a save
            "filename": "megatron_gpt_sft-{step}-{consumed_samples}",  # default names val_loss
            "model_parallel_size": train.layout.tensor_model_parallel_size
            * train.layout.pipeline_model_parallel_size,
            "save_best_model": False,
        },
    }


def _loggers(loggers: LoggersConfig, inputs: AlignerInputs) -> Rendered:
    """Off stands in full; what a logger wants stands where it is on."""
    rendered: Rendered = {"create_tensorboard_logger": loggers.tensorboard, "create_wandb_logger": loggers.wandb}
    if loggers.wandb:
        rendered["wandb_logger_kwargs"] = {"project": loggers.project, "name": inputs.name}
    rendered["create_mlflow_logger"] = loggers.mlflow
    if loggers.mlflow:
        uri = loggers.mlflow_uri or f"file:{inputs.log_dir}/mlflow"
        rendered["mlflow_logger_kwargs"] = {"experiment_name": loggers.project, "tracking_uri": uri}
    return rendered


def _checkpoint_format() -> Rendered:
    return {
        "dist_ckpt_format": "torch_dist",  # the converter's zarr would be inherited: deprecated, slow
        "dist_ckpt_parallel_save": True,  # default false: the first data-parallel copy writes alone
        "dist_ckpt_torch_dist_multiproc": 2,  # processes that write, per rank
    }


def _peft(lora: LoraConfig) -> Rendered:
    return {
        "peft_scheme": "lora" if lora.enabled else "none",
        "restore_from_path": None,
        "lora_tuning": {
            "target_modules": list(lora.target_modules),
            "adapter_dim": lora.dim,
            "alpha": lora.alpha,
            "adapter_dropout": lora.dropout,
            "column_init_method": "xavier",
            "row_init_method": "zero",
            "layer_selection": None,
            "weight_tying": False,
            "position_embedding_strategy": None,
        },
    }


def _data(train: AlignerTrain, pack: PackConfig, inputs: AlignerInputs) -> Rendered:
    packs = _packed_dataset(pack, inputs)
    return {
        "chat": False,  # chat data sets cannot be packed
        "chat_prompt_tokens": None,  # default: tokens that mark the turns; read for chat data sets alone
        "num_workers": train.num_workers,
        "train_ds": packs,
        # No validation (limit_val_batches 0), but the trainer wants a loader, and the model its batch.
        "validation_ds": {key: packs[key] for key in ("global_batch_size", "micro_batch_size", "drop_last")},
    }


def _packed_dataset(pack: PackConfig, inputs: AlignerInputs) -> Rendered:
    return {
        "file_path": inputs.packed_file,
        "packed_sequence": True,  # absent from gpt_sft.yaml
        "packed_sequence_return_cu_seqlen": True,  # attention stays within each sequence
        "global_batch_size": inputs.packs_per_step,
        "micro_batch_size": 1,  # must be, for packs
        "memmap_workers": None,
        "max_seq_length": pack.capacity_tokens,
        "min_seq_length": 1,
        "drop_last": True,
        "label_key": "output",
        "add_eos": False,  # default True; the traces end in the end-of-turn token, and eos means padding
        "add_sep": False,
        "add_bos": False,
        "truncation_field": "input",
        "truncation_method": "right",
        "prompt_template": "{input} {output}",  # not used: the file holds tokens
        "index_mapping_dir": None,
        "hf_dataset": False,
        "output_original_text": False,
    }


def render_optim(optim: OptimConfig, max_steps: int, *, distributed: bool) -> Rendered:
    """model.optim: Adam with decoupled weight decay, and the schedule over exactly ``max_steps``."""
    return {
        "name": "distributed_fused_adam" if distributed else "fused_adam",
        "lr": optim.lr,
        "weight_decay": optim.weight_decay,
        "betas": list(optim.betas),
        "eps": optim.eps,
        **(_DISTRIBUTED if distributed else {}),
        "sched": _SCHEDULES[optim.sched.name]
        | {
            "warmup_steps": optim.sched.warmup_steps,
            "min_lr": optim.sched.min_lr,
            "max_steps": max_steps,  # the second guard against a schedule over the micro batches
        },
    }


_DISTRIBUTED: Rendered = {
    "bucket_cap_mb": 125,
    "overlap_grad_sync": True,
    "overlap_param_sync": True,
    "contiguous_grad_buffer": True,
}
"""Apex's distributed Adam, as in the config of NeMo's Qwen2, which the converter writes into the checkpoint."""

_SCHEDULES: dict[str, Rendered] = {
    # constant_steps: default 1000, which leaves a run of 50 steps at its minimum from the warm-up's end.
    "cosine": {"name": "CosineAnnealing", "constant_steps": 0},
    "linear": {"name": "PolynomialDecayAnnealing", "power": 1.0, "cycle": False},
    "constant": {"name": "WarmupPolicy"},
}
