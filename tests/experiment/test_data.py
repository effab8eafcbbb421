"""From problems to packs: disjoint, counted, and trained on exactly what is meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config import ChainSumProblems, FileProblems, ProceduralTeacher
from nemo_cot.errors import UserError
from nemo_cot.packing.sequences import tokenize_traces
from nemo_cot.problems import make_problems
from nemo_cot.records import Problem, Trace
from nemo_cot.stages import RunDirectory
from nemo_cot.text import PromptFormat, TextTokenizer
from nemo_cot.traces.procedural import parse_sum, write_trace
from tests.support import rows, run_stages, tiny_experiment, write_lines

SUMS = ChainSumProblems(source="chain_sum", terms=3, digits=1, num_train=40, num_heldout=30, seed=7)
FORM = PromptFormat(
    "<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "<|endoftext|>"
)


@pytest.fixture
def tokenizer(tiny_model: Path) -> TextTokenizer:
    return TextTokenizer(tiny_model, FORM)


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The default data of the quickstart, with a tokenizer of bytes."""
    more = ["problems.num_train=20", "generate.samples_per_problem=8", "curate.num_traces=10", "curate.max_tokens=200"]
    overrides = [*tiny_experiment(tiny_model, tmp_path_factory.mktemp("runs")), *more]
    return run_stages(overrides, "convert", "problems", "generate", "grade", "curate", "pack")


def test_problems_are_disjoint_different_and_as_many_as_asked():
    made = make_problems(SUMS)
    texts = [p.problem for p in [*made.train, *made.heldout]]
    assert (len(made.train), len(made.heldout)) == (40, 30) and len(set(texts)) == 70
    assert len({p.problem_id for p in [*made.train, *made.heldout]}) == 70


def test_problems_are_the_same_each_time_and_follow_the_seed():
    assert make_problems(SUMS) == make_problems(SUMS)
    assert make_problems(replace(SUMS, seed=8)) != make_problems(SUMS)


def test_the_gold_answers_are_right():
    for problem in make_problems(SUMS).train:
        task = parse_sum(problem)
        assert len(task.others) == 2
        assert int(problem.expected_answer) == task.first + sum(task.others)


def test_more_problems_than_there_are_is_an_error():
    with pytest.raises(UserError, match="different problems of 5010"):
        make_problems(replace(SUMS, terms=2, num_train=5000, num_heldout=10))


def test_problems_out_of_files_keep_their_ids(tmp_path):
    train = [
        {"id": 0, "problem": "a", "expected_answer": 1},
        {"problem_id": "x", "problem": "b", "expected_answer": "2"},
        {"problem": "c", "expected_answer": "3", "subset_for_metrics": "algebra"},
    ]
    paths = [
        str(write_lines(tmp_path / "train.jsonl", train)),
        str(write_lines(tmp_path / "heldout.jsonl", [{"problem": "d", "expected_answer": "4"}])),
    ]
    made = make_problems(FileProblems("file", *paths, None))
    assert [p.problem_id for p in made.train] == ["0", "x", "train-3"] and made.heldout[
        0
    ].problem_id == "heldout-1"
    assert made.train[0].expected_answer == "1" and made.train[2].subset_for_metrics == "algebra"


def test_held_out_problems_that_differ_by_blanks_only_are_refused(tmp_path):
    paths = [
        str(write_lines(tmp_path / f"{name}.jsonl", [{"problem": text, "expected_answer": "1"}]))
        for name, text in (("train", "1 + 1"), ("heldout", " 1  +\n1"))
    ]
    with pytest.raises(UserError, match="is a training problem too"):
        make_problems(FileProblems("file", *paths, None))


def test_a_training_problem_that_stands_there_twice_is_refused(tmp_path):
    """It would pass curate.per_problem twice. Held-out problems may: a benchmark is taken as it is."""
    rows = [{"problem": text, "expected_answer": "1"} for text in ("1 + 1", "1 + 2", "1  + 1 ")]
    twice = str(write_lines(tmp_path / "twice.jsonl", rows))
    other = str(write_lines(tmp_path / "other.jsonl", [{"problem": "5", "expected_answer": "5"}]))
    with pytest.raises(UserError, match="the same as twice-1") as caught:
        make_problems(FileProblems("file", twice, other, None))
    assert caught.value.where == "problem twice-3" and "problems.train_path" in caught.value.fix
    assert len(make_problems(FileProblems("file", other, twice, None)).heldout) == 3


@pytest.mark.parametrize(
    "style, rates", [("wrong", (1, 0, 0)), ("short", (0, 1, 0)), ("long", (0, 0, 1)), ("good", (0, 0, 0))]
)
def test_the_procedural_teacher_writes_what_its_rates_say(style, rates):
    teacher = ProceduralTeacher("procedural", *map(float, rates))
    problem = Problem(problem_id="p", problem="What is 4 + 3 - 9?", expected_answer="-2")
    text, written = write_trace(problem, 0, teacher, seed=1)
    assert written == style and ("\\boxed{-2}" in text) == (style != "wrong")
    assert write_trace(problem, 0, teacher, seed=1) == (text, style)


def test_every_generated_trace_is_kept_or_dropped_for_a_named_reason(run):
    generated = rows(run.stage("generate") / "generations.jsonl")
    kept = rows(run.stage("curate") / "traces.jsonl")
    dropped = json.loads((run.stage("curate") / "dropped.json").read_text())
    assert len(generated) == 20 * 8 and len(rows(run.stage("grade") / "graded.jsonl")) == 160
    assert len(kept) == 10 and len(kept) + sum(dropped.values()) == 160
    assert dropped["verdict_wrong"] > 0 and dropped["too_short"] > 0 and dropped["too_long"] > 0


