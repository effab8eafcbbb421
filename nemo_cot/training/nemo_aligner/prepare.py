"""From tokenised traces to what NeMo-Aligner reads: the packed file and the rendered config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nemo_cot.config import PackConfig
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.json_file import write_json
from nemo_cot.packing import StepPacks, distinct_packs, literal_draws, literal_packs
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.training.nemo.rendered import to_yaml
from nemo_cot.training.nemo_aligner.checkpoints import LOG_DIR
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from nemo_cot.training.nemo_aligner.packed_file import Layout, Tokens, packed_lengths, write_packed_file
from nemo_cot.training.nemo_aligner.packing_report import PackingReport, packing_report
from nemo_cot.training.nemo_aligner.render import AlignerInputs, render_nemo_aligner
from nemo_cot.training.nemo_aligner.verify import verify_packed_file

PACKED_FILE, CONFIG_FILE, REPORT_FILE = "train.npy", "aligner.yaml", "packing.json"


def prepare_aligner(
    train: AlignerTrain,
    pack: PackConfig,
    sequences: Sequence[TokenSequence],
    layout: Layout,
    folder: Path,
    name: str,
    base: Path,
) -> PackingReport:
    """Write train.npy (every step's packs, in order), its sidecar, packing.json and aligner.yaml into ``folder``.

    ``base``: the model to train from, in NeMo's format. Returns what packing.json holds.

    The draws are those of the local trainer for the same seed. Raises UserError for traces that do
    not fit, or that NeMo would train wrongly on.
    """
    traces = [Tokens(np.asarray(s.input_ids), s.num_prompt_tokens) for s in sequences]
    lengths = packed_lengths(traces, layout)
    steps = _steps(train, pack, lengths)
    write_packed_file(
        folder / PACKED_FILE,
        steps.packs,
        traces,
        layout,
        packs_per_step=steps.packs_per_step,
        weights=None if train.batching == "literal" else steps.weights,
    )
    # Read back from the disk, by rules that share no code with the writer.
    verify_packed_file(folder / PACKED_FILE, layout)
    trained = [len(trace.ids) - trace.answer_start for trace in traces]
    report = packing_report(steps, lengths, trained, pack.capacity_tokens)
    write_json(folder / REPORT_FILE, report)
    inputs = AlignerInputs(
        base_model=str(base),
        packed_file=str(folder / PACKED_FILE),
        packs_per_step=steps.packs_per_step,
        log_dir=str(folder / LOG_DIR),
        name=name,
    )
    write_bytes(folder / CONFIG_FILE, to_yaml(render_nemo_aligner(train, pack, inputs)).encode())
    return report


def _steps(train: AlignerTrain, pack: PackConfig, lengths: np.ndarray) -> StepPacks:
    """The packs of every step. lengths: room that each trace takes, shape (traces,)."""
    draws = literal_draws(len(lengths), train.max_steps, train.global_batch_size, train.seed)
    batches = literal_packs if train.batching == "literal" else distinct_packs
    return batches(
        draws,
        lengths,
        pack.capacity_tokens,
        strategy=pack.strategy,
        seed=pack.seed,
        multiple_of=train.layout.data_parallel_size,
    )
