"""Problem sources of other domains: what they make, what they refuse, and their way through a chain."""

import csv
import functools
import json
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from nemo_cot.config import ChoiceProblems, FileProblems, GymProblems
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.grading import GRADER_VERSION
from nemo_cot.grading.scorers import load_scorer
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.problems import make_problems
from nemo_cot.records import Problem, Trace
from tests.support import nemo_cot_here, one_error, run_stages, tiny_experiment, write_lines

GPQA = ["Record ID", "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3",
        "High-level domain", "Canary String"]  # fmt: skip


def gpqa(path, number=40, **changed):
    """A table with GPQA's columns: texts of several lines, commas and quotes among them."""
    with open(path, "w", newline="") as handle:
        rows = csv.DictWriter(handle, GPQA)
        rows.writeheader()
        for n in range(number):
            row = dict(zip(GPQA, (f"rec{n}", f'Which, of\n"these" {{options}} {n}?', f"right {n}\n", f"wrong {n}, a", f"wrong {n} b",
                                  f"wrong {n} c", "Physics" if n % 2 else "Biology", "x")))  # fmt: skip
            rows.writerow(row | changed)
    return str(path)


@functools.cache
def in_conf(kind: str) -> ChoiceProblems:
    """As conf has it."""
    return load_config([f"problems={kind}", "problems.heldout_path=x"]).problems


def choices(path, kind="multiple_choice") -> ChoiceProblems:
    return replace(in_conf(kind), heldout_path=str(path))


def test_gpqas_file_gives_shuffled_options_with_their_letter(tmp_path):
    made = make_problems(choices(gpqa(tmp_path / "gpqa.csv")))
    assert len(made.heldout) == 40 and made.train == []
    for n, problem in enumerate(made.heldout):
        options = problem.scorer_data["options"]
        assert options[problem.expected_answer] == f"right {n}" and [*options] == ["A", "B", "C", "D"]
        assert (problem.problem_id, problem.scorer) == (f"rec{n}", "choice")
        assert problem.subset_for_metrics == ("Physics" if n % 2 else "Biology")
        lines = problem.problem.splitlines()
        assert problem.problem.startswith(f'Which, of\n"these" {{options}} {n}?'), "the question's own braces stay"
        assert f"{problem.expected_answer}) right {n}" in lines
        assert [line[0] for line in lines if line[1:2] == ")"] == ["A", "B", "C", "D"]
        load_scorer("choice", problem.scorer_data, where="").check(problem.expected_answer)
    letters = Counter(problem.expected_answer for problem in made.heldout)
    assert {*letters} == {*"ABCD"} and max(letters.values()) < 20


def test_the_order_hangs_on_seed_and_id_alone(tmp_path):
    config = choices(gpqa(tmp_path / "gpqa.csv"))
    all_ = {p.problem_id: p for p in make_problems(config).heldout}
    fewer = make_problems(replace(config, heldout_path=gpqa(tmp_path / "other_name.csv", 3))).heldout
    assert [all_[p.problem_id] for p in fewer] == fewer
    again = {p.problem_id: p.expected_answer for p in make_problems(replace(config, seed=8)).heldout}
    assert again != {name: p.expected_answer for name, p in all_.items()}
    fixed = make_problems(replace(config, shuffle=False)).heldout
    assert {p.expected_answer for p in fixed} == {"A"} and fixed[0].scorer_data["options"]["B"] == "wrong 0, a"


MMLU = [
    ({"choices": ["x", "y", "z"], "answer": 1}, "y"),
    ({"choices": ["x", "y", "z"], "answer": "C"}, "z"),
    ({"choices": ["x", "y", "z"], "answer": "2"}, "z"),
    ({"choices": ["x", "y", "z"], "answer": "x"}, "x"),
    ({"choices": ["x", "y"], "answer": 0}, "x"),
    ({"choices": {"A": "x", "B": "y"}, "answer": "B"}, "y"),
    ({"choices": {"1": "x", "2": "y"}, "answer": "1"}, "x"),
    ({"choices": {"text": ["x", "y"], "label": ["P", "Q"]}, "answer": "Q"}, "y"),
    ({"choices": '["x", "y"]', "answer": "A"}, "x"),
    ({"choices": [1, 2.5], "answer": 1}, "2.5"),
    ({"choices": list("abcdefghij"), "answer": "J"}, "j"),
]


