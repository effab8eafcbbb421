"""The student's surprise: the negative log-likelihood of traces under a base model, per token and per step.

Mean over the trained tokens (the answer and its end-of-turn token, behind the prompt) of -ln P(token | all
before it), in nats; after arXiv 2512.22255, which finds that traces that the student finds likely teach
better. Needs torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch

from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.io.atomic import atomic_writer
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.models.format import student_tokenizer
from nemo_cot.models.loading import load_model, resolve_device
from nemo_cot.progress import tracked
from nemo_cot.text import TextTokenizer
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment
from nemo_cot.traces.structure import SURPRISE
from nemo_cot.traces.structure.profile import Measured, plain_row

CHUNK_TOKENS = 512
"""Tokens whose logits exist at one time."""


class StepSurprise(msgspec.Struct):
    """A step: its ``kind``, its ``tokens`` (that begin in it), and the sum of their negative log-likelihoods,
    in nats.
    """

    kind: str
    tokens: int
    nats: float


class TraceSurprise(msgspec.Struct):
    """A row of the file of surprises. ``nats``: the sum over ``tokens``, of which the last ends the turn."""

    problem_id: str
    row: int
    tokens: int
    nats: float
    steps: list[StepSurprise]


def add_surprise(
    sets: Mapping[str, Measured],
    files: Mapping[str, Path],
    model: Path,
    cfg: Config,
    *,
    details: Path | None = None,
) -> None:
    """Add the measures :data:`SURPRISE` to each set, of the file of the same name: nats per token, and nats
    per step.

    ``model``: a Hugging Face directory, whose tokenizer is used with the prompt format of ``cfg.model``.
    ``details``: a file of JSON lines, a :class:`TraceSurprise` per trace. Raises UserError for a model that
    cannot be loaded, and for rows without their problem.
    """
    sampling = cfg.evaluate.sampling
    device = resolve_device(sampling.device)
    tokenizer = student_tokenizer(cfg.model, model)
    network = load_model(model, precision=sampling.precision, attention="sdpa", device=device)
    encoder = msgspec.json.Encoder()
    with atomic_writer(details, "wb") if details else contextlib.nullcontext() as out:
        for name, measured in sets.items():
            found = np.full((len(measured.values), len(SURPRISE)), np.nan, dtype=np.float32)
            rows = surprises(files[name], network, tokenizer, Marks(cfg.marks))
            for one in tracked(rows, f"surprise {name}", len(found), "traces"):
                found[one.row] = one.nats / one.tokens, one.nats / len(one.steps) if one.steps else np.nan
                if out is not None:
                    out.write(encoder.encode(one) + b"\n")
            measured.values = [np.concatenate(pair) for pair in zip(measured.values, found)]
            measured.names = [*measured.names, *SURPRISE]


def surprises(
    path: Path, model: torch.nn.Module, tokenizer: TextTokenizer, marks: Marks
) -> Iterator[TraceSurprise]:
    """That of each trace in the file, in order. Raises UserError for a row without its problem's text."""
    for number, (line, row) in enumerate(iter_numbered_jsonl(path)):
        where = f"{path}, line {line}"
        trace = plain_row(row, where=where)
        if not isinstance(row.get("problem"), str):
            raise UserError(
                "problem is missing or not text", where=where, fix="add the problem that the trace solves"
            )
        ids, starts = tokenizer.answer_ids_at(trace.generation)
        nats = token_nats(model, tokenizer.prompt_ids(row["problem"]), ids)
        steps = segment(trace.generation, marks)
        ends = np.cumsum([len(step.text) for step in steps])
        place = np.searchsorted(ends, starts, side="right")  # the step in which a token begins
        sums = np.bincount(place, weights=nats[: len(starts)], minlength=len(steps))
        counts = np.bincount(place, minlength=len(steps))
        found = [StepSurprise(s.kind, int(n), round(float(x), 6)) for s, n, x in zip(steps, counts, sums)]
        yield TraceSurprise(trace.problem_id, number, len(ids), float(nats.sum()), found)


@torch.inference_mode()
def token_nats(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> np.ndarray:
    """-ln P of each token of ``answer`` after ``prompt`` (which is not empty) and those before it, float64
    [answer].
    """
    device = next(model.parameters()).device
    ids = torch.tensor([prompt + answer], device=device)
    hidden = model.get_decoder()(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[
        0, len(prompt) - 1 :
    ]
    head, targets, found = model.get_output_embeddings(), ids[0, len(prompt) :], []
    for start in range(0, len(answer), CHUNK_TOKENS):
        part = slice(start, start + CHUNK_TOKENS)
        found.append(
            torch.nn.functional.cross_entropy(head(hidden[part]).float(), targets[part], reduction="none")
        )
    return torch.cat(found).double().cpu().numpy()
