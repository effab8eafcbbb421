"""The convention that a packed file was written by, kept beside it, and the check against it.

NeMo's packers and loaders changed, from release to release and without a word, which token a
mask entry belongs to: a file of one release trains on the wrong tokens in another (the
end-of-turn token never trained, or the answer's first token lost). Nothing in the file says so.
So ``train.npy`` comes with ``train.npy.json``, and training refuses what does not match.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.hashing import sha256_of
from nemo_cot.io.json_file import DAMAGED

NEMO_VERSIONS = ("2.1",)
"""Loaders that the tests prove: NeMo 2.1.0, the pin of NeMo-Aligner 0.7.0."""

MASK = "own_token"
"""loss_mask[i] says whether token i is trained, as a label: the one convention that is written here."""

_FIXES = {
    "nemo_version": f"train in the image of docs/container.md: only NeMo {' and '.join(NEMO_VERSIONS)} is proven",
    "eos_id": "train a NeMo checkpoint with the tokenizer of model.path, which the traces were packed by",
}


class Convention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a packed file is to be read. Written as ``FILE.npy.json``."""

    packer: str  # this package and its version
    nemo_version: str  # the loader's, major.minor
    mask: str = MASK
    weighting: str  # "literal": mask is 0 or 1. "distinct": mask is how often the step draws it
    capacity_tokens: int  # inputs a pack may hold: one less than its tokens, a sequence
    pad_to_multiple: int  # every sequence's inputs are a multiple of this (2 x CP if CP > 1)
    context_parallel_size: int
    eos_id: int  # in no sequence; pads, where sequences are padded
    end_of_turn_id: int  # the last token of every sequence, and trained
    packs: int
    packs_per_step: int  # the global batch size: NeMo-Aligner counts packs, not sequences
    longest_pack_tokens: int  # inputs of the longest pack
    file_bytes: int
    file_sha256: str


def sidecar_path(path: Path) -> Path:
    """Where the convention of the packed file ``path`` is kept: ``train.npy`` -> ``train.npy.json``."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def read_convention(path: Path) -> Convention:
    """The convention of the packed file ``path``. Raises UserError when there is none, or a bad one."""
    sidecar = sidecar_path(path)
    fix = "write the packed file anew with this package's pack stage"
    try:
        convention = msgspec.json.decode(sidecar.read_bytes(), type=Convention)
    except FileNotFoundError:
        what = "nothing says which mask convention this file follows"
        raise UserError(what, where=str(path), fix=fix) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(sidecar), fix=fix) from None
    except DAMAGED as error:
        raise UserError(str(error), where=str(sidecar), fix=fix) from None
    problem = next((text for text, holds in _consistent(convention) if not holds), None)
    if problem:
        raise UserError(f"contradicts itself: {problem}", where=str(sidecar), fix=fix)
    return convention


def pad_multiple(context_parallel_size: int) -> int:
    """Context parallelism deals each sequence out in 2 x CP equal slices. Raises UserError below 1."""
    if context_parallel_size < 1:
        raise UserError(
            f"context_parallel_size {context_parallel_size}", fix="give 1 for no context parallelism"
        )
    return 1 if context_parallel_size == 1 else 2 * context_parallel_size


def _consistent(c: Convention) -> list[tuple[str, bool]]:
    """What must hold of any sidecar, whoever trains from it: a text, and whether it does."""
    return [
        (f"mask {c.mask!r}, known is {MASK!r}", c.mask == MASK),
        (f"weighting {c.weighting!r}", c.weighting in ("literal", "distinct")),
        (f"context_parallel_size {c.context_parallel_size}", c.context_parallel_size >= 1),
        (
            f"pad_to_multiple {c.pad_to_multiple} with context_parallel_size {c.context_parallel_size}",
            c.context_parallel_size < 1 or c.pad_to_multiple == pad_multiple(c.context_parallel_size),
        ),
        (
            f"{c.packs} packs in steps of {c.packs_per_step}",
            c.packs_per_step >= 1 and c.packs >= 1 and c.packs % c.packs_per_step == 0,
        ),
        (
            f"longest pack {c.longest_pack_tokens} of a capacity of {c.capacity_tokens}",
            1 <= c.longest_pack_tokens <= c.capacity_tokens,
        ),
        (
            f"eos {c.eos_id} and end of turn {c.end_of_turn_id} are to be two tokens",
            min(c.eos_id, c.end_of_turn_id) >= 0 and c.eos_id != c.end_of_turn_id,
        ),
    ]


def check_convention(
    path: Path, *, max_seq_length: int | None = None, check_hash: bool = True, **expected: Any
) -> Convention:
    """Refuse to train on ``path`` unless it was written for the trainer that will read it.

    expected: fields of :class:`Convention` with the values that the trainer goes by
    (``nemo_version``, ``eos_id``, ``end_of_turn_id``, ``context_parallel_size``, ...).
    max_seq_length: the loader's; must not be below the longest pack. check_hash: read the whole
    file to see that it is the one described (about a second for each GB).
    Returns the convention. Raises UserError naming the first field that differs, and TypeError for
    what is no field.
    """
    if unknown := expected.keys() - set(Convention.__struct_fields__):
        raise TypeError(f"a convention has no {', '.join(sorted(unknown))}")
    convention = read_convention(path)
    for name, value in expected.items():
        written = getattr(convention, name)
        if written != value:
            raise UserError(
                f"the file was packed with {name} = {written}, training goes by {value}",
                where=str(path),
                fix=_FIXES.get(name, f"pack again with {name} = {value}, or correct the training config"),
            )
    if max_seq_length is not None and max_seq_length < convention.longest_pack_tokens:
        raise UserError(
            f"the longest pack has {convention.longest_pack_tokens} tokens, over max_seq_length "
            f"{max_seq_length} (NeMo stops there with a bare AssertionError)",
            where=str(path),
            fix=f"set max_seq_length to {convention.capacity_tokens}, the capacity it was packed for",
        )
    _check_file(Path(path), convention, check_hash)
    return convention


def _check_file(path: Path, convention: Convention, check_hash: bool) -> None:
    fix = "copy file and sidecar together, or run the pack stage again"
    if not path.is_file():
        raise UserError("no such file", where=str(path), fix=fix)
    size = path.stat().st_size
    if size != convention.file_bytes:
        raise UserError(
            f"has {size} bytes, its sidecar says {convention.file_bytes}", where=str(path), fix=fix
        )
    if check_hash and sha256_of(path) != convention.file_sha256:
        raise UserError("is not the file that its sidecar describes (sha256)", where=str(path), fix=fix)