@pytest.mark.parametrize(("row", "right"), MMLU, ids=[str(m[0]["answer"]) for m in MMLU])
def test_choices_in_one_column_with_their_answer(tmp_path, row, right):
    path = write_lines(tmp_path / "m.jsonl", [{"question": "q?", "subject": "law", **row}])
    (problem,) = make_problems(choices(path, "mmlu")).heldout
    assert problem.scorer_data["options"][problem.expected_answer] == right
    assert (problem.problem_id, problem.subset_for_metrics) == ("m-1", "law")


def test_choices_in_columns_of_their_own(tmp_path):
    path = write_lines(tmp_path / "m.jsonl", [{"question": "q?", "a": "x", "b": "y", "answer": "y"}])
    config = choices(path, "mmlu")
    config = replace(config, columns=replace(config.columns, choices=["a", "b"]))
    (problem,) = make_problems(config).heldout
    assert problem.scorer_data["options"][problem.expected_answer] == "y"


@pytest.mark.parametrize(
    ("row", "what", "fix"),
    [
        ({"choices": ["x", "y"], "answer": 2}, "2 names none of the 2 options", "give the letter"),
        ({"choices": ["x", "y"], "answer": -1}, "names none", "give the letter"),
        ({"choices": ["x", "y"], "answer": True}, "names none", "give the letter"),
        ({"choices": ["B", "y"], "answer": "B"}, "names more than one", "give the letter"),
        ({"choices": ["x"], "answer": 0}, "1 options", "2 to 26"),
        ({"choices": "x, y", "answer": 0}, "neither a list nor a dict", "give a list"),
        ({"choices": [["x"], "y"], "answer": 0}, "neither a list nor a dict", "give a list"),
        ({"options": ["x", "y"], "answer": 0}, "choices is missing; the row has question, options, answer", "problems.columns"),
        ({"Question": "q", "Correct Answer": "x"}, "choices is missing", "problems=multiple_choice has these columns"),
        ({"test": "assert f() == 1", "entry_point": "f"}, "checked by running code (test)", "leave such problems out"),
    ],
)
def test_rows_that_are_not_understood_are_named(tmp_path, row, what, fix):
    path = write_lines(tmp_path / "m.jsonl", [{"question": "q?", "choices": ["a", "b"], "answer": 0}, {"question": "q?", **row}])
    with pytest.raises(UserError) as caught:
        make_problems(choices(path, "mmlu"))
    assert what in caught.value.what and fix in caught.value.fix
    assert caught.value.where.startswith(f"{path}, line 2")


def test_a_right_option_that_is_a_wrong_one_too_is_left_out(tmp_path):
    rows = [{"question": f"q{n}", "choices": ["x", "$x$" if n else "y", "z"], "answer": 0} for n in range(3)]
    made = make_problems(choices(write_lines(tmp_path / "m.jsonl", rows), "mmlu"))
    assert len(made.heldout) == 1 and made.left_out == {"with the right option among the others": 2}


# ---- files, with a scorer


def of_file(tmp_path, *rows, scorer=None):
    path = str(write_lines(tmp_path / "t.jsonl", [{"problem": f"p{n}", **row} for n, row in enumerate(rows)]))
    return make_problems(FileProblems("file", None, path, scorer)).heldout


def test_a_file_of_free_text_takes_several_right_answers(tmp_path):
    data = {"accepted": ["c"]}
    rows = [{"expected_answer": "a"}, {"expected_answer": ["a", "b"]}, {"expected_answer": ["a", "b"], "scorer_data": data}]
    made = of_file(tmp_path, *rows, scorer="text")
    assert [(p.expected_answer, p.scorer, p.scorer_data) for p in made] == [
        ("a", "text", None), ("a", "text", {"accepted": ["b"]}), ("a", "text", {"accepted": ["c", "b"]}),
    ]  # fmt: skip


def test_mathematics_gains_no_keys(tmp_path):
    (plain,) = of_file(tmp_path, {"expected_answer": "1"})
    (named,) = of_file(tmp_path, {"expected_answer": "1", "scorer": "math"})
    assert msgspec.json.encode(plain) == msgspec.json.encode(named)
    trace = Trace.of(plain, sample=0, generation="", num_generated_tokens=0, finish_reason="stop")
    assert b"scorer" not in msgspec.json.encode(plain) + msgspec.json.encode(trace)


