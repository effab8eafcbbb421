"""Trap 10 in the smoke test's own packs and model: a broken mask stands far above the tolerance it goes by."""

from __future__ import annotations

import json

import pytest

from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.launchers.smoke import Smoke
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.training.nemo_aligner import smoke_model
from nemo_cot.training.nemo_aligner.packed_file import Layout, read_packed_file
from nemo_cot.training.nemo_aligner.prepare import PACKED_FILE, prepare_aligner
from tests.training.nemo.packed_loss import TRAPS, model_of, packed_loss


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The smoke test's model and packed file, as its steps model and train make them."""
    smoke = Smoke(tmp_path_factory.mktemp("smoke"))
    smoke.model()
    ids = json.loads((smoke.run.stage("convert") / "model.json").read_text())
    layout = Layout(smoke.cfg.pack.capacity_tokens, ids["eos_id"], ids["end_of_turn_id"])
    rows = list(read_jsonl(smoke.run.stage("pack") / "sequences.jsonl", TokenSequence))
    prepare_aligner(smoke.cfg.train, smoke.cfg.pack, rows, layout, smoke.run.path, "smoke", smoke.base)
    return smoke


@pytest.fixture(scope="module")
def packs(smoke):
    """Number and sequences of each pack."""
    found = [
        (row, pack.sequences()) for row, pack in enumerate(read_packed_file(smoke.run.path / PACKED_FILE))
    ]
    assert len(found) >= 2 and all(len(sequences) > 2 for _, sequences in found)
    return found


def gaps(smoke, packs, *, dtype="float32", trap=None):
    """Relative difference of each pack's loss from that of its sequences alone in transformers, fp32."""
    model = model_of(smoke.base, dtype=dtype)
    alone = [smoke_model.loss_of_pack(smoke.base, smoke.run.path / PACKED_FILE, row) for row, _ in packs]
    return [
        abs(packed_loss(model, sequences, trap=trap) / own - 1) for (_, sequences), own in zip(packs, alone)
    ]


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_a_broken_mask_changes_every_pack_by_many_times_the_tolerance(trap, smoke, packs):
    assert min(gaps(smoke, packs, trap=trap)) > 5 * smoke_model.TOLERANCE


def test_the_right_mask_is_within_the_tolerance_in_the_trainer_s_precision_too(smoke, packs):
    assert max(gaps(smoke, packs)) < 1e-5
    assert max(gaps(smoke, packs, dtype="bfloat16")) < smoke_model.TOLERANCE / 2
