"""nemo_cot.training.nemo_aligner.aligner_sft from its YAML file to its last checkpoint, on a CPU (tests/contract/entry_script.py)."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from nemo_cot.config import PackConfig
from nemo_cot.io.json_file import write_json
from nemo_cot.packing import distinct_packs, literal_draws
from nemo_cot.training.nemo.rendered import to_yaml
from nemo_cot.training.nemo_aligner import aligner_sft
from nemo_cot.training.nemo_aligner.checkpoints import link_newest
from nemo_cot.training.nemo_aligner.convention import read_convention, sidecar_path
from nemo_cot.training.nemo_aligner.packed_file import packed_lengths, read_packed_file, write_packed_file
from nemo_cot.training.nemo_aligner.render import AlignerInputs, render_nemo_aligner
from tests.contract.entry_script import Calls, make_model, set_up_optimizer, step_of
from tests.contract.test_rendered_config import CHECKPOINT, PEAK, train_config

STEPS, BATCH = 50, 1024


@pytest.fixture
def config(tmp_path, traces, layout):
    """aligner.yaml of the paper's 50 steps of 1,024 draws, as distinct packs, beside its packed file."""
    traces = traces[:7]  # 1,024 draws are no whole number of rounds: each step has counts of its own
    draws = literal_draws(len(traces), STEPS, BATCH, seed=3)
    steps = distinct_packs(draws, packed_lengths(traces, layout), layout.capacity_tokens)
    packed, base = tmp_path / "train.npy", tmp_path / "base-nemo"
    write_packed_file(
        packed, steps.packs, traces, layout, packs_per_step=steps.packs_per_step, weights=steps.weights
    )
    base.mkdir()
    (base / "model_config.yaml").write_text(yaml.safe_dump(CHECKPOINT))
    inputs = AlignerInputs(str(base), str(packed), steps.packs_per_step, str(tmp_path / "aligner"), "entry")
    pack = PackConfig(layout.capacity_tokens, "shuffle", 0)
    rendered = render_nemo_aligner(train_config(batching="distinct"), pack, inputs)
    rendered["trainer"]["accelerator"] = "cpu"
    path = tmp_path / "aligner.yaml"
    path.write_text(to_yaml(rendered))
    return path


@pytest.fixture
def entry(monkeypatch, one_rank, base_tokenizer):
    """The calls that main makes, and its models; only what a GPU must do is replaced."""
    from nemo.collections.nlp.parts import megatron_trainer_builder as builder
    from nemo.utils import exp_manager
    from nemo_aligner.algorithms import supervised
    from nemo_aligner.data.nlp import builders
    from nemo_aligner.utils import train_script_utils, utils
    from torch import multiprocessing

    calls, models = Calls(monkeypatch), []
    found = SimpleNamespace(calls=calls, models=models, tokenizer=base_tokenizer, saves=[])

    def loaded(cls, cfg, trainer, **named):
        models.append(make_model(monkeypatch, cfg, found.tokenizer))
        return models[-1]

    def save(callback, trainer, path):
        found.saves.append(Path(path).name)
        Path(path).mkdir(parents=True)

    for owner, name in [
        (utils, "load_and_override_model_config"),
        (train_script_utils, "resolve_and_create_trainer"),
        (exp_manager, "exp_manager"),
        (train_script_utils, "init_peft"),
        (aligner_sft, "_check_file"),
        (builders, "build_sft_dataset"),
        (builders, "build_dataloader"),
        (aligner_sft, "_check_packing"),
        (supervised.SupervisedTrainer, "fit"),
    ]:
        calls.wrap(owner, name)
    calls.stand_in(multiprocessing, "set_start_method", lambda *_, **__: None)
    calls.stand_in(utils, "load_from_nemo", loaded)
    calls.stand_in(train_script_utils, "init_distributed", lambda *_: None)
    calls.stand_in(train_script_utils, "init_using_ptl", set_up_optimizer)
    # NeMo's strategy asks for Apex when it is made; Lightning's own takes the same trainer settings.
    monkeypatch.setattr(builder.MegatronTrainerBuilder, "_training_strategy", lambda self: "auto")
    callback = exp_manager.NeMoModelCheckpoint
    monkeypatch.setattr(callback, "_save_checkpoint", save)
    monkeypatch.setattr(callback, "_remove_checkpoint", lambda self, trainer, path, *_: shutil.rmtree(path))
    return found


def cosine(step: int) -> float:
    """The rate of a step counted from 0: 5 of warm-up, then to zero at the last."""
    if step < 5:
        return PEAK * (step + 1) / 6
    return PEAK * (1 + math.cos(math.pi * (step - 5) / (STEPS - 5))) / 2


