"""From tokenised traces to the packed file and the config beside it."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.packing import draw_counts, literal_draws
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.training.nemo_aligner.convention import check_convention, read_convention
from nemo_cot.training.nemo_aligner.packed_file import Layout, read_packed_file
from nemo_cot.training.nemo_aligner.prepare import CONFIG_FILE, PACKED_FILE, REPORT_FILE, prepare_aligner

EOS, END_OF_TURN = 0, 1
BASE = Path("/models/base-nemo")
LAYOUT = Layout(256, EOS, END_OF_TURN)


@pytest.fixture
def sequences():
    lengths = [20, 33, 47, 60, 25]
    return [
        TokenSequence(problem_id=str(i), sample=0, input_ids=[5 + i] * n + [END_OF_TURN], num_prompt_tokens=4)
        for i, n in enumerate(lengths)
    ]


def config(*overrides):
    return load_config(
        [
            "train=nemo_aligner",
            "train/layout=qwen2.5_7b",
            "train.nemo_model=/models/base-nemo",
            "train.max_steps=3",
            "train.optim.sched.warmup_steps=1",
            "train.global_batch_size=40",
            "pack.capacity_tokens=256",
            "pack.strategy=shuffle",
            *overrides,
        ]
    )


def drawn(path, steps):
    """How often each step of the packed file draws each sequence, told by its first token."""
    packs = read_packed_file(path)
    counts = np.zeros((steps, 5), dtype=int)
    for number, pack in enumerate(packs):
        for ids, mask in pack.sequences():
            counts[number // (len(packs) // steps), ids[0] - 5] += mask.max()
    return counts


@pytest.mark.parametrize("batching", ["literal", "distinct"])
def test_every_step_draws_what_the_local_trainer_draws(tmp_path, sequences, batching):
    cfg = config(f"train.batching={batching}")
    prepare_aligner(cfg.train, cfg.pack, sequences, LAYOUT, tmp_path, "name", BASE)
    convention = read_convention(tmp_path / PACKED_FILE)
    expected = draw_counts(literal_draws(5, 3, 40, cfg.train.seed), 5)
    assert (drawn(tmp_path / PACKED_FILE, 3) == expected).all()
    assert convention.weighting == batching
    assert convention.packs_per_step % cfg.train.layout.data_parallel_size == 0


def test_the_config_names_the_files_and_counts_packs(tmp_path, sequences):
    cfg = config()
    prepare_aligner(cfg.train, cfg.pack, sequences, LAYOUT, tmp_path, "name", BASE)
    convention = read_convention(tmp_path / PACKED_FILE)
    model = yaml.safe_load((tmp_path / CONFIG_FILE).read_text())["model"]
    data = model["data"]["train_ds"]
    assert data["global_batch_size"] == convention.packs_per_step
    check_convention(
        data["file_path"],
        max_seq_length=data["max_seq_length"],
        context_parallel_size=model["context_parallel_size"],
        packs=3 * convention.packs_per_step,
    )


def test_context_parallelism_pads_the_file_for_it(tmp_path, sequences):
    cfg = config("train.layout.context_parallel_size=2")
    prepare_aligner(
        cfg.train, cfg.pack, sequences, LAYOUT._replace(context_parallel_size=2), tmp_path, "name", BASE
    )
    assert read_convention(tmp_path / PACKED_FILE).pad_to_multiple == 4
    assert all(
        len(ids) % 4 == 1 for pack in read_packed_file(tmp_path / PACKED_FILE) for ids, _ in pack.sequences()
    )


@pytest.mark.parametrize("batching", ["literal", "distinct"])
def test_the_report_is_of_the_packs_that_are_trained(tmp_path, sequences, batching):
    cfg = config(f"train.batching={batching}")
    report = prepare_aligner(cfg.train, cfg.pack, sequences, LAYOUT, tmp_path, "name", BASE)
    packs = read_packed_file(tmp_path / PACKED_FILE)
    assert report.packs == len(packs) == 3 * report.packs_per_step
    inputs = sum(len(pack.input_ids) - len(pack.seq_start_id) for pack in packs)
    assert report.utilisation == pytest.approx(inputs / (256 * len(packs)))
    assert -(-inputs // 256) <= report.fewest_packs_possible <= report.packs
    relative = []  # from the file's masks alone: a pack's loss is divided by its own sum, the step's by their number
    for first in range(0, len(packs), report.packs_per_step):
        sums = [int(pack.loss_mask.sum(dtype=int)) for pack in packs[first : first + report.packs_per_step]]
        got = {}
        for pack, total in zip(packs[first:], sums):
            for ids, mask in pack.sequences():
                weight, draws = got.get(ids[0], (0.0, 0))
                count = int(mask.max())
                got[ids[0]] = (weight + count / total / len(sums), draws + count)
        relative += [weight / (draws / sum(sums)) for weight, draws in got.values() if draws]
    assert (report.token_weight_lowest, report.token_weight_highest) == pytest.approx(
        (min(relative), max(relative))
    )
    assert report.token_weight_lowest < 1 < report.token_weight_highest
    written = json.loads((tmp_path / REPORT_FILE).read_text())
    assert written["fewest_packs_possible"] == report.fewest_packs_possible and len(written) == 6
    assert f"{report.packs} packs of at least {report.fewest_packs_possible}" in report.line()


def test_an_id_over_int32_is_refused_not_wrapped(tmp_path, sequences):
    sequences[2].input_ids[0] = 2**32 + 5
    cfg = config()
    with pytest.raises(UserError, match="trace 2: its ids are not whole numbers in 0"):
        prepare_aligner(cfg.train, cfg.pack, sequences, LAYOUT, tmp_path, "name", BASE)


def test_what_the_writer_got_wrong_is_found_before_training(tmp_path, sequences, monkeypatch):
    from nemo_cot.training.nemo_aligner import packed_file

    def one_token_early(*arguments):
        pack = build(*arguments)
        return pack._replace(loss_mask=np.roll(pack.loss_mask, -1))

    build = packed_file._build
    monkeypatch.setattr(packed_file, "_build", one_token_early)
    cfg = config()
    with pytest.raises(UserError, match=r"pack 0, sequence 0: never trains its end-of-turn token"):
        prepare_aligner(cfg.train, cfg.pack, sequences, LAYOUT, tmp_path, "name", BASE)
    assert not (tmp_path / CONFIG_FILE).exists()


def test_a_trace_that_does_not_fit_is_refused(tmp_path, sequences):
    with pytest.raises(UserError, match="capacity"):
        cfg = config("pack.capacity_tokens=48")
        prepare_aligner(
            cfg.train, cfg.pack, sequences, LAYOUT._replace(capacity_tokens=48), tmp_path, "name", BASE
        )
