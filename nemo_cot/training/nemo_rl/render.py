"""NeMo-RL's SFT config, as a pure function of ours.

What differs from its examples/configs/sft.yaml has its reason beside it. NeMo-RL has a schema of
its own and no defaults in code, so its file is written whole too. The Megatron backend is used:
the same parallelism, and weights convert to and from Hugging Face.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nemo_cot.config import LoggersConfig, PackConfig
from nemo_cot.errors import UserError
from nemo_cot.training.lora import LoraConfig
from nemo_cot.training.nemo.rendered import overridden
from nemo_cot.training.nemo_rl.config import NemoRlTrain

Rendered = dict[str, Any]


_MEGATRON = "policy.megatron_cfg"
OURS = {
    "cluster.num_nodes": "train.layout.num_nodes",
    "cluster.gpus_per_node": "train.layout.gpus_per_node",
    "sft.max_num_steps": "train.max_steps",
    "sft.max_num_epochs": "train.max_steps",
    "sft.seed": "train.seed",
    "checkpointing": "train.save_top_k",
    "policy.model_name": "model.path",
    "policy.tokenizer": "model.path",
    "policy.precision": "train.precision",
    "policy.train_global_batch_size": "train.global_batch_size",
    "policy.train_micro_batch_size": "train.micro_batch_size",
    "policy.max_total_sequence_length": "pack.capacity_tokens",
    "policy.make_sequence_length_divisible_by": "train.layout",
    "policy.sequence_packing": "pack",
    "policy.dynamic_batching": "pack",
    "policy.dtensor_cfg.enabled": "train.layout",
    f"{_MEGATRON}.enabled": "train.layout",
    f"{_MEGATRON}.activation_checkpointing": "train.layout.checkpoint_activations",
    f"{_MEGATRON}.recompute_granularity": "train.layout.checkpoint_activations",
    f"{_MEGATRON}.tensor_model_parallel_size": "train.layout.tensor_model_parallel_size",
    f"{_MEGATRON}.pipeline_model_parallel_size": "train.layout.pipeline_model_parallel_size",
    f"{_MEGATRON}.context_parallel_size": "train.layout.context_parallel_size",
    f"{_MEGATRON}.sequence_parallel": "train.layout.sequence_parallel",
    f"{_MEGATRON}.peft": "train.lora",
    f"{_MEGATRON}.optimizer": "train.optim",
    f"{_MEGATRON}.optimizer.optimizer_cpu_offload": "train.optimizer_cpu_offload",
    f"{_MEGATRON}.optimizer.optimizer_offload_fraction": "train.optimizer_cpu_offload",
    f"{_MEGATRON}.optimizer.use_distributed_optimizer": "train.layout.distributed_optimizer",
    f"{_MEGATRON}.scheduler": "train.optim.sched",
    f"{_MEGATRON}.distributed_data_parallel_config.grad_reduce_in_fp32": "train.layout",
    "data": "pack",
}
"""Keys, or beginnings of keys, that rules and estimates go by -> what of our config they go by."""


class RlInputs(NamedTuple):
    """What is known only when the run's files are there. Paths are those inside the container."""

    base_model: str  # Hugging Face directory
    train_file: str  # JSON lines, one per draw, in the order of training: input and output as text
    log_dir: str
    name: str


def render_nemo_rl(train: NemoRlTrain, pack: PackConfig, inputs: RlInputs) -> Rendered:
    """The config for `examples/run_sft.py --config`, as plain dicts, lists, numbers and strings.

    Raises UserError for weighted batches, which NeMo-RL has not, and for a layout whose GPUs do
    not make whole copies of the model.
    """
    if train.batching != "literal":
        raise UserError(
            "NeMo-RL gives every row the weight 1", where="train.batching", fix="set train.batching=literal"
        )
    rendered = {
        "sft": {
            "max_num_epochs": 1,  # the file holds every draw of every step
            "max_num_steps": train.max_steps,
            "val_period": 0,  # default 10; there is nothing held out
            "val_batches": 0,
            "val_global_batch_size": train.global_batch_size,
            "val_micro_batch_size": train.micro_batch_size,
            "val_at_start": False,  # default true
            "val_at_end": False,
            "seed": train.seed,
            "only_unmask_final": False,
        },
        "checkpointing": {
            "enabled": True,
            "checkpoint_dir": f"{inputs.log_dir}/checkpoints",
            "metric_name": None,  # default val:val_loss, which is never measured: null keeps the latest
            "higher_is_better": False,
            "keep_top_k": train.kept_saves,
            "save_period": train.save_interval_steps,
            "checkpoint_must_save_by": train.max_time_per_run,  # default null: Slurm would kill it instead
            "save_optimizer": True,
        },
        "policy": _policy(train, pack, inputs),
        "data": _data(train, pack, inputs),
        "logger": _logger(train.loggers, inputs),
        "cluster": {
            "gpus_per_node": train.layout.gpus_per_node,
            "num_nodes": train.layout.num_nodes,
            "segment_size": None,
        },
    }
    return overridden(rendered, train.overrides)


