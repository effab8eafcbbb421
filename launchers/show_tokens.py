"""nemo-cot show-tokens: what of a trace is trained on, and what is not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nemo_cot.errors import UserError, one_line
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.launchers.finished import Arguments, open_run
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.report.untrusted import visible
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import read_manifest
from nemo_cot.text import PromptFormat, TextTokenizer

USAGE = "RUN [--trace ID[:SAMPLE]] [runs_dir=DIR]"
_GREY, _GREEN, _SPECIAL, _END = "\x1b[90m", "\x1b[32m", "\x1b[1;7m", "\x1b[0m"


def show_tokens_command(arguments: Sequence[str]) -> int:
    """Print the trained part of one trace, or of those of one problem, of the sequences that the training
    reads.

    Grey: not trained; green: trained; reversed: special tokens. Without a terminal the parts are named
    instead, and special tokens stand in double angle brackets. Raises UserError for what is not there.
    """
    parser = Arguments("show-tokens", USAGE)
    parser.add_argument("--trace")
    given = parser.read(arguments)
    run = open_run(given.run, given.runs_dir)
    path = run.artifact("pack", "sequences.jsonl")
    sequences, tokenizer = read_jsonl(path, TokenSequence), packed_with(run)
    shown = sequences[:1] if given.trace is None else chosen(sequences, given.trace, path)
    for sequence in shown:
        print(shown_tokens(sequence, tokenizer, colour=sys.stdout.isatty()))
    print(totals(sequences, tokenizer))
    return 0


class _PackConfig(msgspec.Struct):
    """What is read of the config in pack's manifest."""

    model: PromptFormat


def packed_with(run: RunDirectory) -> TextTokenizer:
    """The tokenizer and prompt format that made the sequences of ``run``, out of the manifest of pack."""
    folder = run.stage("pack")
    manifest = read_manifest(folder)
    where, fix = str(folder), "run pack again"
    if manifest is None or "tokenizer" not in manifest.inputs:
        raise UserError("has no manifest that names its tokenizer", where=where, fix=fix)
    try:
        form = msgspec.convert(manifest.config, _PackConfig).model
    except msgspec.ValidationError as error:
        raise UserError(f"its manifest has no prompt format ({error})", where=where, fix=fix) from None
    return TextTokenizer((run.path / manifest.inputs["tokenizer"].path).parent, form)


def chosen(sequences: Sequence[TokenSequence], wanted: str, path: Path) -> list[TokenSequence]:
    """Those of the problem ``wanted``, or the one that ID:SAMPLE names."""
    found = [s for s in sequences if wanted in (s.problem_id, f"{s.problem_id}:{s.sample}")]
    if not found:
        known = ", ".join(f"{s.problem_id}:{s.sample}" for s in sequences[:5])
        raise UserError(
            f"there is no trace {wanted} among {len(sequences)} sequences",
            where=str(path),
            fix=f"choose one, such as {known}",
        )
    return found


def shown_tokens(sequence: TokenSequence, tokenizer: TextTokenizer, *, colour: bool) -> str:
    """The sequence as text, in three parts: the prompt, what is trained on, and the count."""
    start, ids = sequence.num_prompt_tokens, sequence.input_ids
    parts = [("not trained on", ids[:start], _GREY), ("trained on", ids[start:], _GREEN)]
    lines = [one_line(f"trace {sequence.problem_id}, sample {sequence.sample}")]
    for label, part, paint in parts:
        text = "".join(_painted(text, special, paint, colour) for text, special in tokenizer.pieces(part))
        lines += [text] if colour else [f"--- {label}: {len(part)} tokens", text]
    ends = ids[-1:] == [tokenizer.end_of_turn_id] and start < len(ids)
    end = (
        f"the last is {tokenizer.form.end_of_turn}"
        if ends
        else f"without {tokenizer.form.end_of_turn} at the end"
    )
    return "\n".join([*lines, f"--- {start} tokens not trained on, {len(ids) - start} trained on, {end}", ""])


def _painted(text: str, special: bool, paint: str, colour: bool) -> str:
    text = visible(text)
    if not colour:
        return f"«{text}»" if special else text
    return f"{paint}{_SPECIAL if special else ''}{text}{_END}"


def totals(sequences: Sequence[TokenSequence], tokenizer: TextTokenizer) -> str:
    """One line about all sequences."""
    tokens, trained = sum(len(s.input_ids) for s in sequences), sum(s.num_trained_tokens for s in sequences)
    ending = sum(s.input_ids[-1] == tokenizer.end_of_turn_id for s in sequences)
    return (
        f"{len(sequences)} sequences: {tokens:,} tokens, {trained:,} trained on ({trained / tokens:.1%}); "
        f"{'all' if ending == len(sequences) else ending} end in {tokenizer.form.end_of_turn}"
    )
