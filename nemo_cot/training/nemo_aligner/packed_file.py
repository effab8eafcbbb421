"""NeMo's packed file, as the loader of NeMo 2.1 reads it, with the convention beside it.

A .npy array of dictionaries, one per pack: ``input_ids`` (whole sequences, one after another),
``loss_mask`` (same length) and ``seq_start_id`` (a list of starts, the first 0). The loader turns
each sequence into inputs (all but its last token) and labels (all but its first), so a sequence of
n tokens takes n - 1 of the capacity, and it sums the loss with the mask of each label.

Two departures from NeMo's own packer, both proven with the real loader (tests/contract):
ids and masks are arrays, not lists (a list costs 36 bytes per token when loaded, an array 5), and a
mask may hold how often a step draws a sequence (NeMo multiplies the loss by it and divides by its
sum), so that one distinct pack stands for many literal ones.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from nemo_cot import __version__
from nemo_cot.errors import UserError
from nemo_cot.io.atomic import atomic_writer
from nemo_cot.io.json_file import write_json
from nemo_cot.training.nemo_aligner.convention import NEMO_VERSIONS, Convention, pad_multiple, sidecar_path
from nemo_cot.training.nemo_aligner.object_array import read_object_array, write_object_array

MAX_ID = 2**31 - 1
"""Ids and counts are written as int32 or the smallest type that holds them."""


class Tokens(NamedTuple):
    """One tokenised trace: prompt, answer, end-of-turn token; ``answer_start`` counts the prompt."""

    ids: np.ndarray  # int, shape (n,)
    answer_start: int


class Pack(NamedTuple):
    """One row of a packed file. ``input_ids`` and ``loss_mask`` have shape (n,)."""

    input_ids: np.ndarray
    loss_mask: np.ndarray
    seq_start_id: list[int]

    def sequences(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids and mask of each sequence of the pack, in order."""
        ends = [*self.seq_start_id[1:], len(self.input_ids)]
        spans = list(zip(self.seq_start_id, ends))
        return [(self.input_ids[start:end], self.loss_mask[start:end]) for start, end in spans]


class Layout(NamedTuple):
    """What the trainer demands of a packed file; see :class:`Convention` for the fields."""

    capacity_tokens: int
    eos_id: int
    end_of_turn_id: int
    context_parallel_size: int = 1
    nemo_version: str = "2.1"

    @property
    def pad_to_multiple(self) -> int:
        """What each sequence's inputs are a multiple of. Raises UserError for no ranks at all."""
        return pad_multiple(self.context_parallel_size)


