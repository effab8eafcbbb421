"""Sampling into a file: resumed by batch, the same rows as never cut short."""

from __future__ import annotations

import pytest

from nemo_cot.config.engines import EngineConfig, SamplingConfig
from nemo_cot.progress import Tracker
from nemo_cot.records import Problem
from nemo_cot.sampling.embedded import run
from nemo_cot.sampling.embedded.decode import Completion
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.text import PromptFormat, Shots, TextTokenizer


class FakeTokenizer:
    """Token ids are the bytes of the text."""

    stop_ids = (0,)

    def prompt_ids(self, problem):
        return list(problem.encode())

    def decode(self, ids, *, skip_special_tokens=False):
        return bytes(ids).decode()


@pytest.fixture
def sampled(monkeypatch):
    """Replace the model by an echo of the request; returns the list of batches that were drawn."""
    batches = []

    def echo(model, requests, decoding, on_step):
        batches.append([request.key for request in requests])
        on_step(1, 5)
        return [Completion(list(f"{r.key} {decoding.seed}".encode()), "stop", 3) for r in requests]

    monkeypatch.setattr(run, "TextTokenizer", lambda *_: FakeTokenizer())
    monkeypatch.setattr("nemo_cot.models.loading.load_model", lambda *_, **__: None)
    monkeypatch.setattr("nemo_cot.sampling.embedded.decode.sample_batch", echo)
    return batches


def sample(folder):
    problems = [Problem(problem_id=name, problem=f"problem {name}", expected_answer="1") for name in "abc"]
    sampling = SamplingConfig(1.0, 0, 1.0, 8, "fp32", 4, "cpu", True, None)
    job = SamplingJob(
        folder, PromptFormat("{problem}", "<end>"), problems, range(3),
        seed=7, sampling=sampling, lineage="test", folder=folder, label="sample",
    )  # fmt: skip
    run.sample(EngineConfig("embedded"), job)
    return folder / "generations.jsonl"


def test_batches_go_across_problems_in_order(tmp_path, sampled):
    sample(tmp_path)
    assert sampled == [["a:0", "a:1", "a:2", "b:0"], ["b:1", "b:2", "c:0", "c:1"], ["c:2"]]


def test_progress_counts_the_samples_of_a_batch_that_have_ended(tmp_path, sampled, monkeypatch):
    shown = []
    monkeypatch.setattr(Tracker, "update", lambda self, done, **figures: shown.append(done))
    sample(tmp_path)
    assert shown == [1, 4, 5, 8, 9, 9]


@pytest.mark.parametrize("lines", range(9))
@pytest.mark.parametrize("tail", [b"", b'{"problem_id": "b", "sam'])
def test_a_cut_file_is_completed_to_the_same_bytes(tmp_path, sampled, lines, tail):
    path = sample(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]) + tail)
    sampled.clear()
    assert sample(tmp_path).read_bytes() == whole
    assert len(sampled) == 3 - lines // 4


def test_a_finished_file_loads_no_model(tmp_path, sampled, monkeypatch):
    sample(tmp_path)
    sampled.clear()
    monkeypatch.setattr(run, "_Sampler", None)
    sample(tmp_path)
    assert sampled == []


@pytest.mark.parametrize("stop", ["\n\nProblem:", "the answer", "é", "1:"])
def test_a_text_that_ends_an_answer_is_seen_with_the_token_that_completes_it(tiny_model, stop):
    """Not before, not later; wherever the tokens are cut."""
    form = PromptFormat("{problem}", "<|im_end|>", None, Shots((), "", (stop,)))
    tokenizer = TextTokenizer(tiny_model, form)
    draw = object.__new__(run._Sampler)
    draw._tokenizer, draw._job = tokenizer, type("Job", (), {"form": form})
    ids = tokenizer.text_ids("a long beginning, so that it is cut away, no " + stop + " and on")
    first = next(n for n in range(1, len(ids)) if stop in tokenizer.decode(ids[:n]))
    assert [draw._ends(ids[:n]) for n in range(1, first + 1)] == [False] * (first - 1) + [True]
