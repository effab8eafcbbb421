"""Grading of files: keys passed through, errors with their place, regrading."""

import json

import pytest

from nemo_cot.config import GradeConfig
from nemo_cot.errors import UserError
from nemo_cot.grading.files import grade_file
from nemo_cot.grading.stage import grade_generations
from nemo_cot.launchers.grade_file import _print_summary

OPTIONS = {"fallback": "none", "workers": 1, "deadline_seconds": 2.0, "cache": None, "nemo_skills": False}


def write(path, rows):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_gain_verdicts_and_keep_everything_else(tmp_path):
    rows = [
        {
            "id": 7,
            "generation": r"so \boxed{016}",
            "expected_answer": 16,
            "other": {"a": [1, None]},
            "ä": "ü",
        },
        {"id": 8, "generation": "no idea", "expected_answer": "5", "symbolic_correct": True},
    ]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    summary = grade_file(source, target, **OPTIONS)
    first, second = lines(target)
    assert {k: first[k] for k in rows[0]} == rows[0]
    assert (first["predicted_answer"], first["verdict"], first["answer_source"]) == ("016", "right", "boxed")
    assert (second["predicted_answer"], second["verdict"]) == (None, "wrong")
    assert second["symbolic_correct"] is True, "their verdict is not ours to change"
    assert summary.rows == 2 and summary.outcomes == {"right": 1, "wrong": 1}


def test_nemo_skills_verdict_stands_beside_ours(tmp_path):
    rows = [
        {"generation": r"\boxed{016}", "expected_answer": "16"},
        {"generation": r"\boxed{5} and \boxed{6", "expected_answer": "5"},
        {"generation": r"\boxed{0.5}", "expected_answer": r"\frac12"},
    ]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    summary = grade_file(source, target, **{**OPTIONS, "nemo_skills": True})
    graded = lines(target)
    assert [r["verdict"] for r in graded] == ["right", "right", "right"]
    assert [r["symbolic_correct"] for r in graded] == [False, False, True]
    assert [r["nemo_skills_answer"] for r in graded] == ["016", None, "0.5"]
    assert summary.differing == {("wrong", "right"): 2}
    assert [e.line for e in summary.differing_examples] == [1, 2]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"generation": None, "expected_answer": "5"}, "generation"),
        ({"generation": "x"}, "expected_answer"),
        ({"generation": "x", "expected_answer": True}, "expected_answer"),
        ({"generation": ["x"], "expected_answer": "5"}, "generation"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path, row, field):
    source = write(tmp_path / "in.jsonl", [{"generation": "x", "expected_answer": "1"}, "", row])
    with pytest.raises(UserError) as error:
        grade_file(source, tmp_path / "out.jsonl", **OPTIONS)
    assert error.value.where == f"{source}, line 3, field {field}"
    assert not (tmp_path / "out.jsonl").exists()


def test_grading_again_shows_which_verdicts_moved(tmp_path):
    rows = [
        {
            "problem_id": "a",
            "generation": r"\boxed{5}",
            "expected_answer": "5",
            "verdict": "wrong",
            "grader_version": "old",
        },
        {
            "problem_id": "b",
            "generation": r"\boxed{6}",
            "expected_answer": "5",
            "verdict": "wrong",
            "grader_version": "old",
        },
    ]
    path = write(tmp_path / "in.jsonl", rows)
    summary = grade_file(path, path, **OPTIONS)
    assert summary.moved == {("wrong", "right"): 1}
    assert (summary.moved_examples[0].problem_id, summary.moved_examples[0].line) == ("a", 1)
    assert summary.previous_versions == {"old": 2}
    assert grade_file(path, path, **OPTIONS).moved == {}


def test_answers_that_the_machine_left_undecided_are_reported(tmp_path, capsys):
    """They stay so in the finished stage: a larger deadline grades them again."""
    texts = (r"\boxed{5}", r"\boxed{\prod_{k=1}^{10^9} (k^2+1)}", r"\boxed{\prod_{k=1}^{10^9} (k^2+2)}")
    source = write(tmp_path / "in.jsonl", [{"generation": text, "expected_answer": "5"} for text in texts])
    config = GradeConfig("none", "last_resort", 0.5, 1)
    grade_generations(source, tmp_path / "out.jsonl", config, None, label="grade")
    assert "grade: undecided for lack of time or memory here, not by the answer: deadline 2" in capsys.readouterr().out
    summary = grade_file(source, tmp_path / "out.jsonl", **OPTIONS)
    _print_summary(summary)
    assert "undecided: deadline 2\n" in capsys.readouterr().out
