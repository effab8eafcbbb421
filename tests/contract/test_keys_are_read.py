"""Every rendered key is read by its full path; one that is misspelt, or in the wrong section, is reported."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from nemo_cot.training.nemo.rendered import to_yaml
from tests.contract.apex_stand_ins import stand_ins
from tests.contract.recording import recorded_reads
from tests.contract.test_rendered_config import literal, rendered  # noqa: F401 (fixtures)

GPT = "nemo/collections/nlp/models/language_modeling/megatron_gpt_model.py"
BASE = "nemo/collections/nlp/models/language_modeling/megatron_base_model.py"
PEFT = "nemo/collections/nlp/parts/peft_config.py"
SCRIPT = "nemo_aligner/utils/train_script_utils.py"
SAVING = "nemo/utils/callbacks/dist_ckpt_io.py"
SUPERVISED = "nemo_aligner/algorithms/supervised.py"
NEEDS_A_GPU = {
    "model.activations_checkpoint_granularity": (GPT, "cfg"),
    "model.activations_checkpoint_layers_per_pipeline": (GPT, "cfg"),
    "model.activations_checkpoint_method": (GPT, "cfg"),
    "model.activations_checkpoint_num_layers": (GPT, "cfg"),
    "model.attention_dropout": (GPT, "cfg"),
    "model.dist_ckpt_format": (SAVING, "model_cfg"),
    "model.dist_ckpt_parallel_save": (SAVING, "model_cfg"),
    "model.dist_ckpt_torch_dist_multiproc": (SAVING, "model_cfg"),
    "model.encoder_seq_length": (GPT, "cfg"),
    "model.ffn_dropout": (GPT, "cfg"),
    "model.global_batch_size": (BASE, "cfg"),
    "model.gradient_as_bucket_view": ("nemo/collections/nlp/parts/megatron_trainer_builder.py", "cfg.model"),
    "model.hidden_dropout": (GPT, "cfg"),
    "model.megatron_amp_O2": (GPT, "cfg"),
    "model.micro_batch_size": (BASE, "cfg"),
    "model.optim.name": ("nemo/core/classes/modelPT.py", "optim_config"),
    "model.peft.lora_tuning.position_embedding_strategy": (PEFT, "lora_cfg"),
    "model.peft.peft_scheme": (SCRIPT, "updated_cfg.peft"),
    "model.peft.restore_from_path": (SCRIPT, "updated_cfg.peft"),
    "model.pipeline_model_parallel_size": (BASE, "cfg"),
    "model.seed": (BASE, "cfg"),
    "model.tensor_model_parallel_size": (BASE, "cfg"),
    "model.transformer_engine": (GPT, "cfg"),
    "trainer.sft.gradient_clip_val": (SUPERVISED, "cfg"),
    "trainer.sft.save_interval": (SUPERVISED, "cfg"),
}
"""What only the model on its GPU reads: the file of the pinned packages, and what it calls the section."""


@pytest.fixture
def reads(rendered, tmp_path, base_tokenizer, one_rank):  # noqa: F811
    """The keys that the code of the packages reads of the rendered config, with ``changes`` laid over it."""

    def read(**changes: Any) -> tuple[set[str], set[str]]:
        from omegaconf import OmegaConf

        config = OmegaConf.create(rendered)
        for name, value in changes.items():
            OmegaConf.update(config, name, value, force_add=True)
        path = tmp_path / "aligner.yaml"
        path.write_text(to_yaml(OmegaConf.to_container(config)))
        return set(leaves(yaml.safe_load(path.read_text()))), _reads(path, base_tokenizer)

    return read


def leaves(tree: dict, prefix: str = "") -> list[str]:
    """Dotted key of every leaf."""
    found = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return found


def _reads(path: Path, tokenizer: Any) -> set[str]:
    from omegaconf import OmegaConf

    from nemo_cot.training.nemo_aligner import aligner_sft

    load = OmegaConf.load
    first = load(path)
    with recorded_reads(first) as loaded, pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", lambda given: first if given == str(path) else load(given))
        config = aligner_sft.load(str(path))
    with recorded_reads(config) as found:
        _read_data_and_trainer(config, tokenizer)
        _read_adapters_and_schedule(config)
    return loaded | found | _taken() | {name for name, place in NEEDS_A_GPU.items() if _names(name, *place)}


def _read_data_and_trainer(config: Any, tokenizer: Any) -> None:
    """Aligner's data set, loaders, training loop and timer, as nemo_cot.training.nemo_aligner.aligner_sft calls them."""
    from nemo_aligner.algorithms.supervised import SupervisedTrainer
    from nemo_aligner.data.nlp.builders import build_dataloader, build_sft_dataset
    from nemo_aligner.utils.distributed import Timer

    from nemo_cot.training.nemo_aligner.aligner_sft import build_loader, build_packed_dataset

    data = config.model.data
    dataset = build_packed_dataset(config, data.train_ds, tokenizer, build_sft_dataset)
    train = build_loader(config, data.train_ds, dataset, 0, build_dataloader)
    unused = build_loader(config, data.validation_ds, dataset, 0, build_dataloader)
    timer = Timer(config.exp_manager.max_time_per_run)
    SupervisedTrainer(config.trainer.sft, None, None, None, train, unused, None, None, None, timer)


