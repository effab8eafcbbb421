"""What the entry script needs of a GPU, by stand-ins: the model on NeMo's packed kernels, process groups.

All else is real: Megatron's GPTModel (its attention bounded by a mask), its pipeline schedule,
GPTSFTModel's own step, NeMo's loss, scheduler and checkpoint callback, Aligner's loop.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.contract.megatron_cpu import tiny_gpt

VOCABULARY = 512


class Calls(list):
    """Names of the functions called, in order; ``wrap`` adds a real one, ``stand_in`` replaces it."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self._patch = monkeypatch

    def wrap(self, owner, name):
        self.stand_in(owner, name, getattr(owner, name))

    def stand_in(self, owner, name, function):
        def called(*arguments, **named):
            self.append(name)
            return function(*arguments, **named)

        self._patch.setattr(owner, name, called)


def make_model(monkeypatch, cfg, tokenizer):
    """What load_from_nemo gives: GPTSFTModel's own methods over a tiny model."""
    import torch
    from megatron.core import num_microbatches_calculator as calculator
    from nemo_aligner.models.nlp.gpt.gpt_sft_model import GPTSFTModel

    class Model:
        get_loss_and_metrics = GPTSFTModel.get_loss_and_metrics
        prepare_for_training_step = GPTSFTModel.prepare_for_training_step
        prepare_for_validation_step = GPTSFTModel.prepare_for_validation_step
        finish_validation_step = GPTSFTModel.finish_validation_step
        initialize_ub = rampup_batch_size = with_distributed_adam = use_mcore_dist_optim = False
        with_megatron_fused_adam = True  # clips in its optimizer step, as the rendered one does

        def __init__(self):
            self.cfg, self.tokenizer, self.seen, self.rates, self.saved = cfg.model, tokenizer, [], [], []
            self.model = tiny_gpt(monkeypatch, vocabulary=VOCABULARY)

        def train(self):
            self.model.train()

        def eval(self):
            self.model.eval()

        def summarize(self):
            return "a tiny model"

        def get_model_module_list(self):
            return [self.model]

        def finish_training_step(self):
            """One rank has no gradients to reduce."""

        def get_forward_output_and_loss_func(self, forward_only, tuning):
            return lambda batches, model: self.forward(next(batches), forward_only)

        def forward(self, batch, forward_only):
            if not forward_only:
                self.seen.append((batch["tokens"][0].tolist(), batch["loss_mask"][0].tolist()))
            losses = self.model(
                batch["tokens"], batch["position_ids"], boundaries(batch), labels=batch["labels"]
            )
            return losses, lambda output: loss_and_report(batch["loss_mask"], output)

        def optimizers(self):
            return type("Wrapped", (), {"optimizer": self.optimizer})

        def lr_schedulers(self):
            return self.scheduler

        def save_to(self, save_path):
            self.saved.append(Path(save_path).name)

    for name in ("zeros", "tensor"):  # Megatron's schedule and Aligner's timer ask for "cuda" by name
        monkeypatch.setattr(torch, name, without_device(getattr(torch, name)))
    train = cfg.model.data.train_ds
    calculator.destroy_num_microbatches_calculator()
    calculator.init_num_microbatches_calculator(0, None, train.global_batch_size, train.micro_batch_size, 1)
    return Model()


def without_device(make):
    return lambda *values, device=None, **named: make(*values, **named)


def boundaries(batch):
    """The mask of attention that the packed kernel makes of cu_seqlens."""
    import torch

    width = batch["tokens"].shape[1]
    hidden = torch.triu(torch.ones(width, width), 1).bool()
    ends = batch["cu_seqlens"][0].tolist()
    for start, end in itertools.pairwise(ends[: ends.index(-1)]):
        hidden[end:, start:end] = True
    return hidden[None, None]


def loss_and_report(mask, losses):
    from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel

    loss = MegatronGPTModel.loss_func(None, mask, mask.sum(), losses)
    return loss, {"avg": loss.detach().reshape(1)}


def set_up_optimizer(trainer, model, loader, dataset):
    """init_using_ptl without process groups: optimizer, and NeMo's scheduler as the config says.

    A resumed run's optimizer and scheduler come from the checkpoint: here, the rate of its step.
    """
    import torch
    from nemo.core.optim import prepare_lr_scheduler

    optim = model.cfg.optim
    model.optimizer = torch.optim.AdamW(
        model.model.parameters(), lr=optim.lr, betas=tuple(optim.betas), eps=optim.eps
    )
    model.scheduler = prepare_lr_scheduler(model.optimizer, optim.sched, loader)["scheduler"]
    if trainer.ckpt_path is not None:
        model.scheduler.step(step_of(trainer.ckpt_path))
    step = model.optimizer.step

    def recorded(closure=None):
        model.rates.append(model.optimizer.param_groups[0]["lr"])
        return step(closure)

    model.optimizer.step = recorded


def step_of(checkpoint) -> int:
    return int(str(checkpoint).split("step=")[1].split("-")[0])
