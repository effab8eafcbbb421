"""nemo-cot compare: how runs are named, what it writes, and that it is light and quick to refuse."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.cli.test_cli import imported
from tests.evaluation.test_comparison import run as graded
from tests.support import nemo_cot, one_error


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs: one with a base and a trained model, two with a trained one."""
    for name, subject, chance in (("one", "base", 0.2), ("one", "trained", 0.6), ("two", "trained", 0.4)):
        folder = tmp_path / "runs" / name / "evaluate" / "scores"
        folder.mkdir(parents=True, exist_ok=True)
        rows = graded(name, chance, seed=len(subject)).rows
        lines = [{**msgspec.to_builtins(row), "generation": "long", "lineage": []} for row in rows]
        (folder / f"{subject}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "runs"


def test_runs_are_named_below_runs_dir_or_by_path_and_written(runs, tmp_path):
    written = ["--json", tmp_path / "c.json", f"--markdown={tmp_path / 'c.md'}"]
    done = nemo_cot("compare", "one", runs / "two", f"runs_dir={runs}", *written)
    assert done.returncode == 0, done.stderr
    assert "one:trained" in done.stdout and "two:trained" in done.stdout and "40 problems" in done.stdout
    found = json.loads((tmp_path / "c.json").read_text())
    assert [r["run"] for r in found["runs"]] == ["one:trained", "two:trained"]
    assert found["bootstrap_resamples"] == 10_000 and found["confidence"] == 0.95 and found["paper"] == []
    lenient = found["runs"][1]["minus_first"]["lenient"]
    assert lenient["high"] < 0 and f"{100 * lenient['value']:+.1f} [" in (tmp_path / "c.md").read_text()


def test_two_subjects_of_one_run(runs):
    one = nemo_cot("compare", "one:base", "one:trained", f"runs_dir={runs}", "evaluate.confidence=0.9")
    assert one.returncode == 0 and "90 % intervals" in one.stdout and "to one:base" in one.stdout
    other = nemo_cot("compare", "one", "two:trained", "--subject", "base", f"runs_dir={runs}")
    assert other.returncode == 0 and "to one:base" in other.stdout and "two:trained" in other.stdout


def test_runs_of_one_name_are_told_apart_by_their_paths(runs):
    copy = runs.parent / "other" / "one"
    copy.parent.mkdir()
    (runs / "one").rename(copy)
    (runs / "two").rename(runs / "one")
    done = nemo_cot("compare", "one", copy, f"runs_dir={runs}")
    assert (
        done.returncode == 0 and f"{copy}:trained" in done.stdout and f"{runs / 'one'}:trained" in done.stdout
    )


def test_what_cannot_be_compared_is_one_line(runs, tmp_path):
    below = f"runs_dir={runs}"
    one_error(nemo_cot("compare", "one", below), "1 runs given, not 2", "one:base one:trained")
    one_error(nemo_cot("compare", "one", "twoo", below), "twoo", "no such run", "did you mean two?")
    one_error(
        nemo_cot("compare", "one", "two:base", below),
        "no scores of the subject 'base'",
        "choose among trained",
    )
    one_error(nemo_cot("compare", "one", "one:trained", below), "one:trained", "is given twice")
    one_error(
        nemo_cot("compare", "one", "two", "--jsn", "x", below),
        "takes no option --jsn",
        "did you mean --json?",
    )
    one_error(
        nemo_cot("compare", "one", "two", "run_dir=x", below),
        "takes no key run_dir=",
        "did you mean runs_dir=?",
    )
    one_error(nemo_cot("compare", "one", "two", "train.optim.lr=1", below), "takes no key train.optim.lr=")
    one_error(
        nemo_cot("compare", "one", "two", "--json", tmp_path / "no" / "c.json", below),
        "directory does not exist",
    )
    (runs / "three").mkdir()
    one_error(nemo_cot("compare", "one", "three", below), "this run has no scores", "evaluate")
    path = runs / "two" / "evaluate" / "scores" / "trained.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[4:]))
    one_error(nemo_cot("compare", "one", "two", below), "the problems differ", "1 only in one:trained (p0)")


def test_help_names_it():
    assert "\n  compare " in nemo_cot("--help").stdout


def test_it_imports_nothing_heavy(runs):
    modules = imported("compare", "one", "two", f"runs_dir={runs}")
    assert "numpy" in modules and not modules & {"torch", "transformers", "sympy", "jinja2", "math_verify"}
