"""NeMo-Skills' files and commands: what is trusted, what is thrown out, what is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config.engines import SamplingConfig
from nemo_cot.config.overrides import hydra_value
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.records import Problem
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.nemo_skills.command import generate_command
from nemo_cot.sampling.nemo_skills.files import RowCounter, in_problem_order, read_seed, repair
from nemo_cot.serving.server import Server
from nemo_cot.text import PromptFormat

PROBLEMS = [Problem(problem_id=name, problem=name, expected_answer="1") for name in "abc"]


def row(name: str, **more: object) -> dict:
    return {
        "id": name,
        "generation": f"so {name}<|im_end|>",
        "num_generated_tokens": 3,
        "finish_reason": "stop",
        **more,
    }


def write(path: Path, rows: list[dict], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + tail)
    return path


def job(folder: Path, form: PromptFormat | None = None) -> SamplingJob:
    sampling = SamplingConfig(0.6, 20, 0.9, 512, "fp32", 1, "cpu", True, None)
    form = form or PromptFormat("{problem}", "<|im_end|>")
    return SamplingJob(None, form, PROBLEMS, range(4), 7, sampling, "test", folder, "sample")


@pytest.mark.parametrize("rows, tail, expected", [
    ("abc", "", "done"), ("ab", "", "start"), ("acb", "", "start"), ("abcc", "", "start"), ("abd", "", "start"),
    ("abc", '{"id": "d"', "start"), ("", "", "start"),
])  # fmt: skip
def test_a_final_file_is_kept_only_when_it_is_whole(rows, tail, expected, tmp_path):
    path = write(tmp_path / "output-rs1.jsonl", [row(name) for name in rows], tail)
    assert repair(path, PROBLEMS) == expected and path.exists() == (expected == "done")


@pytest.mark.parametrize("rows, tail, expected, left", [
    ([(2, "c"), (0, "a")], "", "resume", 2),
    ([(2, "c"), (0, "a")], '{"id": "b", "gen', "resume", 2),
    ([], '{"id": "b", "gen', "start", 0),
    ([(2, "c"), (2, "c")], "", "start", None),
    ([(1, "c")], "", "start", None),
    ([(3, "a")], "", "start", None),
    ([(None, "a")], "", "start", None),
])  # fmt: skip
def test_an_unfinished_file_is_repaired_or_thrown_out(rows, tail, expected, left, tmp_path):
    final = tmp_path / "output-rs1.jsonl"
    unfinished = write(
        tmp_path / "output-rs1.jsonl-async", [row(name, _async_position=p) for p, name in rows], tail
    )
    assert repair(final, PROBLEMS) == expected
    assert unfinished.exists() == (left is not None)
    if left is not None:
        assert len(unfinished.read_text().splitlines()) == left


def test_their_verdict_is_kept_and_the_repeated_text_is_not(tmp_path):
    rows = [
        row(n, predicted_answer="5", symbolic_correct=n == "a", serialized_output=["x" * 99], id=n)
        for n in "abc"
    ]
    traces = read_seed(write(tmp_path / "output-rs9.jsonl", rows), job(tmp_path), 2)
    assert [(t.problem_id, t.sample, t.generation) for t in traces] == [(n, 2, f"so {n}") for n in "abc"]
    assert [(t.nemo_skills_answer, t.symbolic_correct) for t in traces] == [("5", n == "a") for n in "abc"]


@pytest.mark.parametrize("change, part", [
    ({"finish_reason": "abort"}, "finish_reason 'abort'"), ({"num_generated_tokens": None}, "num_generated_tokens is None"),
    ({"generation": None}, "line 2"), ({"generation": 5}, "generation"), ({"id": "c"}, "line 2"),
    ({"num_generated_tokens": -7}, "-7, of 512 that were"), ({"num_generated_tokens": 10**30}, "num_generated_tokens"),
    ({"num_generated_tokens": float("inf")}, "line 2"), ({"num_generated_tokens": 0}, "0 for a text of 14 characters"),
    ({"num_generated_tokens": 514}, "514, of 512 that were"), ({"generation": ["so"]}, "got `array`"),
    ({"generation": {"a": 1}}, "got `object`"), ({"generation": "\ud83d"}, "line 2"), ({"finish_reason": ["stop"]}, "line 2"),
])  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(change, part, tmp_path):
    path = write(tmp_path / "output-rs9.jsonl", [row("a"), row("b") | change, row("c")])
    with pytest.raises(UserError) as caught:
        read_seed(path, job(tmp_path), 0)
    assert part in str(caught.value) and str(path) in str(caught.value)


def test_a_row_of_brackets_is_named(tmp_path):
    path = write(tmp_path / "output-rs9.jsonl", [row("a")], '{"more": ' + "[" * 200_000 + "\n")
    with pytest.raises(UserError, match="line 2"):
        read_seed(path, job(tmp_path), 0)
    assert repair(path, PROBLEMS) == "start" and not path.exists()


def test_a_length_at_the_limit_is_well(tmp_path):
    rows = [row(name, num_generated_tokens=number) for name, number in zip("abc", (1, 512, 513))]
    traces = read_seed(write(tmp_path / "output-rs9.jsonl", rows), job(tmp_path), 0)
    assert [trace.num_generated_tokens for trace in traces] == [1, 512, 513]


def test_seeds_are_dealt_back_to_problems():
    assert list(in_problem_order([["a1", "b1"], ["a2", "b2"]])) == ["a1", "a2", "b1", "b2"]
    with pytest.raises(ValueError):
        list(in_problem_order([["a1"], ["a2", "b2"]]))


def test_rows_are_counted_as_they_come(tmp_path):
    final = tmp_path / "output-rs1.jsonl"
    unfinished = tmp_path / "output-rs1.jsonl-async"
    counter = RowCounter(final)
    assert counter.count() == 0
    unfinished.write_text("1\n2\n3")
    assert counter.count() == 2
    with open(unfinished, "a") as handle:
        handle.write("\n4\n")
    assert counter.count() == 4
    unfinished.rename(final)
    assert counter.count() == 4
    final.unlink()
    unfinished.write_text("1\n")
    assert counter.count() >= 1


def command(tmp_path: Path, **changes: object) -> list[str]:
    engine = replace(load_config(["evaluate.engine=nemo_skills"]).evaluate.engine, **changes)
    server = Server(
        "http://127.0.0.1:5005/v1", "/models/it's", None, None if changes.get("external") else object()
    )
    return generate_command(
        engine, job(tmp_path), server, source=tmp_path / "in $x;.jsonl", target=tmp_path / "out.jsonl", seed=9
    )


def test_the_command_for_our_prompt(tmp_path):
    made = command(tmp_path)
    assert made[:3] == ["python", "-m", "nemo_skills.inference.generate"]
    assert set(made[3:]) >= {
        "++skip_filled=true", f"++input_file='{tmp_path}/in $x;.jsonl'", f"++output_file='{tmp_path}/out.jsonl'",
        "++prompt_format='openai'", "++server.server_type='vllm'", "++server.host='127.0.0.1'", "++server.port=5005",
        "++server.model='/models/it\\'s'", "++inference.endpoint_type='text'", "++inference.temperature=0.6",
        "++inference.top_p=0.9", "++inference.top_k=20", "++inference.random_seed=9",
        "++inference.tokens_to_generate=512", "++inference.extra_body.add_special_tokens=false",
        "++stop_phrase='<|im_end|>'", "++max_concurrent_requests=64",
    }  # fmt: skip
    assert not [part for part in made if "prompt_config" in part or "eval_type" in part or "base_url" in part]


def test_without_seeds_vllm_gets_its_number_for_none(tmp_path, monkeypatch):
    """NeMo-Skills takes a whole number alone; the file's name still has the sample's own."""
    own = job(tmp_path)
    unseeded = replace(own, sampling=replace(own.sampling, seeded=False))
    monkeypatch.setitem(globals(), "job", lambda folder: unseeded)
    assert "++inference.random_seed=-1" in command(tmp_path)


def test_the_command_for_a_prompt_of_theirs(tmp_path):
    made = command(tmp_path, endpoint="chat", prompt_config="qwen/qwq", eval_type="math")
    assert {
        "++prompt_format='ns'",
        "++prompt_config='qwen/qwq'",
        "++eval_type='math'",
        "++inference.endpoint_type='chat'",
    } <= set(made)
    assert not [part for part in made if "stop_phrase" in part or "add_special_tokens" in part]


@pytest.mark.parametrize(
    "text",
    ["a b", "it's", "back\\", "\\'", "new\nline", "[1,2]", "{a: b}", "a=b", "<|im_end|>", "ü", "$HOME;", ""],
)
def test_values_reach_hydra_as_they_are(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(f"++key={hydra_value(text)}")
    assert parsed.value() == text


def test_a_value_that_hydra_would_fill_in_is_refused():
    with pytest.raises(UserError, match="which Hydra fills in"):
        hydra_value("/a/${oc.env:HOME}")