def _read_adapters_and_schedule(config: Any) -> None:
    """NeMo's LoRA config and learning-rate scheduler. The widths are the checkpoint's."""
    import torch
    from nemo.collections.nlp.parts.peft_config import PEFT_CONFIG_MAP
    from nemo.core.optim import prepare_lr_scheduler
    from omegaconf import open_dict

    with open_dict(config.model):
        config.model.update(num_attention_heads=4, ffn_hidden_size=128, num_query_groups=2)
    PEFT_CONFIG_MAP["lora"](config.model)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    prepare_lr_scheduler(optimizer, config.model.optim.sched, None)


def _taken() -> set[str]:
    """Keys of the sections that are handed over whole, to code that raises for any other."""
    from lightning.pytorch import Trainer
    from nemo.utils.exp_manager import ExpManagerConfig

    trainer = {f"trainer.{name}" for name in inspect.signature(Trainer.__init__).parameters}
    adam = inspect.signature(stand_ins()["distributed_fused_adam"]).parameters
    return trainer | {f"model.optim.{name}" for name in adam} | set(_schema(ExpManagerConfig(), "exp_manager."))


def _schema(config: Any, prefix: str) -> list[str]:
    """Dotted names of a dataclass's fields."""
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        found += _schema(value, f"{prefix}{field.name}.") if is_dataclass(value) else [prefix + field.name]
    return found


def _names(name: str, file: str, section: str) -> bool:
    """``file`` reads the last part of ``name`` from ``section``: section.key, .get('key' or ['key']."""
    import nemo

    key = re.escape(name.rsplit(".", 1)[1])
    pattern = rf"\b{re.escape(section)}(\.{key}\b|(\.get\(|\[)\s*['\"]{key}['\"])"
    return bool(re.search(pattern, (Path(nemo.__path__[0]).parent / file).read_text()))


def test_every_rendered_key_is_read_by_its_full_path(reads):
    keys, read = reads()
    assert keys - read == set()
    assert set(NEEDS_A_GPU) <= keys  # none is left over


MISPLACED = {
    "trainer.max_time_per_run": "00:03:45:00",
    "trainer.save_interval": 20,
    "model.optim.learning_rate": 1e-5,
    "model.lora_tuning.adapter_dim": 8,
    "model.data.drop_last": True,
    "model.data.train_ds.packed_sequnce": True,
    "model.data.seed": 1,
    "model.sync_batch_comm": False,
    "exp_manager.save_top_k": 5,
    "micro_batch_size": 1,
}
"""Names that the packages know in another section, or in none; a search of their code finds most of them."""


def test_trap_a_key_in_the_wrong_section_is_reported(reads):
    keys, read = reads(**MISPLACED)
    assert keys - read == set(MISPLACED)


@pytest.mark.parametrize("place", [(GPT, "cfg.data"), (SUPERVISED, "cfg.sft"), (BASE, "self")])
def test_a_section_that_the_file_does_not_read_the_key_from_is_told(place):
    assert not _names("model.attention_dropout", *place)


def test_the_recorded_keys_are_those_of_the_packages():
    """keys.txt, by which train.overrides is checked, has every key of the sections that are handed over whole."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    from nemo_cot.training.nemo_aligner.backend import AlignerBackend

    theirs = _taken() | {f"model.{field.name}" for field in fields(TransformerConfig)}
    theirs -= {"trainer.self", "model.optim.params", "model.optim.self"}
    assert [key for key in sorted(theirs) if not AlignerBackend.keys.has(key)] == []