def _policy(train: NemoRlTrain, pack: PackConfig, inputs: RlInputs) -> Rendered:
    tokens = pack.capacity_tokens
    return {
        "model_name": inputs.base_model,
        # null: messages as they are. The default template is a toy; ours are rendered already.
        "tokenizer": {"name": inputs.base_model, "chat_template": None, "chat_template_kwargs": None},
        "train_global_batch_size": train.global_batch_size,  # sequences, unlike Aligner's packs
        "train_micro_batch_size": train.micro_batch_size,
        "max_total_sequence_length": tokens,
        "precision": "bfloat16" if train.precision == "bf16" else "float32",
        "offload_optimizer_for_logprob": False,
        "dtensor_cfg": {"enabled": False},  # default on; Megatron below
        "dynamic_batching": {"enabled": False},
        "sequence_packing": {
            "enabled": True,  # default off: a batch would be padded to its longest row
            "train_mb_tokens": tokens * train.micro_batch_size,
            "algorithm": "modified_first_fit_decreasing",
        },
        "make_sequence_length_divisible_by": train.width_multiple,
        "max_grad_norm": train.gradient_clip_val,
        "optimizer": None,  # DTensor's; Megatron's is below
        "megatron_cfg": _megatron(train),
    }


def _megatron(train: NemoRlTrain) -> Rendered:
    layout = train.layout
    _ = layout.data_parallel_size  # raises for GPUs that make no whole copies
    return {
        "enabled": True,  # default false
        "use_linear_ce_fusion_loss": False,
        "linear_ce_fusion_chunk_size": 256,
        "force_reconvert_from_hf": False,
        "env_vars": {},
        "empty_unused_memory_level": 1,
        "activation_checkpointing": layout.checkpoint_activations != "none",
        "recompute_granularity": "full"
        if layout.checkpoint_activations == "none"
        else layout.checkpoint_activations,
        "recompute_modules": None,
        "tensor_model_parallel_size": layout.tensor_model_parallel_size,
        "pipeline_model_parallel_size": layout.pipeline_model_parallel_size,
        "context_parallel_size": layout.context_parallel_size,
        "expert_tensor_parallel_size": 1,
        "expert_model_parallel_size": 1,
        "num_layers_in_first_pipeline_stage": None,
        "num_layers_in_last_pipeline_stage": None,
        "pipeline_dtype": "bfloat16" if train.precision == "bf16" else "float32",
        "sequence_parallel": layout.sequence_parallel,
        **_MIXTURE_OF_EXPERTS,
        "apply_rope_fusion": True,
        "bias_activation_fusion": True,
        "defer_fp32_logits": False,
        "gradient_accumulation_fusion": False,
        "use_fused_weighted_squared_relu": False,
        "peft": _peft(train.lora),
        "optimizer": _optimizer(train),
        "scheduler": {
            "start_weight_decay": train.optim.weight_decay,
            "end_weight_decay": train.optim.weight_decay,
            "weight_decay_incr_style": "constant",
            "lr_decay_style": train.optim.sched.name,
            "lr_decay_iters": train.max_steps,  # default 1000: the rate would hardly fall in 50 steps
            "lr_warmup_iters": train.optim.sched.warmup_steps,  # default 50: the whole run would warm up
            "lr_warmup_init": 0.0,  # default: just below lr
        },
        "distributed_data_parallel_config": {
            "grad_reduce_in_fp32": True,  # default false: sums 1,024 sequences in bf16
            "overlap_grad_reduce": True,
            "overlap_param_gather": True,
            "data_parallel_sharding_strategy": "optim_grads_params",
            "use_custom_fsdp": False,
        },
        "fp8_cfg": {"enabled": False, "fp8": "e4m3", "fp8_recipe": "blockwise", "fp8_param": False},
    }


