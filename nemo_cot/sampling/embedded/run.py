"""Sample every problem from a local model into a JSON-lines file, resumable by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nemo_cot.config.engines import EngineConfig
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import JsonlAppender, drop_cut_line, read_jsonl, write_jsonl
from nemo_cot.progress import track
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.text import TextTokenizer

Drawn = tuple[Problem, int]
"""A problem, and the number of its sample."""


def sample(engine: EngineConfig, job: SamplingJob) -> None:
    """Append the samples of ``job`` to its generations.jsonl, in the problems' order.

    Batches are fixed by the list of samples, and a batch is written in one piece: a killed run goes on
    with the first batch that is not in the file and gives the same tokens as one never killed.
    """
    if job.model is None:
        raise UserError("no model directory", where=job.label, fix="give one, or another engine")
    pairs, path, size = job.pairs, job.folder / "generations.jsonl", job.sampling.batch_size
    done = _whole_batches(path, pairs, size)
    if done == len(pairs):
        return
    draw = _Sampler(job, TextTokenizer(job.model, job.form))
    started, tokens = time.monotonic(), 0
    with JsonlAppender(path) as out, track(job.label, len(pairs), "samples", job.folder, done=done) as progress:

        def show(done: int, drawn: int) -> None:
            progress.update(done, speed=f"{drawn / (time.monotonic() - started):.0f} tokens/s")

        for start in range(done, len(pairs), size):
            batch = pairs[start : start + size]
            traces = draw(batch, lambda ended, drawn: show(start + ended, tokens + drawn))  # noqa: B023
            out.append(traces)
            tokens += sum(t.num_generated_tokens for t in traces)
            show(start + len(batch), tokens)


class _Sampler:
    """The loaded model; torch is imported here and not before."""

    def __init__(self, job: SamplingJob, tokenizer: TextTokenizer) -> None:
        from nemo_cot.models.attention import SAMPLING
        from nemo_cot.models.loading import load_model, resolve_device
        from nemo_cot.sampling.embedded.decode import Decoding
        from nemo_cot.training.local.allocator import keep_freed_memory

        keep_freed_memory()
        sampling = job.sampling
        self._model = load_model(
            job.model,
            precision=sampling.precision,
            attention=SAMPLING,
            device=resolve_device(sampling.device),
        )
        self._tokenizer, self._job = tokenizer, job
        self._decoding = Decoding(
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            sampling.max_new_tokens,
            tuple(tokenizer.stop_ids),
            job.seed,
            self._ends if job.form.stops else None,
        )

    def __call__(self, batch: Sequence[Drawn], on_step: Callable[[int, int], object]) -> list[Trace]:
        from nemo_cot.sampling.embedded.decode import Request, sample_batch

        requests = [Request(self._tokenizer.prompt_ids(p.problem), f"{p.problem_id}:{s}") for p, s in batch]
        completions = sample_batch(self._model, requests, self._decoding, on_step)
        texts = [self._tokenizer.decode(c.token_ids, skip_special_tokens=True) for c in completions]
        return [
            self._job.trace(problem, sample, text, one.num_generated_tokens, one.finish_reason)
            for (problem, sample), text, one in zip(batch, texts, completions)
        ]

    def _ends(self, ids: list[int]) -> bool:
        """Whether a text that ends an answer is in the newest of ``ids``; a token is a byte at least."""
        stops = self._job.form.stops
        last = ids[-max(len(stop.encode()) for stop in stops) - 4 :]
        newest = self._tokenizer.decode(last, skip_special_tokens=True)
        return any(stop in newest for stop in stops)


def _whole_batches(path: Path, pairs: Sequence[Drawn], batch_size: int) -> int:
    """How many samples are finished; rows of a batch that was cut short are dropped."""
    drop_cut_line(path)
    if not path.exists():
        return 0
    rows = read_jsonl(path, Trace, allow_empty=True)
    same = 0
    for row, (problem, sample) in zip(rows, pairs):
        if (row.problem_id, row.sample) != (problem.problem_id, sample):
            break
        same += 1
    done = len(pairs) if same == len(pairs) else same - same % batch_size
    if done != len(rows):
        write_jsonl(path, rows[:done])
    return done
