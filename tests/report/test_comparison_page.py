"""Reports of several runs: the comparison page, and the page of a study."""

import json

import msgspec
import pytest

from nemo_cot.evaluation.comparison import compare
from nemo_cot.evaluation.graded_runs import read_graded_run
from nemo_cot.evaluation.scores import score
from nemo_cot.evaluation.study_table import Repeat, study_table
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.report.compared import Variant, write_comparison
from nemo_cot.report.study_page import write_study_page
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import write_manifest
from tests.report.made import HOSTILE, evaluation, trace
from tests.report.test_report import manifest, shell
from tests.support import nemo_cot_here, one_error


def made_run(folder, name: str, right: int, text: str = "so \\boxed{1}") -> RunDirectory:
    """20 problems x 2 samples, all right on the first ``right`` problems."""
    run = RunDirectory(folder / name).create()
    scores = run.stage("evaluate/scores")
    scores.mkdir(parents=True)
    rows = [
        trace(f"p{number}", sample, "right" if number < right else "wrong", text=text)
        for number in range(20)
        for sample in range(2)
    ]
    write_jsonl(scores / "trained.jsonl", rows)
    write_bytes(scores / "metrics.json", msgspec.json.encode(score({"trained": rows}, evaluation())))
    run.stage("evaluate/trained").mkdir()
    write_manifest(
        run.stage("evaluate/trained"), manifest("evaluate/trained", {}, {"generations.jsonl": "sha"})
    )
    return run


@pytest.fixture
def runs(tmp_path):
    return [
        made_run(tmp_path, "first", 4),
        made_run(tmp_path, "better", 14),
        made_run(tmp_path, "same", 4, HOSTILE),
    ]


def variants(runs):
    return [
        Variant(run, "trained", read_graded_run(run, "trained", f"{run.path.name}:trained")) for run in runs
    ]


def test_a_comparison_names_the_better_run_and_what_it_cannot_see(runs, tmp_path):
    found = variants(runs)
    results = write_comparison(
        compare([v.graded for v in found], resamples=500), found, tmp_path / "out", title="three"
    )
    html, written = (
        (tmp_path / "out/report.html").read_text(),
        json.loads((tmp_path / "out/results.json").read_text()),
    )
    assert results.headline.verdict == "helped"
    assert "better:trained is better than first:trained" in results.headline.sentence
    assert "flattered" in results.headline.detail, "the best of several"
    assert written["pair"] == ["first:trained", "better:trained"] and len(written["problems"]) == 20
    assert [row["problem_id"] for row in written["problems"][:10]] == sorted(f"p{n}" for n in range(4, 14))
    page = shell(html)
    assert "<script" not in page and "<img" not in page and "Only 20 problems" in page
    for part in ("Variants", "Problem by problem", "Lengths", "Provenance", "70.0 %", "+50.0"):
        assert part in page
    assert "70.0 %" in (tmp_path / "out/report.md").read_text()
    same = [found[0], found[2]]
    equal = write_comparison(
        compare([v.graded for v in same], resamples=500), same, tmp_path / "equal", title="two"
    )
    assert equal.headline.verdict == "unclear" and equal.sensitivity == 0


def test_a_study_is_one_page_with_every_variant(runs, tmp_path):
    def repeat(run):
        label = f"{run.path.name}:trained"
        return Repeat(
            run.path.name, run.path.name, {"training": 1}, lambda: read_graded_run(run, "trained", label)
        )

    names = [run.path.name for run in runs]
    table = study_table(
        [repeat(run) for run in runs], study="s", title=HOSTILE, baseline="first", subjects=dict.fromkeys(names, "trained"),
        measures=["lenient", "pass_at_k"], missing={}, resamples=500, confidence=0.95, seed=0,
    )  # fmt: skip
    write_study_page(table, tmp_path, tmp_path / "study.html")
    page = shell((tmp_path / "study.html").read_text())
    assert "<script" not in page and "<img" not in page
    assert "Of 2 variants 1 (better) is better than first." in page
    assert page.count('<tr><th scope="row">') >= 3 and "Differences to first" in page
    assert "#traces/better%3Atrained/p4/0/first%3Atrained/p4/0" in page


def test_the_verb_takes_one_run_or_several(runs, tmp_path):
    place = f"runs_dir={tmp_path}"
    done = nemo_cot_here("report", "first", "better", place)
    assert (
        done.returncode == 0 and (tmp_path / "reports/first-trained+better-trained/report.html").exists()
    ), done.stderr
    done = nemo_cot_here("report", "first", "better", place, "--output", tmp_path / "mine")
    assert done.returncode == 0 and (tmp_path / "mine/results.json").exists()
    done = nemo_cot_here("report", tmp_path / "first", place)
    assert done.returncode == 0 and (tmp_path / "first/report/report.html").exists(), done.stderr
    one_error(nemo_cot_here("report", "frist", place), "no such run", "did you mean")
    one_error(nemo_cot_here("report", "first:trained", place), "not 2 or more")
    one_error(nemo_cot_here("report", "first", "--outptu=x", place), "takes no option", "did you mean --output?")
    one_error(nemo_cot_here("report", "first", "--output", "x", place), "lies in its folder")
