"""Traces out of files: every format and public set in its own shape, which problem a row belongs to, what is taken."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_cot.config import TracesProblems
from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.teacher import ThinkingConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.groups import CONF
from nemo_cot.problems import make_problems
from nemo_cot.records import Problem
from nemo_cot.traces.rows import _with_thought, fitting_presets
from tests.support import nemo_cot_here, one_error, recipe_here, write_lines
from tests.traces.source_files import PROBLEMS, read, teacher, write

FORMATS = ["t.jsonl", "t.json", "t.csv", "t.parquet", "saved"]
ROWS = [{"problem_id": p.problem_id, "problem": p.problem, "generation": f"It is \\boxed{{{p.expected_answer}}}, \"so\"\n."} for p in PROBLEMS]
THINK = "<think>\nHm, wait.\n</think>\n\nIt is 2."


def texts(traces) -> list[tuple[str, int, str]]:
    return [(trace.problem_id, trace.sample, trace.generation) for trace in traces]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_traces(name, tmp_path):
    traces = read(write(tmp_path / name, ROWS))
    assert texts(traces) == [(row["problem_id"], 0, row["generation"]) for row in ROWS]
    first = {"t.jsonl": {"line": 1}, "t.csv": {"line": 2}}.get(name, {"row": 1})
    assert traces[0].lineage == [{"made_by": "file", **first}] and traces[0].finish_reason == "stop"


def test_json_lines_go_by_any_name_and_survive_marks_and_line_ends(tmp_path):
    lines = write(tmp_path / "t.jsonl", ROWS).read_bytes()
    for name, data in (("t.json", lines), ("traces.txt", lines), ("bom.jsonl", b"\xef\xbb\xbf" + lines),
                       ("crlf.jsonl", lines.replace(b"\n", b"\r\n\r\n")), ("open.jsonl", lines.rstrip())):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        assert texts(read(tmp_path / name)) == texts(read(tmp_path / "t.jsonl")), name


def test_a_folder_is_read_in_the_order_of_seeds_and_shards(tmp_path):
    for seed in (10, 2, 0):
        write(tmp_path / f"output-rs{seed}.jsonl", [{**ROWS[0], "generation": f"seed {seed}"}])
    (tmp_path / "output-rs3.jsonl-async").write_text("{")
    traces = read(tmp_path)
    assert texts(traces) == [("p0", n, f"seed {seed}") for n, seed in enumerate((0, 2, 10))]
    assert traces[2].lineage[0]["file"] == "output-rs10.jsonl"


def test_a_split_is_asked_for_where_there_are_several(tmp_path):
    for name, row in (("cot-00000-of-00002", 0), ("cot-00001-of-00002", 1), ("tir-00000-of-00001", 2)):
        write(tmp_path / f"{name}.parquet", [ROWS[row]])
    with pytest.raises(UserError, match="holds the splits cot, tir") as caught:
        read(tmp_path)
    assert caught.value.fix == "choose one: teacher.split=cot"
    assert [t.problem_id for t in read(tmp_path, "teacher.split=cot")] == ["p0", "p1"]
    with pytest.raises(UserError, match="does not hold the split dev; it has cot, tir"):
        read(tmp_path, "teacher.split=dev")


def test_train_and_test_are_not_mixed(tmp_path):
    for row, name in zip(ROWS, ("train", "test", "notes")):
        write(tmp_path / f"{name}.jsonl", [row])
    with pytest.raises(UserError, match="holds the splits test, train"):
        read(tmp_path)
    assert [t.problem_id for t in read(tmp_path, "teacher.split=train")] == ["p0"]
    (tmp_path / "test.jsonl").unlink()
    assert [t.problem_id for t in read(tmp_path)] == ["p2", "p0"], "one alone is a file as any other"


def test_the_parts_of_a_saved_dataset_are_its_splits(tmp_path):
    import datasets

    parts = {name: datasets.Dataset.from_list([row]) for name, row in zip(("train", "test"), ROWS)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(UserError, match="holds the splits train, test"):
        read(tmp_path / "d")
    assert texts(read(tmp_path / "d", "teacher.split=test")) == [("p1", 0, ROWS[1]["generation"])]


# ---- public sets

P, Q = PROBLEMS[:2]
CHAT = [{"from": "user", "value": f"Return your final response within \\boxed{{}}. {P.problem}"},
        {"from": "assistant", "value": "<|begin_of_thought|>\n\nHm.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nIt is 1.\n\n<|end_of_solution|>"}]  # fmt: skip
SETS = {
    "nemotron_human_reasoning": (
        "train.jsonl", ["teacher.where.solution_type=human_stage2"],
        [{"problem": P.problem, "solution": kind, "solution_type": kind, "expected_answer": "1"}
         for kind in ("human_stage1", "human_stage2", "qwq_32b_preview")],
        ["human_stage2"], {"solution_type": "human_stage2"},
    ),
    "openmathreasoning": (
        "cot-00000-of-00144.parquet", ["teacher.split=null"],
        [{"expected_answer": "1", "problem_type": "has_answer_extracted", "problem_source": "aops_c4_high_school_math",
          "generation_model": "QwQ-32B", "pass_rate_72b_tir": "0.96875", "problem": P.problem, "generated_solution": THINK,
          "inference_mode": "cot", "used_in_kaggle": True}],
        [THINK], {"generation_model": "QwQ-32B", "problem_type": "has_answer_extracted", "inference_mode": "cot",
                  "problem_source": "aops_c4_high_school_math", "pass_rate_72b_tir": "0.96875"},
    ),
    "nemo_skills": (
        "output-rs0.jsonl", [],
        [{"id": "p0", "problem": P.problem, "expected_answer": "1", "generation": THINK, "num_generated_tokens": 9,
          "finish_reason": "length", "predicted_answer": "1", "symbolic_correct": True, "serialized_output": ["x"]}],
        [THINK], {"symbolic_correct": True},
    ),
    "s1k": (
        "train-00000-of-00001.parquet", [],
        [{"solution": "1", "question": P.problem, "cot_type": "math", "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
          "metadata": "{}", "cot": None, "thinking_trajectories": ["Hm, wait.\n"], "attempt": "It is 1."}],
        ["Hm, wait.\n\nIt is 1."], {"cot_type": "math", "source_type": "AI-MO/NuminaMath-CoT/aops_forum"},
    ),
    "limo": ("limo.jsonl", [], [{"question": P.problem, "solution": "Okay. \\boxed{1}", "answer": "1"}], ["Okay. \\boxed{1}"], {}),
    "openthoughts": (
        "metadata.parquet", [],
        [{"problem": Q.problem, "deepseek_reasoning": "a", "deepseek_solution": "b", "ground_truth_solution": "2", "domain": "code",
          "source": "taco", "test_cases": "", "starter_code": ""},
         {"problem": P.problem, "deepseek_reasoning": "Hm.\n", "deepseek_solution": "It is 1.", "ground_truth_solution": "so $\\boxed{1}$",
          "domain": "math", "source": "numina_math", "test_cases": "", "starter_code": ""}],
        ["<think>\nHm.\n</think>\n\nIt is 1."], {"domain": "math", "source": "numina_math"},
    ),
    "openthoughts_chat": ("train.parquet", [], [{"system": "Think.", "conversations": CHAT}], [CHAT[1]["value"]], {}),
    "openr1_math": (
        "train-00000-of-00010.parquet", ["teacher.where.is_reasoning_complete=true"],
        [{"problem": P.problem, "solution": "s", "answer": "1", "problem_type": "Algebra", "question_type": "math-word-problem",
          "source": "olympiads", "uuid": "u-1", "is_reasoning_complete": [True, False, True], "generations": [THINK, "<think>", "c"],
          "correctness_math_verify": [True, False, False], "correctness_llama": None, "finish_reasons": None, "correctness_count": 1,
          "messages": [{"content": P.problem, "role": "user"}, {"content": THINK, "role": "assistant"}]}],
        [THINK, "c"], {"source": "olympiads", "problem_type": "Algebra", "correctness_math_verify": True, "is_reasoning_complete": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_public_set_is_read_in_its_own_shape(name, tmp_path):
    file, overrides, rows, expected, source = SETS[name]
    traces = read(write(tmp_path / file, rows), f"teacher={name}", *overrides)
    assert [t.generation for t in traces] == expected and {t.problem_id for t in traces} == {"p0"}
    assert traces[0].source == source and traces[0].problem == P.problem
    assert traces[0].finish_reason == ("length" if name == "nemo_skills" else "stop")


def test_every_set_has_its_test_and_its_columns_are_recognised():
    names = {p.stem for p in (CONF / "teacher").glob("*.yaml") if "\n  - file\n" in p.read_text()}
    assert names == set(SETS)
    for name, (_, _, rows, _, _) in SETS.items():
        assert fitting_presets(list(rows[0])) == [name]
    assert fitting_presets(["text", "label"]) == []


def test_a_file_that_is_not_understood_says_what_it_has_and_what_fits(tmp_path):
    with pytest.raises(UserError) as caught:
        read(write(tmp_path / "limo.jsonl", SETS["limo"][2]))
    assert caught.value.what == "generation is missing; the row has question, solution, answer"
    assert "limo.jsonl, line 1, field generation" in caught.value.where and caught.value.fix.startswith("teacher=limo has these columns")


# ---- which problem, which rows


def test_an_id_whose_problem_has_another_text_is_refused(tmp_path):
    rows = [ROWS[0], {**ROWS[1], "problem_id": "p0"}]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.where == f"{path}, line 2"
    assert caught.value.what == "the id p0 is that of 'What is 0 + 1?', the row's problem is 'What is 1 + 1?'"
    assert [t.problem_id for t in read(path, "teacher.match=text")] == ["p0", "p1"]
    assert [t.problem_id for t in read(path, "teacher.columns.problem=null")] == ["p0", "p0"]
    blanks = write(tmp_path / "b.jsonl", [{**ROWS[0], "problem": " What  is\n0 + 1? "}])
    assert [t.problem_id for t in read(blanks)] == ["p0"]


def test_traces_of_other_problems_are_counted_and_skipped(tmp_path):
    other = {"problem": "Prove it.", "problem_id": "q", "generation": ["a", "b"]}
    counts: Counter[str] = Counter()
    assert len(read(write(tmp_path / "t.jsonl", [other, *ROWS]), counts=counts)) == 3
    assert counts == {"rows": 4, "other problems": 2}
    with pytest.raises(UserError) as caught:
        read(write(tmp_path / "u.jsonl", [other]))
    assert "no trace is of one of the 3 training problems" in caught.value.what
    assert "id q, 'Prove it.'" in caught.value.what and "id p0, 'What is 0 + 1?'" in caught.value.what


@pytest.mark.parametrize("where, taken", [
    ("teacher.where.n=1", "b"), ("teacher.where.n=[0,1]", "ab"), ("teacher.where.ok=true", "ac"), ("teacher.where.tag=x", "ab"),
    ("teacher.where.rate=0.5", "b"), ("teacher.where.nothing=null", "abc"),
])  # fmt: skip
@pytest.mark.parametrize("format", ["t.jsonl", "t.csv", "t.parquet"])
def test_where_compares_numbers_truth_values_and_text(where, taken, format, tmp_path):
    more = [{"n": 0, "ok": True, "tag": "x", "rate": 1.5}, {"n": 1, "ok": False, "tag": "x", "rate": 0.5},
            {"n": 2, "ok": True, "tag": "y", "rate": 2.5}]  # fmt: skip
    rows = [{**row, **own, "generation": name} for row, own, name in zip(ROWS, more, "abc")]
    assert "".join(t.generation for t in read(write(tmp_path / format, rows), where)) == taken


@pytest.mark.parametrize("where, what", [
    ("teacher.where.nn=1", "there is no column 'nn'; it has problem_id, problem, generation, n"),
    ("teacher.where.n=7", "none of its 3 rows is taken: n is 5"),
])  # fmt: skip
def test_a_where_that_takes_nothing_is_an_error(where, what, tmp_path):
    with pytest.raises(UserError, match=what):
        read(write(tmp_path / "t.jsonl", [{**row, "n": 5} for row in ROWS]), where)


# ---- thinking


@pytest.mark.parametrize("text, cut, join, whole", [
    (THINK, "It is 2.", "Hm, wait.\n\nIt is 2.", True),
    ("Hm, wait.\n</think>It is 2.", "It is 2.", "Hm, wait.\n\nIt is 2.", True),
    ("First: <think>a</think> b", "First:\n\nb", "First:\n\na\n\nb", True),
    ("<think>Hm, wait", "", "Hm, wait", False),
    ("no thought", "no thought", "no thought", True),
])  # fmt: skip
def test_thinking_is_kept_cut_or_joined(text, cut, join, whole):
    config = teacher().thinking
    assert _with_thought(text, None, config) == (text, whole)
    assert _with_thought(text, None, replace(config, mode="cut")) == (cut, whole)
    assert _with_thought(text, None, replace(config, mode="join")) == (join, whole)


def test_marker_tokens_go_and_an_unfinished_thought_is_an_unfinished_trace(tmp_path):
    path = write(tmp_path / "t.parquet", [{"system": "", "conversations": CHAT}])
    modes = {mode: read(path, "teacher=openthoughts_chat", f"teacher.thinking.mode={mode}")[0] for mode in ("cut", "join")}
    assert {mode: t.generation for mode, t in modes.items()} == {"cut": "It is 1.", "join": "Hm.\n\nIt is 1."}
    assert modes["cut"].lineage[0]["thinking"] == "cut"
    cut_off = write(tmp_path / "c.jsonl", [{**ROWS[0], "generation": "<think>Hm"}])
    assert [read(cut_off, f"teacher.thinking.mode={mode}")[0].finish_reason for mode in ("keep", "cut", "join")] == ["length"] * 3


@given(thought=st.text(alphabet="ab \n"), solution=st.text(alphabet="cd \n"), mode=st.sampled_from(["cut", "join"]))
def test_a_thought_apart_and_one_in_the_text_are_the_same(thought, solution, mode):
    config = ThinkingConfig("<t>", "</t>", [], "keep")
    whole, _ = _with_thought(solution, thought, config)
    assert _with_thought(whole, None, replace(config, mode=mode)) == _with_thought(solution, thought, replace(config, mode=mode))


# ---- problems out of the file


def from_traces(tmp_path: Path, rows: list[dict], *overrides: str, **values):
    heldout = write_lines(tmp_path / "heldout.jsonl", [{"problem": "held  out", "expected_answer": "0"}])
    path = write(tmp_path / "traces.jsonl", rows)
    own = replace(teacher(*overrides), path=str(path))
    return make_problems(TracesProblems("from_traces", str(heldout), **{"num_train": None, "seed": 7, **values}), own)


def asked(n: int, **more) -> dict:
    return {"problem": f"q{n}", "expected_answer": str(n), "generation": "g", **more}


def test_problems_of_the_file_are_distinct_and_those_without_a_sure_answer_are_left_out(tmp_path):
    rows = [asked(1), asked(2), {**asked(1), "problem": " q1\n"}, asked(3, expected_answer=None), {**asked(4), "expected_answer": "5"},
            asked(4), asked(6, problem="held out"), asked(7, expected_answer="\\boxed{1} is what one thinks at first, but here it is \\boxed{7}")]  # fmt: skip
    made = from_traces(tmp_path, rows)
    assert [(p.problem, p.expected_answer) for p in made.train] == [("q1", "1"), ("q2", "2"), ("q7", "7")]
    assert made.left_out == {"without an expected answer": 1, "with two expected answers": 1, "held out": 1}


def test_ids_are_the_files_own_or_follow_from_the_text_alone(tmp_path):
    rows = [asked(1, id="a"), asked(2)]
    (first, second) = from_traces(tmp_path, rows).train
    assert first.problem_id == "a" and second.problem_id.startswith("problem-")
    assert from_traces(tmp_path, [asked(9), *rows[::-1]]).train[1] == second
    with pytest.raises(UserError, match="the id a is that of another problem in line 1") as caught:
        from_traces(tmp_path, [asked(1, id="a"), asked(2, id="a")])
    assert "teacher.match=text" in caught.value.fix
    assert len(from_traces(tmp_path, [asked(1, id="a"), asked(2, id="a")], "teacher.match=text").train) == 2


@given(n=st.integers(1, 12), seed=st.integers(0, 3), order=st.permutations(range(12)))
def test_a_choice_of_problems_hangs_on_the_seed_alone(n, seed, order, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t")
    chosen = [{p.problem_id for p in from_traces(folder, [asked(i) for i in rows], num_train=n, seed=seed).train}
              for rows in (range(12), order)]  # fmt: skip
    assert chosen[0] == chosen[1] and len(chosen[0]) == n


def test_asking_for_more_problems_than_there_are_says_so(tmp_path):
    with pytest.raises(UserError, match=r"1 problems \(1 without an expected answer\), where 2 are asked for"):
        from_traces(tmp_path, [asked(1), asked(2, expected_answer=" ")], num_train=2)


def test_the_papers_human_rows_go_through_the_chain(tiny_model, tmp_path):
    """problems=from_traces with the preset, by the recipes: generate matches what problems made of the same file."""
    rows = [{"problem": f"{n} + 1", "solution": f"{kind}: \\boxed{{{n + 1}}}", "solution_type": kind, "expected_answer": str(n + 1)}
            for n in range(4) for kind in ("human_stage1", "human_stage2")]  # fmt: skip
    heldout = write_lines(tmp_path / "h.jsonl", [{"problem": "3 + 1", "expected_answer": "4"}])
    overrides = [
        f"runs_dir={tmp_path}", "name=human", "teacher=nemotron_human_reasoning", f"teacher.path={write(tmp_path / 't.jsonl', rows)}",
        "teacher.where.solution_type=human_stage2", "problems=from_traces", f"problems.heldout_path={heldout}",
        "model=hf_directory", f"model.path={tiny_model}", "curate.num_traces=2",
    ]  # fmt: skip
    outs = {}
    for stage in ("convert", "problems", "generate"):
        done = recipe_here(stage, *overrides)
        assert done.returncode == 0, done.stderr
        outs[stage] = done.stdout
    assert "3 training and 1 held-out problems; left out: 1 held out" in outs["problems"]
    assert "8 rows: 3 traces of the training problems; left out by solution_type: 4; left out by other problems: 1" in outs["generate"]
    config = (tmp_path / "human/config.yaml")
    assert "human_stage2" in nemo_cot_here("show", *overrides).stdout and (not config.exists() or "human_stage2" in config.read_text())
    other = ["problems=from_traces", f"problems.heldout_path={heldout}"]
    one_error(nemo_cot_here("show", *other), "problems.source=from_traces", "teacher.kind=procedural has none", "choose teacher=file")


def test_a_run_with_teacher_file_of_before_stays_valid():
    """The fingerprint of teacher=file is as it was before its columns could be named."""
    assert fingerprinted(teacher()) == {"kind": "file"}
    assert fingerprinted(teacher("teacher.where.a=1")) == {"kind": "file", "where": {"a": 1}}
    assert isinstance(PROBLEMS[0], Problem)