_MIXTURE_OF_EXPERTS: Rendered = {
    "freeze_moe_router": False,
    "moe_router_dtype": None,
    "moe_router_load_balancing_type": "aux_loss",
    "moe_router_bias_update_rate": 1e-3,
    "moe_permute_fusion": True,
    "moe_per_layer_logging": False,
    "moe_enable_deepep": False,
    "moe_token_dispatcher_type": "alltoall",
    "moe_shared_expert_overlap": False,
}
"""NeMo-RL wants these keys for dense models too; its own values (moe_permute_fusion: true in its sft.yaml)."""


def _optimizer(train: NemoRlTrain) -> Rendered:
    optim, low = train.optim, train.precision == "bf16"
    return {
        "optimizer": "adam",  # with weight decay it is AdamW
        "lr": optim.lr,
        "min_lr": optim.sched.min_lr,  # default: just below lr, which makes every schedule a constant
        "weight_decay": optim.weight_decay,
        "bf16": low,
        "fp16": False,
        "params_dtype": "float32",
        "adam_beta1": optim.betas[0],
        "adam_beta2": optim.betas[1],
        "adam_eps": optim.eps,  # default 1e-5
        "sgd_momentum": 0.9,
        "use_distributed_optimizer": train.layout.distributed_optimizer,
        "use_precision_aware_optimizer": train.layout.distributed_optimizer,  # needs that one
        "clip_grad": train.gradient_clip_val,
        "optimizer_cpu_offload": train.optimizer_cpu_offload,
        "optimizer_offload_fraction": 1.0 if train.optimizer_cpu_offload else 0.0,  # it takes no share of it
    }


def _peft(lora: LoraConfig) -> Rendered:
    return {
        "enabled": lora.enabled,
        "target_modules": [_LORA_NAMES[name] for name in lora.target_modules],
        "exclude_modules": [],
        "dim": lora.dim,
        "alpha": lora.alpha,
        "dropout": lora.dropout,
        "dropout_position": "post",
        "lora_A_init_method": "xavier",
        "lora_B_init_method": "zero",
        "a2a_experimental": False,
        "lora_dtype": None,  # its YAML says None, which YAML reads as a string
    }


_LORA_NAMES = {
    "attention_qkv": "linear_qkv",
    "attention_dense": "linear_proj",
    "mlp_fc1": "linear_fc1",
    "mlp_fc2": "linear_fc2",
}
"""Megatron-core's names of the modules that NeMo calls so."""


def _data(train: NemoRlTrain, pack: PackConfig, inputs: RlInputs) -> Rendered:
    return {
        "max_input_seq_length": pack.capacity_tokens
        + 1,  # it blanks rows of this length, not only longer ones
        "add_bos": False,  # default true; the prompt is rendered already
        "add_eos": False,  # default true; the output ends in the end-of-turn token
        "add_generation_prompt": False,
        "shuffle": False,  # default true; the rows are in the order of the drawn batches
        "num_workers": train.num_workers,
        "train": {
            "dataset_name": "ResponseDataset",
            "data_path": inputs.train_file,
            "input_key": "input",
            "output_key": "output",
        },
        "validation": None,
        "default": {"prompt_file": None, "system_prompt_file": None, "processor": "sft_processor"},
    }


def _logger(loggers: LoggersConfig, inputs: RlInputs) -> Rendered:
    return {
        "log_dir": f"{inputs.log_dir}/logs",
        "wandb_enabled": loggers.wandb,  # default true: needs an account and the network
        "tensorboard_enabled": loggers.tensorboard,
        "mlflow_enabled": loggers.mlflow,
        "swanlab_enabled": False,
        "monitor_gpus": True,
        "wandb": {"project": loggers.project, "name": inputs.name},  # its schema wants the key, also when off
        "tensorboard": {"log_dir": "tensorboard"},
        "mlflow": {
            "experiment_name": loggers.project,
            "run_name": inputs.name,
            "tracking_uri": loggers.mlflow_uri or f"file:{inputs.log_dir}/mlflow",
        },
        "gpu_monitoring": {"collection_interval": 10, "flush_interval": 10},
    }
