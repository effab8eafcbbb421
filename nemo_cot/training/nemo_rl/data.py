"""From traces to what NeMo-RL reads: rows of text, one per draw, and its rendered config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from nemo_cot.config import PackConfig
from nemo_cot.errors import UserError
from nemo_cot.io.atomic import atomic_writer, write_bytes
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.packing import literal_draws
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.records import Trace
from nemo_cot.text import TextTokenizer
from nemo_cot.training.nemo.rendered import to_yaml
from nemo_cot.training.nemo_rl.config import NemoRlTrain
from nemo_cot.training.nemo_rl.render import RlInputs, render_nemo_rl

TRAIN_FILE, EXPECTED_FILE, CONFIG_FILE = "train.jsonl", "tokens.jsonl", "nemo_rl.yaml"


class RlRow(msgspec.Struct):
    """The keys that the rendered config names (input_key, output_key)."""

    input: str
    output: str


def prepare_rl(
    train: NemoRlTrain,
    pack: PackConfig,
    traces: Sequence[Trace],
    sequences: Sequence[TokenSequence],
    tokenizer: TextTokenizer,
    folder: Path,
    inputs: RlInputs,
) -> None:
    """Write train.jsonl (every step's rows, in order), tokens.jsonl (what rl_check compares) and nemo_rl.yaml.

    The draws are those of the local trainer for the same seed. Raises UserError for a trace whose
    text does not become the tokens that were packed.
    """
    rows = [_row(trace, sequence, tokenizer) for trace, sequence in zip(traces, sequences, strict=True)]
    draws = literal_draws(len(rows), train.max_steps, train.global_batch_size, train.seed)
    lines = [msgspec.json.encode(row) + b"\n" for row in rows]
    first: dict[int, int] = {}
    with atomic_writer(folder / TRAIN_FILE, "wb") as handle:
        for number, trace in enumerate(draw for step in draws for draw in step):
            first.setdefault(int(trace), number)
            handle.write(lines[int(trace)])
    expected = (
        {
            "row": row,
            "trace": f"{sequences[trace].problem_id}, sample {sequences[trace].sample}",
            "input_ids": sequences[trace].input_ids,
            "num_prompt_tokens": sequences[trace].num_prompt_tokens,
        }
        for trace, row in first.items()
    )
    write_jsonl(folder / EXPECTED_FILE, expected)
    write_bytes(folder / CONFIG_FILE, to_yaml(render_nemo_rl(train, pack, inputs)).encode())


def _row(trace: Trace, sequence: TokenSequence, tokenizer: TextTokenizer) -> RlRow:
    """The trace as text, which NeMo-RL makes tokens of again, with special tokens wherever one is spelled out."""
    form = tokenizer.form
    row = RlRow(form.prompt.replace("{problem}", trace.problem), trace.generation + form.end_of_turn * trace.trains_end_of_turn)
    ids = [tokenizer.special_ids(row.input), tokenizer.special_ids(row.output)]
    if [len(ids[0]), ids[0] + ids[1]] != [sequence.num_prompt_tokens, sequence.input_ids]:
        raise UserError(
            "its text becomes other tokens when problem and prompt are read as one, or it spells out a "
            "special token; NeMo-RL would train on those",
            where=f"trace {trace.problem_id}, sample {trace.sample}",
            fix="leave the trace out, or use train=nemo_aligner or train=local",
        )
    return row
