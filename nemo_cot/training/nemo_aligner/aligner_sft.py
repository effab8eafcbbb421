"""Packed SFT with NeMo-Aligner 0.7.0: `python -m nemo_cot.training.nemo_aligner.aligner_sft CONFIG.yaml`, in its container.

Aligner's own example script is in its source tree, not in its wheel. This one calls the same
public functions in the same order, and departs in two places, each a trap of docs/nemo.md: the
loader goes through the packs in order, because they were drawn for their step; and before the
first step it compares the loss of a pack with that of its sequences alone.

One process a GPU, started by torchrun or srun (nemo_cot.training.nemo.command). CONFIG.yaml is what
nemo_cot.training.nemo_aligner.render renders: nothing is left to defaults, and nothing is overridden here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from nemo_cot.errors import UserError

Config = Any
"""An omegaconf DictConfig, as Aligner's functions take it; this package does not import OmegaConf above."""


def build_packed_dataset(cfg: Config, data: Config, tokenizer: Any, build: Callable[..., Any]) -> Any:
    """The packs of ``data.file_path``. ``build`` is Aligner's build_sft_dataset.

    num_samples is None: every pack once, in the file's order. Without the model's config (the
    example on Aligner's main branch does not hand it over, 0.7.0's does) the width is a multiple
    of 16, which TP 4 and 8 with sequence parallelism (8 x TP) do not divide.
    """
    return build(
        data,
        tokenizer,
        None,
        answer_only_loss=cfg.model.answer_only_loss,
        is_chat=cfg.model.data.chat,
        special_tokens=cfg.model.data.chat_prompt_tokens,
        model_cfg=cfg.model,
    )


def build_loader(cfg: Config, data: Config, dataset: Any, consumed: int, build: Callable[..., Any]) -> Any:
    """Batches of ``data.global_batch_size`` packs, from pack ``consumed`` on.

    ``build`` is Aligner's build_dataloader.
    use_random_sampler=False: Aligner's default mixes the packs of all steps.
    """
    return build(
        cfg=cfg,
        dataset=dataset,
        consumed_samples=consumed,
        mbs=data.micro_batch_size,
        gbs=data.global_batch_size,
        collate_fn=dataset.collate_fn,
        drop_last=data.drop_last,
        pad_samples_to_global_batch_size=not data.drop_last,
        load_gbs=True,
        use_random_sampler=False,
    )


def main(path: str) -> None:
    """Train as the YAML file ``path`` says, or go on from its log directory's latest checkpoint."""
    import torch.multiprocessing as mp
    from nemo.utils.exp_manager import exp_manager
    from nemo_aligner.utils.train_script_utils import (
        CustomLoggerWrapper,
        init_distributed,
        init_using_ptl,
        resolve_and_create_trainer,
        retrieve_custom_trainer_state_dict,
    )
    from omegaconf import OmegaConf

    mp.set_start_method("spawn", force=True)  # data workers must not inherit CUDA's state by fork
    cfg = load(path)
    # The trainer comes first: exp_manager sets its log directory and the checkpoint to resume from.
    trainer = resolve_and_create_trainer(cfg, "sft")
    exp_manager(trainer, cfg.exp_manager)
    logger = CustomLoggerWrapper(trainer.loggers)
    model = _load_model(cfg, trainer)
    # Where a former attempt stopped; None on the first. Read before the ranks are set up, as Aligner does.
    state = retrieve_custom_trainer_state_dict(trainer) if trainer.ckpt_path is not None else None
    # Process groups next: the loaders ask them for this process's data-parallel rank.
    init_distributed(trainer, model, cfg.model.transformer_engine)
    dataset, loader, unused = _data(cfg, model, state["consumed_samples"] if state else 0)
    # Optimizer, scheduler and checkpointed state: Lightning's hooks, called without Lightning's loop.
    init_using_ptl(trainer, model, loader, dataset)
    logger.log_hyperparams(OmegaConf.to_container(cfg))
    if state is None:
        _check_packing(cfg, model, dataset)
    _trainer(cfg, trainer, model, (loader, unused), logger, state).fit()


def _check_packing(cfg: Config, model: Any, dataset: Any) -> None:
    """The first pack with several sequences, before the first step; nothing to compare without one."""
    import json
    from pathlib import Path

    import torch
    from megatron.core.num_microbatches_calculator import get_num_microbatches

    from nemo_cot.training.nemo_aligner.parity import check_parity, model_loss, packing_parity

    rows = (row for row in range(len(dataset)) if len(dataset[row]["seq_boundaries"]) > 2)
    row = next(rows, None)
    if row is None:
        return
    found = packing_parity(dataset[row], model_loss(model, dataset, get_num_microbatches()))
    check_parity(found)
    if torch.distributed.get_rank() == 0:
        path = Path(cfg.exp_manager.explicit_log_dir) / "packing.json"
        path.write_text(json.dumps({"row": row, **found._asdict()}) + "\n")