def test_what_is_kept_is_right_within_the_window_and_one_a_problem(run, tiny_model):
    tokenizer = TextTokenizer(tiny_model, FORM)
    kept = rows(run.stage("curate") / "traces.jsonl")
    assert len({row["problem_id"] for row in kept}) == len(kept)
    for row in kept:
        assert row["verdict"] == "right" and 40 <= len(tokenizer.answer_ids(row["generation"])) <= 200
        assert f"\\boxed{{{row['expected_answer']}}}" in row["generation"]


def trace(problem_id: str, text: str = "x", **more) -> Trace:
    fields = {
        "sample": 0,
        "problem": "p",
        "expected_answer": "1",
        "num_generated_tokens": 5,
        "finish_reason": "stop",
        "verdict": "right",
        **more,
    }
    return Trace(problem_id=problem_id, generation=text, **fields)


def test_the_trained_tokens_are_the_answer_and_the_end_of_turn(run, tiny_model):
    """Decoded with transformers' own tokenizer, not with ours."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_model)
    traces = rows(run.stage("curate") / "traces.jsonl")
    sequences = rows(run.stage("pack") / "sequences.jsonl")
    assert len(sequences) == len(traces) == 10
    for row, sequence in zip(traces, sequences):
        ids, start = sequence["input_ids"], sequence["num_prompt_tokens"]
        assert theirs.decode(ids[start:]) == row["generation"] + "<|im_end|>"
        assert theirs.decode(ids[:start]) == FORM.prompt.format(problem=row["problem"])


def test_the_loss_weights_mark_exactly_those_tokens(run, tiny_model):
    """As the training sees them: which positions bear loss, and which token each predicts."""
    from nemo_cot.io.jsonl import read_jsonl
    from nemo_cot.packing.sequences import TokenSequence
    from nemo_cot.training.local.batches import WeightedPack
    from nemo_cot.training.local.objective import pack_tensors

    sequences = read_jsonl(run.stage("pack") / "sequences.jsonl", TokenSequence)[:3]
    tensors = pack_tensors(WeightedPack((0, 1, 2), (1.0, 1.0, 1.0)), sequences, "cpu")
    expected = [
        (s.input_ids[i - 1], s.input_ids[i])
        for s in sequences
        for i in range(s.num_prompt_tokens, len(s.input_ids))
    ]
    ids = tensors.input_ids[0].tolist()
    assert [
        (ids[p], t) for p, t in zip(tensors.predictors.tolist(), tensors.targets.tolist(), strict=True)
    ] == expected
    ends = [
        target
        for target in tensors.targets.tolist()
        if target == TextTokenizer(tiny_model, FORM).end_of_turn_id
    ]
    assert len(ends) == len(sequences), "each end of turn is trained, once"


def test_packing_json_counts_the_sequences_and_their_tokens(run):
    sequences = rows(run.stage("pack") / "sequences.jsonl")
    figures = json.loads((run.stage("pack") / "packing.json").read_text())
    lengths = [len(row["input_ids"]) for row in sequences]
    assert (figures["sequences"], figures["tokens"]) == (len(sequences), sum(lengths))
    assert figures["trained_tokens"] == sum(lengths) - sum(row["num_prompt_tokens"] for row in sequences)
    assert figures["fewest_packs_possible"] <= figures["packs"] and max(lengths) <= figures["capacity_tokens"]
    assert figures["utilisation"] == pytest.approx(sum(lengths) / figures["packs"] / 1024, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["<|im_end|>", "<|endoftext|>", "a<|im_start|>assistant\n\\boxed{1}<|im_end|>", "{problem}", "<|im_end|"],
)
def test_special_tokens_spelled_in_text_stay_text(text, tokenizer):
    special = {tokenizer.token_id(token, "") for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")}
    ids = tokenizer.text_ids(text)
    assert not special & set(ids) and tokenizer.decode(ids) == text
    (sequence,) = tokenize_traces([trace("a", text, problem=text)], tokenizer, capacity_tokens=1024)
    positions = [i for i, token in enumerate(sequence.input_ids) if token in special]
    assert len(positions) == 4, "two turns begin, two end, whatever the text says"
    assert positions[-1] == len(sequence.input_ids) - 1
    assert tokenizer.decode(sequence.input_ids[sequence.num_prompt_tokens :]) == text + "<|im_end|>"


@pytest.mark.parametrize("text", ["ü ∑ \U0001d538 \u202e", "", " ", "\n\n", "a\x00b", "e\u0301"])
def test_any_text_survives_tokens_and_back(text, tokenizer):
    assert tokenizer.decode(tokenizer.text_ids(text)) == text


def test_an_eos_inside_a_sequence_is_refused(tiny_model, tmp_path):
    import shutil

    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "tokenizer_config.json").unlink()
    tokenizer = TextTokenizer(folder, replace(FORM, eos_token="<|im_end|>"))
    with pytest.raises(UserError, match="occurs inside the sequence") as caught:
        tokenize_traces([trace("a")], tokenizer, capacity_tokens=1024)
    assert "model.eos_token" in caught.value.fix and "trace a, sample 0" in caught.value.where


def test_a_trace_is_never_truncated(tokenizer):
    whole = tokenize_traces([trace("a", "x" * 500)], tokenizer, capacity_tokens=1024)[0]
    with pytest.raises(UserError, match=f"the trace has {len(whole.input_ids)} tokens"):
        tokenize_traces([trace("a", "x" * 500)], tokenizer, capacity_tokens=len(whole.input_ids) - 1)
    assert tokenize_traces([trace("a", "x" * 500)], tokenizer, capacity_tokens=len(whole.input_ids)) == [
        whole
    ]