def packed_lengths(traces: Sequence[Tokens], layout: Layout) -> np.ndarray:
    """Room that each trace takes in a pack: n - 1 tokens, padded as ``layout`` says. Shape (n,)."""
    inputs = np.asarray([len(trace.ids) - 1 for trace in traces], dtype=np.int64)
    multiple = layout.pad_to_multiple
    return -(-inputs // multiple) * multiple


def write_packed_file(
    path: Path,
    packs: Sequence[Sequence[int]],
    traces: Sequence[Tokens],
    layout: Layout,
    *,
    packs_per_step: int,
    weights: Sequence[Sequence[int]] | None = None,
) -> Convention:
    """Write packs of ``traces`` and, beside it, the convention. Both writes are atomic.

    packs: indices into ``traces``, in the order of training. packs_per_step: the global batch
    size of NeMo-Aligner, which counts packs. weights: how often the step draws each member of
    each pack, same nesting as ``packs``; None for 1 throughout (literal).
    Memory: the traces and one pack. Arrays that recur, as in distinct packs (``weights``), are stored once.
    Raises UserError naming the trace or pack that the loader would train wrongly on.
    """
    _check_layout(layout, len(packs), packs_per_step)
    if weights is not None and len(weights) != len(packs):
        raise UserError(f"{len(packs)} packs, draw counts of {len(weights)}", fix="give each pack its own")
    prepared = [_prepare(trace, layout, index) for index, trace in enumerate(traces)]
    stored: dict[tuple, np.ndarray] = {}  # of distinct packs, which recur
    longest = 0

    def rows() -> Iterator[dict[str, np.ndarray | list[int]]]:
        nonlocal longest
        for number, members in enumerate(packs):
            drawn = [1] * len(members) if weights is None else weights[number]
            _check_members(members, drawn, len(traces), number)
            pack = _build(prepared, members, drawn, number)
            longest = max(longest, len(pack.input_ids) - len(members))
            if longest > layout.capacity_tokens:
                raise UserError(
                    f"pack {number} has {longest} inputs, over the capacity {layout.capacity_tokens}",
                    fix="pack by packed_lengths(traces, layout)",
                )
            if weights is not None:
                ids = stored.setdefault(tuple(members), pack.input_ids)
                mask = stored.setdefault((*members, "drawn", *drawn), pack.loss_mask)
                pack = pack._replace(input_ids=ids, loss_mask=mask)
            yield pack._asdict()

    with atomic_writer(Path(path), "wb") as handle:
        hashing = _Hashing(handle)
        write_object_array(hashing, rows(), len(packs), recurring=weights is not None)
    convention = Convention(
        packer=f"nemo-cot {__version__}",
        weighting="literal" if weights is None else "distinct",
        pad_to_multiple=layout.pad_to_multiple,
        packs=len(packs),
        packs_per_step=packs_per_step,
        longest_pack_tokens=longest,
        file_bytes=hashing.size,
        file_sha256=hashing.digest.hexdigest(),
        **layout._asdict(),
    )
    write_json(sidecar_path(path), convention)
    return convention


def read_packed_file(path: Path) -> list[Pack]:
    """The packs of ``path``, written by this module or by NeMo's own packer. Runs none of its code.

    Holds the file in memory, once. Raises UserError naming the pack that is not as it must be.
    """
    rows = read_object_array(path)
    if not rows:
        raise UserError("holds no packs", where=str(path), fix="write the file anew")
    return [_as_pack(row, f"{path}, pack {number}") for number, row in enumerate(rows)]


def _check_layout(layout: Layout, packs: int, packs_per_step: int) -> None:
    if layout.nemo_version not in NEMO_VERSIONS:
        raise UserError(
            f"no mask convention is proven for NeMo {layout.nemo_version}",
            fix=f"use nemo_version {' or '.join(NEMO_VERSIONS)}",
        )
    if not 0 <= min(layout.eos_id, layout.end_of_turn_id) <= max(layout[1:3]) <= MAX_ID:
        raise UserError(
            f"eos {layout.eos_id} and end of turn {layout.end_of_turn_id} are not both ids in 0..{MAX_ID}",
            fix="give the tokenizer's ids",
        )
    if layout.eos_id == layout.end_of_turn_id:
        raise UserError(
            f"the tokenizer's eos is the end-of-turn token ({layout.eos_id}), and NeMo takes the first "
            "eos of a sequence for the begin of padding",
            fix="use the base model's tokenizer, whose eos is <|endoftext|>",
        )
    if packs < 1 or packs_per_step < 1 or packs % packs_per_step:
        raise UserError(
            f"{packs} packs do not make whole steps of {packs_per_step}",
            fix="give every step the same number of packs",
        )


def _prepare(trace: Tokens, layout: Layout, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded ids (int32) and mask (bool) of one trace. Raises UserError if it would train wrongly."""
    where = f"trace {index}"
    ids = _whole_numbers(trace.ids)
    if ids is None or ids.size == 0 or ids.min() < 0 or ids.max() > MAX_ID:
        raise UserError(f"its ids are not whole numbers in 0..{MAX_ID}", where=where,
                        fix="give the token ids of the model's tokenizer")  # fmt: skip
    ids = ids.astype(np.int32)
    if not 1 <= trace.answer_start < len(ids):
        raise UserError(f"has {len(ids)} tokens, answer from {trace.answer_start}", where=where,
                        fix="give a prompt and an answer of at least one token each")  # fmt: skip
    if ids[-1] != layout.end_of_turn_id:
        raise UserError(f"ends in token {ids[-1]}, not in the end-of-turn token {layout.end_of_turn_id}",
                        where=where, fix="end the output text in the end-of-turn token")  # fmt: skip
    found = np.flatnonzero(ids == layout.eos_id)
    if found.size:
        raise UserError(f"token {found[0]} is the tokenizer's eos ({layout.eos_id}), where NeMo would cut it",
                        where=where, fix="remove the eos token from the text")  # fmt: skip
    mask = np.arange(len(ids)) >= trace.answer_start
    pad = -(len(ids) - 1) % layout.pad_to_multiple
    return np.pad(ids, (0, pad), constant_values=layout.eos_id), np.pad(mask, (0, pad))


def _check_members(members: Sequence[int], drawn: Sequence[int], traces: int, number: int) -> None:
    # A negative index would count from the end, and a fraction be cut: neither without a word.
    for index in members:
        if not isinstance(index, int | np.integer) or not 0 <= index < traces:
            raise UserError(
                f"pack {number} names trace {index!r} of {traces}", fix="give indices into the traces"
            )
    for count in drawn:
        if not isinstance(count, int | np.integer) or not 0 <= count <= MAX_ID:
            raise UserError(
                f"pack {number} has the draw count {count!r}", fix=f"give whole numbers in 0..{MAX_ID}"
            )


def _build(
    prepared: list[tuple[np.ndarray, np.ndarray]], members: Sequence[int], drawn: Sequence[int], number: int
) -> Pack:
    if len(drawn) != len(members) or sum(drawn) == 0:
        raise UserError(
            f"pack {number} has {len(members)} sequences and draw counts {list(drawn)}: nothing to train on",
            fix="give every pack a sequence that its step draws",
        )
    ids = np.concatenate([prepared[index][0] for index in members])
    # A mask of counts keeps the smallest whole type; one of 0 and 1 stays bool, as NeMo's own.
    counts = np.asarray(drawn, dtype=bool if max(drawn) == 1 else np.min_scalar_type(max(drawn)))
    mask = np.concatenate([prepared[index][1] * count for index, count in zip(members, counts)])
    starts = np.cumsum([0, *(len(prepared[index][0]) for index in members[:-1])]).tolist()
    return Pack(ids, mask, starts)


def _as_pack(row: object, where: str) -> Pack:
    """Check one row's shape: fields, lengths, ranges, starts. Lists become arrays."""
    fix = "write the file anew; see docs/packing.md for its format"
    if not isinstance(row, dict) or not {"input_ids", "loss_mask", "seq_start_id"} <= row.keys():
        raise UserError("is not a dictionary of input_ids, loss_mask and seq_start_id", where=where, fix=fix)
    ids, mask = _whole_numbers(row["input_ids"]), _whole_numbers(row["loss_mask"], "iub")
    if ids is None or mask is None or ids.shape != mask.shape:
        raise UserError("input_ids and loss_mask are not whole numbers of one length", where=where, fix=fix)
    starts = row["seq_start_id"]
    if not isinstance(starts, list) or any(type(start) is not int for start in starts) or starts[:1] != [0]:
        raise UserError(
            "seq_start_id is not a list of whole numbers that begins with 0", where=where, fix=fix
        )
    if any(end - start < 2 for start, end in itertools.pairwise([*starts, len(ids)])):
        raise UserError("a sequence has fewer than 2 tokens", where=where, fix=fix)
    if ids.min() < 0 or ids.max() > MAX_ID:
        raise UserError(f"a token id is not in 0..{MAX_ID}", where=where, fix=fix)
    if mask.dtype.kind == "i" and mask.min() < 0:
        raise UserError("loss_mask has a negative count", where=where, fix=fix)
    return Pack(ids, mask, starts)


def _whole_numbers(values: object, kinds: str = "iu") -> np.ndarray | None:
    """``values`` as a flat array of whole numbers; None for anything else, ragged lists too."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        return None
    return array if array.ndim == 1 and array.dtype.kind in kinds else None


class _Hashing:
    """A handle to write to, that hashes and counts what goes through it."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._handle.write(data)