def test_it_trains_50_steps_in_order_and_saves_at_the_save_points(config, entry, tmp_path):
    assert aligner_sft.run(str(config)) == 0
    assert entry.calls == [
        "set_start_method",
        "load_and_override_model_config",
        "resolve_and_create_trainer",
        "exp_manager",
        "load_from_nemo",
        "init_peft",
        "init_distributed",
        "_check_file",
        "build_sft_dataset",
        "build_dataloader",
        "build_dataloader",
        "init_using_ptl",
        "_check_packing",
        "fit",
    ]
    (model,) = entry.models
    assert model.rates == pytest.approx([cosine(step) for step in range(STEPS)])
    packs = read_packed_file(tmp_path / "train.npy")
    assert len(model.seen) == len(packs) and len(packs) % STEPS == 0
    for (tokens, mask), pack in zip(model.seen, packs):
        ids, counts = pack.sequences()[0]
        assert tokens[: len(ids) - 1] == ids[:-1].tolist()
        assert mask[: len(ids) - 1] == counts[1:].tolist()
    per_step = len(packs) // STEPS
    assert model.seen[:per_step] != model.seen[per_step : 2 * per_step]
    assert sorted({step_of(name) for name in entry.saves}) == [20, 40, 50]
    assert len(entry.saves) == 3 and model.saved == []  # each written once, and no .nemo besides
    parity = json.loads((tmp_path / "aligner" / "packing.json").read_text())
    assert parity["packed"] == pytest.approx(parity["alone"], rel=1e-3) and parity["packed"] > 1


def test_a_killed_run_goes_on_with_the_next_step_s_packs(config, entry, tmp_path):
    class Killed(Exception):
        pass

    per_step = read_convention(tmp_path / "train.npy").packs_per_step
    from nemo_aligner.algorithms.supervised import SupervisedTrainer

    step = SupervisedTrainer.train_single_step

    def until_23(self, batch):
        if self.step == 23 and len(entry.models) == 1:
            raise Killed
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SupervisedTrainer, "train_single_step", until_23)
        with pytest.raises(Killed):
            aligner_sft.main(str(config))
        del entry.calls[:]
        link_newest(tmp_path)
        aligner_sft.main(str(config))
    assert "_check_packing" not in entry.calls
    killed, resumed = entry.models
    assert len(killed.rates) == 23 and len(resumed.rates) == 30
    assert resumed.rates == pytest.approx([cosine(step) for step in range(20, STEPS)])
    assert resumed.seen[: 3 * per_step] == killed.seen[20 * per_step :]
    assert sorted({step_of(name) for name in entry.saves}) == [20, 40, 50]


def refused(config, entry, capsys) -> str:
    """The one line that a refused run prints; it must not have reached the data set."""
    assert aligner_sft.run(str(config)) == 2
    assert "build_sft_dataset" not in entry.calls and "fit" not in entry.calls
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def rewrite(config, **changes):
    """Change values of aligner.yaml; keys as model__context_parallel_size."""
    tree = yaml.safe_load(config.read_text())
    for name, value in changes.items():
        *parents, key = name.split("__")
        node = tree
        for parent in parents:
            node = node[parent]
        node[key] = value
    config.write_text(to_yaml(tree))


def test_trap_a_swapped_packed_file_is_refused(config, entry, capsys, tmp_path, traces, layout):
    path = tmp_path / "train.npy"
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)
    assert "is not the file that its sidecar describes" in refused(config, entry, capsys)
    write_packed_file(path, [[0], [1]], traces, layout, packs_per_step=1)
    assert "with packs_per_step = 1, training goes by" in refused(config, entry, capsys)
    Path(f"{path}.json").unlink()
    assert "nothing says which mask convention" in refused(config, entry, capsys)


def test_trap_a_model_whose_eos_is_the_end_of_turn_is_refused(config, entry, capsys, instruct_tokenizer):
    entry.tokenizer = instruct_tokenizer
    line = refused(config, entry, capsys)
    assert "its tokenizer's eos is the end-of-turn token" in line and "base-nemo" in line


def test_trap_a_model_with_another_eos_is_refused(config, entry, capsys, make_tokenizer):
    entry.tokenizer = make_tokenizer("<|im_start|>")
    line = refused(config, entry, capsys)
    assert "with eos_id = " in line and "the tokenizer of model.path" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model__context_parallel_size": 2}, "with context_parallel_size = 1, training goes by 2"),
        ({"trainer__sft__max_steps": 49}, "with packs = "),
        ({"model__data__train_ds__max_seq_length": 64}, "over max_seq_length 64"),
    ],
)
def test_trap_a_config_that_the_file_was_not_packed_for_is_refused(config, entry, capsys, changes, says):
    rewrite(config, **changes)
    assert says in refused(config, entry, capsys)


def test_trap_another_nemo_is_refused(config, entry, capsys, monkeypatch, tmp_path):
    import nemo

    path = tmp_path / "train.npy"
    convention = read_convention(path)
    write_json(sidecar_path(path), type(convention)(**{**_fields(convention), "nemo_version": "2.3"}))
    assert "with nemo_version = 2.3, training goes by 2.1" in refused(config, entry, capsys)
    write_json(sidecar_path(path), convention)
    monkeypatch.setattr(nemo, "__version__", "2.2.1")
    assert "with nemo_version = 2.1, training goes by 2.2" in refused(config, entry, capsys)


def _fields(convention) -> dict:
    return {name: getattr(convention, name) for name in convention.__struct_fields__}