def test_each_row_may_have_its_own_scorer(tmp_path):
    data = {"options": {"A": "x", "B": "y"}}
    rows = [{"expected_answer": "1"}, {"expected_answer": "B", "scorer": "choice", "scorer_data": data}]
    assert [p.scorer for p in of_file(tmp_path, *rows, scorer="per_row")] == [None, "choice"]
    with pytest.raises(UserError, match="scorer is 'choice', that of all rows math") as caught:
        of_file(tmp_path, *rows)
    assert caught.value.fix.startswith("set problems.scorer=per_row") and "line 2, field scorer" in caught.value.where


@pytest.mark.parametrize(
    ("row", "scorer", "what"),
    [
        ({"expected_answer": "C", "scorer_data": {"options": {"A": "x", "B": "y"}}}, "choice", "none of the letters A, B"),
        ({"expected_answer": "A"}, "choice", "missing required field `options`"),
        ({"expected_answer": "A", "scorer_data": {"option": {}}}, "choice", "unknown key"),
        ({"expected_answer": "A", "scorer_data": 3}, "text", "not a group of keys"),
        ({"expected_answer": ["A", " "]}, "text", "an accepted answer is empty"),
        ({"expected_answer": ["A", 3]}, "text", "got `int`"),
        ({"expected_answer": []}, "text", "expected_answer is missing"),
        ({"expected_answer": ["A"]}, None, "expected_answer is missing, empty or not text"),
        ({"expected_answer": "A", "scorer": "exec"}, "per_row", "there is no scorer"),
        ({"expected_answer": "A", "scorer": 3}, "per_row", "there is no scorer"),
    ],
)
def test_a_row_that_its_scorer_cannot_use_is_named(tmp_path, row, scorer, what):
    with pytest.raises(UserError, match=what) as caught:
        of_file(tmp_path, row, scorer=scorer)
    assert f"{tmp_path / 't.jsonl'}, line 1" in caught.value.where


@pytest.mark.parametrize(
    "row",
    [
        {"task_id": "HumanEval/0", "prompt": "def f():", "test": "assert f()", "entry_point": "f", "canonical_solution": "x"},
        {"text": "Write f", "code": "x", "test_list": ["assert f()"]},
        {"question": "?", "input_output": "{}", "starter_code": ""},
        {"question_content": "?", "public_test_cases": "[]"},
        {"problem": "Write f", "unit_tests": ["x"]},
    ],
)
def test_problems_of_programming_are_refused_in_one_line(tmp_path, row):
    path = write_lines(tmp_path / "code.jsonl", [row])
    done = nemo_cot_here("run", "problems=file", f"problems.train_path={path}", f"problems.heldout_path={path}",
                         f"runs_dir={tmp_path}", "launcher.stages=[problems]")  # fmt: skip
    line = one_error(done, "nothing is executed here", f"{path}, line 1")
    assert "checked by running code" in line and "give an expected_answer" in line


def test_code_with_an_expected_answer_is_text_like_any_other(tmp_path):
    assert of_file(tmp_path, {"expected_answer": "3", "test": "x"})[0].expected_answer == "3"


# ---- reasoning-gym


def gym(*overrides) -> GymProblems:
    return load_config(["problems=reasoning_gym", "teacher=model", "problems.num_train=5", "problems.num_heldout=4", *overrides]).problems


def test_tasks_have_their_shares_and_their_own_scorer():
    made = make_problems(gym("problems.tasks={gcd: 3, lcm: {share: 1, options: {max_numbers: 2}}}"))
    assert Counter(p.subset_for_metrics for p in made.train) == {"gcd": 4, "lcm": 1}
    assert Counter(p.subset_for_metrics for p in made.heldout) == {"gcd": 3, "lcm": 1}
    assert made.heldout[-1].scorer_data["config"] == {"max_numbers": 2} and made.heldout[-1].problem_id == "lcm-1"
    for problem in [*made.train, *made.heldout]:
        scorer = load_scorer(problem.scorer, problem.scorer_data, where="")
        assert scorer.verdict(problem.expected_answer, problem.expected_answer).outcome == "right"
        assert scorer.verdict(problem.expected_answer, f"{int(problem.expected_answer) + 1}").outcome == "wrong"