def load(path: str) -> Config:
    """The rendered config, its model part merged over the checkpoint's own (ours wins)."""
    from nemo_aligner.utils.utils import load_and_override_model_config
    from omegaconf import OmegaConf

    cfg = OmegaConf.load(path)
    cfg.model = load_and_override_model_config(cfg.model.restore_from_path, cfg.model)
    # The model reads its own precision, and an interpolation would be lost when its config is saved.
    cfg.model.precision = cfg.trainer.precision
    return cfg


def _load_model(cfg: Config, trainer: Any) -> Any:
    """Weights of model.restore_from_path, then the adapters that model.peft asks for, if any."""
    from nemo_aligner.models.nlp.gpt.gpt_sft_model import GPTSFTModel
    from nemo_aligner.utils.train_script_utils import init_peft
    from nemo_aligner.utils.utils import load_from_nemo

    model = load_from_nemo(
        GPTSFTModel,
        cfg,
        trainer,
        strict=True,
        restore_path=cfg.model.restore_from_path,
        return_updated_cfg=False,
    )
    init_peft(model, cfg.model)
    return model


def _data(cfg: Config, model: Any, consumed: int) -> tuple[Any, Any, Any]:
    """Data set, training loader, and a loader that stands in for validation's and is never read."""
    from nemo_aligner.data.nlp.builders import build_dataloader, build_sft_dataset

    train = cfg.model.data.train_ds
    _check_file(cfg, model.tokenizer)
    dataset = build_packed_dataset(cfg, train, model.tokenizer, build_sft_dataset)
    loader = build_loader(cfg, train, dataset, consumed, build_dataloader)
    return dataset, loader, build_loader(cfg, cfg.model.data.validation_ds, dataset, 0, build_dataloader)


def _check_file(cfg: Config, tokenizer: Any) -> None:
    """Refuse a packed file that is not for this run, tokenizer and NeMo. Rank 0 hashes it, all compare.

    The tokenizer is the loaded model's: with another eos than the file was packed by, NeMo takes
    tokens of the sequences for padding, and trains on without a word.
    """
    import nemo
    import torch

    from nemo_cot.training.nemo_aligner.convention import MASK, check_convention, read_convention

    data = cfg.model.data.train_ds
    if tokenizer.eos_id == read_convention(data.file_path).end_of_turn_id:
        raise UserError(
            f"its tokenizer's eos is the end-of-turn token ({tokenizer.eos_id}), where NeMo cuts sequences",
            where=str(cfg.model.restore_from_path),
            fix="train from the base model, converted with a tokenizer whose eos is another token",
        )
    check_convention(
        data.file_path,
        max_seq_length=data.max_seq_length,
        check_hash=torch.distributed.get_rank() == 0,
        nemo_version=".".join(nemo.__version__.split(".")[:2]),
        mask=MASK,
        eos_id=tokenizer.eos_id,
        context_parallel_size=cfg.model.context_parallel_size,
        packs_per_step=data.global_batch_size,
        packs=data.global_batch_size * cfg.trainer.sft.max_steps,
    )


def _trainer(cfg: Config, trainer: Any, model: Any, loaders: tuple[Any, Any], logger: Any, state: Any) -> Any:
    """Aligner's training loop, set to the step where ``state`` stopped."""
    from nemo_aligner.algorithms.supervised import SupervisedTrainer
    from nemo_aligner.utils.distributed import Timer
    from nemo_aligner.utils.train_script_utils import (
        add_custom_checkpoint_callback,
        extract_optimizer_scheduler_from_ptl_model,
    )

    optimizer, scheduler = extract_optimizer_scheduler_from_ptl_model(model)
    supervised = SupervisedTrainer(
        cfg=cfg.trainer.sft,
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        train_dataloader=loaders[0],
        val_dataloader=loaders[1],
        test_dataloader=None,
        logger=logger,
        ckpt_callback=add_custom_checkpoint_callback(trainer, model),
        run_timer=Timer(cfg.exp_manager.max_time_per_run),
    )
    if state is not None:
        supervised.load_state_dict(state)
    return supervised


def run(path: str) -> int:
    """:func:`main`, with a UserError as one line. Returns the exit code."""
    try:
        main(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
