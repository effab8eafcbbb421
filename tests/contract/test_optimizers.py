"""Every schedule with every optimizer, with and without adapters, through NeMo's own functions.

The checkpoint is one as the converters write it: with the optim section of NeMo's example, whose keys
NeMo lays under those of a training that does not say otherwise.
"""

from __future__ import annotations

import pytest
import yaml

from nemo_cot.config import PackConfig
from nemo_cot.training.nemo.config import LayoutConfig, LoraConfig
from nemo_cot.training.nemo.rendered import to_yaml
from nemo_cot.training.nemo_aligner.render import AlignerInputs, render_nemo_aligner
from tests.contract.apex_stand_ins import stand_ins
from tests.contract.test_rendered_config import CHECKPOINT, PEAK, STEPS, expected, train_config

QWEN = {
    "name": "distributed_fused_adam", "lr": 0.00015, "weight_decay": 0.1, "betas": [0.9, 0.95],
    "bucket_cap_mb": 125, "overlap_grad_sync": True, "overlap_param_sync": True, "contiguous_grad_buffer": True,
    "sched": {"name": "CosineAnnealing", "warmup_steps": 2000, "constant_steps": 11873, "min_lr": 1e-5},
}  # fmt: skip
LLAMA = {
    "name": "fused_adam", "lr": 2e-4, "weight_decay": 0.01, "betas": [0.9, 0.98],
    "sched": {"name": "CosineAnnealing", "warmup_steps": 500, "constant_steps": 50000, "min_lr": 2e-5},
}  # fmt: skip
"""model.optim of NeMo 2.1.0's megatron_qwen2_config.yaml and megatron_llama_config.yaml."""


@pytest.fixture
def model_of(tmp_path, monkeypatch, one_rank):
    """GPTSFTModel with a small module in the place of the transformer, and the optimizer that NeMo gives it."""
    import torch
    from nemo.collections.nlp.modules.common.megatron import utils
    from nemo.core.optim import optimizers

    norms = dict.fromkeys(("FusedLayerNorm", "FastLayerNorm", "MixedFusedRMSNorm"), torch.nn.LayerNorm)
    for name, apex in {"listify_model": lambda model: [model], **norms}.items():
        monkeypatch.setattr(utils, name, apex, raising=False)  # NeMo takes them from Apex
    for name, optimizer in stand_ins().items():
        monkeypatch.setitem(optimizers.AVAILABLE_OPTIMIZERS, name, optimizer)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # NeMo asks before it makes a fused Adam

    def make(schedule: str, optim: dict, *, distributed: bool, lora: bool, drop: tuple = ()):
        from nemo_cot.training.nemo_aligner.aligner_sft import load

        base = tmp_path / "base"
        base.mkdir()
        (base / "model_config.yaml").write_text(yaml.safe_dump(CHECKPOINT | {"optim": optim}))
        layout = LayoutConfig(1, 1, 1, 1, 1, False, "full", distributed, 79.6, 8.0)
        train = train_config(schedule, layout=layout, lora=LoraConfig(lora, 8, 16, 0.0, ["attention_qkv"]))
        inputs = AlignerInputs(str(base), "/p", 8, str(tmp_path / "log"), "n")
        rendered = render_nemo_aligner(train, PackConfig(128, "shuffle", 0), inputs)
        for key in drop:
            del rendered["model"][key]
        (tmp_path / "aligner.yaml").write_text(to_yaml(rendered))
        cfg = load(str(tmp_path / "aligner.yaml"))
        return set_up(cfg, lora)

    return make


def set_up(cfg, lora: bool):
    """NeMo's setup_optimization on a model that only lacks its transformer."""
    import torch
    from lightning.pytorch import LightningModule
    from nemo.collections.common.parts.adapter_modules import LinearAdapterConfig
    from nemo.core.classes.mixins import AdapterModuleMixin
    from nemo_aligner.models.nlp.gpt.gpt_sft_model import GPTSFTModel

    class Layer(torch.nn.Linear, AdapterModuleMixin):
        """A product that may have an adapter."""

    class Small(GPTSFTModel):
        def __init__(self):
            LightningModule.__init__(self)
            self._cfg, self._trainer, self._train_dl, self._optimizer_param_groups = (
                cfg.model,
                None,
                None,
                None,
            )
            self.model = Layer(4, 4)
            self.use_peft, self.ptuning_only_and_non_first_stage = lora, False
            self.tunable_base_param_keys = set()
            self.megatron_amp_O2, self.autocast_dtype = True, torch.bfloat16
            name = cfg.model.optim.name
            self.use_mcore_dist_optim, self.with_distributed_adam = False, name == "distributed_fused_adam"

        @property
        def cfg(self):
            return self._cfg

        def _unwrap_model_list(self):
            return [self.model]

    small = Small()
    if lora:
        small.model.add_adapter("lora", LinearAdapterConfig(in_features=4, dim=2))
    optimizer, scheduler = small.setup_optimization()
    return small, optimizer, scheduler["scheduler"]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("distributed", [True, False], ids=["distributed", "fused"])
@pytest.mark.parametrize("optim", [QWEN, LLAMA], ids=["qwen", "llama"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_and_optimizer_runs_as_configured(schedule, optim, distributed, lora, model_of):
    model, optimizer, scheduler = model_of(schedule, optim, distributed=distributed, lora=lora)
    group = optimizer.param_groups[0]
    assert (tuple(group["betas"]), group["eps"]) == ((0.9, 0.98), 1e-8)  # ours, not the checkpoint's
    assert {g["weight_decay"] for g in optimizer.param_groups} - {0.0} == {0.01}
    trained = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert (id(model.model.weight) in trained) is not lora and trained
    if distributed:
        assert optimizer.asked == {"store_param_remainders": True, "overlap_grad_sync": True}
    rates = []
    for _ in range(STEPS):
        rates.append(group["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([expected(schedule, step) for step in range(STEPS)])
    assert max(rates) == pytest.approx(PEAK)


@pytest.mark.parametrize(
    ("schedule", "optim", "distributed", "key"),
    [("constant", QWEN, True, "constant_steps"), ("linear", LLAMA, True, "constant_steps"),
     ("cosine", QWEN, False, "bucket_cap_mb")],
)  # fmt: skip
def test_trap_the_checkpoint_s_own_optim_section_comes_back(schedule, optim, distributed, key, model_of):
    with pytest.raises((TypeError, ValueError), match=key):
        model_of(schedule, optim, distributed=distributed, lora=False, drop=("overwrite_base_config",))