def test_the_same_seed_gives_the_same_problems():
    assert make_problems(gym("problems.task=gcd")) == make_problems(gym("problems.task=gcd"))
    assert make_problems(gym("problems.task=gcd")) != make_problems(gym("problems.task=gcd", "problems.seed=8"))


def test_chain_sum_asks_the_same_sums_by_either_name():
    options = "{min_terms: 3, max_terms: 3, min_digits: 1, max_digits: 1}"
    ours = make_problems(load_config(["problems.num_train=5", "problems.num_heldout=4"]).problems)
    theirs = make_problems(gym("problems.task=chain_sum", f"problems.options={options}"))
    plain = [
        replace_struct(p, scorer=None, scorer_data=None, subset_for_metrics=None) for p in (*theirs.train, *theirs.heldout)
    ]
    assert plain == [*ours.train, *ours.heldout]


replace_struct = msgspec.structs.replace


@pytest.mark.parametrize(
    ("overrides", "where", "what"),
    [
        ([], "problems.task", "one task, or several, must be named"),
        (["problems.task=gcd", "problems.tasks={lcm: 1}"], "problems.task", "one task, or several"),
        (["problems.tasks={lcm: 0}"], "problems.tasks.lcm", "no share"),
        (["problems.tasks={lcm: x}"], "problems.tasks.lcm", "no share"),
        (["problems.tasks={lcm: {shares: 1}}"], "problems.tasks.lcm", "no share"),
        (["problems.tasks={lcm: 1}", "problems.options.x=1"], "problems.options", "there are several"),
        (["problems.task=gcd", "problems.num_heldout=0"], "problems.num_heldout", "below"),
    ],
)
def test_a_config_without_sense_is_refused(overrides, where, what):
    with pytest.raises(UserError, match=what) as caught:
        gym(*overrides)
    assert caught.value.where == where


def test_too_few_different_problems_are_named():
    with pytest.raises(UserError, match="different problems of 900 with an answer") as caught:
        make_problems(gym("problems.task=gcd", "problems.options={min_value: 1, max_value: 3}", "problems.num_train=896"))
    assert caught.value.where == "problems.task"


def test_the_plan_says_what_cannot_work(tmp_path, tiny_model):
    base = ["plan", f"runs_dir={tmp_path}", "model=hf_directory", f"model.path={tiny_model}", "problems=reasoning_gym"]
    done = nemo_cot_here(*base, "problems.task=gcd")
    assert done.returncode == 2 and "the procedural teacher adds numbers" in done.stdout + done.stderr
    done = nemo_cot_here(*base, "teacher=model", "problems.task=chain_sum", "problems.options.min_term=1")
    assert done.returncode == 2 and "did you mean min_terms" in " ".join((done.stdout + done.stderr).split())
    path = gpqa(tmp_path / "gpqa.csv", 4)
    done = nemo_cot_here(*base[:-1], "problems=multiple_choice", f"problems.heldout_path={path}", "teacher=model")
    assert done.returncode == 2 and "no training problems" in done.stdout + done.stderr


# ---- stages


def versions(*overrides):
    """What the stages that grade have in their fingerprint."""
    stages = whole_graph(load_config(overrides)).stages
    assert stages["grade"].config["grader_version"] == stages["evaluate/scores"].config["grader_version"]
    return stages["grade"].config["grader_version"], stages["problems"].config["problems"].get("scorer")


def test_the_fingerprint_names_the_scorers_that_there_are(tmp_path):
    """Of mathematics nothing changes: finished stages stay as they are."""
    path = write_lines(tmp_path / "p.jsonl", [{"problem": "p", "expected_answer": "1"}])
    files = [f"problems.train_path={path}", f"problems.heldout_path={path}", "teacher=model"]
    assert versions("problems=file", *files) == (GRADER_VERSION, None)
    assert versions("problems=file", *files, "problems.scorer=text") == ("nemo-cot text 1", "text")
    per_row, _ = versions("problems=file", *files, "problems.scorer=per_row")
    assert per_row == f"{GRADER_VERSION}; nemo-cot choice 1; nemo-cot reasoning_gym 1; nemo-cot text 1"
    assert versions("problems=multiple_choice", *files)[0] == "nemo-cot choice 1"
    found, _ = versions("problems=reasoning_gym", "problems.task=gcd", "teacher=model")
    assert found == "nemo-cot reasoning_gym 1"


@pytest.mark.parametrize("kind", ["choice", "text", "reasoning_gym"])
def test_a_chain_scores_by_the_problems_own_scorer(tmp_path, tiny_model, kind):
    """From problems over a file of traces to graded and chosen ones; the model's own answers at the end."""
    overrides = [o for o in tiny_experiment(tiny_model, tmp_path / "runs") if not o.startswith("problems.")]
    if kind == "choice":
        source = ["problems=multiple_choice", f"problems.train_path={gpqa(tmp_path / 't.csv', 6)}",
                  f"problems.heldout_path={gpqa(tmp_path / 'h.csv', 2, **{'Question': 'Another?'})}"]  # fmt: skip
        source[2] = f"problems.heldout_path={only(tmp_path / 'h.csv')}"
    elif kind == "text":
        for name, count in (("t", 6), ("h", 2)):
            rows = [{"problem": f"{name}{n}?", "expected_answer": [f"city {n}", f"town {n}"]} for n in range(count)]
            write_lines(tmp_path / f"{name}.jsonl", rows)
        source = ["problems=file", f"problems.train_path={tmp_path / 't.jsonl'}", f"problems.heldout_path={tmp_path / 'h.jsonl'}",
                  "problems.scorer=text"]  # fmt: skip
    else:
        source = ["problems=reasoning_gym", "problems.task=spell_backward", "problems.num_train=6", "problems.num_heldout=2"]
    problems = run_stages([*overrides, *source, "teacher=file", "teacher.path=x"], "problems").path / "problems/train.jsonl"
    made = [msgspec.json.decode(line, type=Problem) for line in problems.read_bytes().splitlines()]
    wrong = {"choice": "F", "text": "nowhere", "reasoning_gym": "zzz"}[kind]
    thought = "Let me think about this for some time, and then once more. " * 3
    traces = [
        {"problem_id": p.problem_id, "problem": p.problem, "generation": f"{thought}\nThe answer is \\boxed{{{answer}}}"}
        for p in made
        for answer in (p.expected_answer, wrong)
    ]
    path = write_lines(tmp_path / "traces.jsonl", traces)
    overrides += [*source, "teacher=file", f"teacher.path={path}", "evaluate.subjects=[base]", "pack.capacity_tokens=2000"]
    stages = ("convert", "problems", "generate", "grade", "curate", "pack", "evaluate")
    run = run_stages(overrides, *stages).path
    graded = [msgspec.json.decode(line, type=Trace) for line in (run / "grade/graded.jsonl").read_bytes().splitlines()]
    assert [row.verdict for row in graded] == ["right", "wrong"] * 6
    assert {row.scorer for row in graded} == {kind}
    assert all(row.symbolic_correct is None and row.nemo_skills_answer is None for row in graded)
    assert {row.scorer_data == p.scorer_data for p, row in zip(made, graded[::2])} == {True}
    assert len((run / "curate/traces.jsonl").read_text().splitlines()) == 4
    scored = [json.loads(line) for line in (run / "evaluate/scores/base.jsonl").read_text().splitlines()]
    assert len(scored) == 4 and all(row["grader_version"].startswith(f"nemo-cot {kind} 1") for row in scored)
    # the problems of a run are a file of problems
    again = ["problems=file", f"problems.train_path={problems}", f"problems.heldout_path={run / 'problems/heldout.jsonl'}"]
    read = make_problems(load_config([*again, "problems.scorer=per_row"]).problems)
    assert [*map(msgspec.json.encode, read.train)] == problems.read_bytes().splitlines()


def only(path):
    """Two other questions."""
    with open(path, newline="") as handle:
        rows = [*csv.DictReader(handle)]
    for n, row in enumerate(rows):
        row["Question"], row["Record ID"] = f"Another question {n}?", f"held{n}"
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, GPQA)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_verb_grade_takes_rows_with_a_scorer(tmp_path):
    row = {"generation": "Answer: B", "expected_answer": "B", "scorer": "choice", "scorer_data": {"options": {"A": "x", "B": "y"}}}
    write_jsonl(tmp_path / "in.jsonl", [row, row | {"generation": "Answer: C"}, row | {"generation": "A and B"}])
    done = nemo_cot_here("grade", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "grade.workers=1")
    assert done.returncode == 0 and "3 rows: right 1, undecided 1, wrong 1" in done.stdout
