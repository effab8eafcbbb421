"""evaluate.sets: further held-out sets of a run, each sampled, scored, compared and reported by itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_cot.config.engines import EvaluatedModel
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import compose_config, load_config, to_yaml
from nemo_cot.experiment.existing import stored_config
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.recipe import ONLY
from nemo_cot.experiment.reproduce import overrides_of
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.launchers.slurm.jobs import chain_jobs
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from nemo_cot.stages.manifest import flatten
from tests.support import nemo_cot_here, one_error, recipe_here, rows, run_stages, tiny_experiment

BEFORE = ("convert", "problems", "generate", "grade", "curate", "pack", "train")
CHAIN = (*BEFORE, "evaluate", "report")
PROBLEMS = "evaluate.sets.four.problems"
FOUR = [
    f"{PROBLEMS}=chain_sum", f"{PROBLEMS}.terms=4", f"{PROBLEMS}.num_heldout=2", f"{PROBLEMS}.num_train=3",
    "evaluate.sets.four.samples_per_problem=3", "evaluate.sets.four.max_new_tokens=9",
]  # fmt: skip

QUESTIONS = """Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3
What is 2 + 2?,four,five,six,seven
What is 2 + 3?,five,four,six,
"""


def quiz(folder: Path) -> list[str]:
    """Two questions with four and with three options."""
    (folder / "quiz.csv").write_text(QUESTIONS)
    return [
        "evaluate.sets.quiz.problems=multiple_choice",
        f"evaluate.sets.quiz.problems.heldout_path={folder / 'quiz.csv'}",
    ]


def test_what_a_set_leaves_out_is_counted(tmp_path, tiny_model):
    overrides = [*tiny_experiment(tiny_model, tmp_path), *quiz(tmp_path)]
    with (tmp_path / "quiz.csv").open("a") as table:
        table.write("What is 2 + 4?,six,six,seven,eight\n")
    done = recipe_here("problems", *overrides)
    assert done.returncode == 0, done.stderr
    assert "2 problems of quiz; left out: 1 with the right option among the others" in done.stdout


def of_file(path: Path, *texts: str) -> list[str]:
    """A set out of a file of such problems."""
    path.write_text("".join(json.dumps({"problem": text, "expected_answer": "1"}) + "\n" for text in texts))
    return [f"{PROBLEMS}=file", f"{PROBLEMS}.heldout_path={path}"]


def made(run) -> dict[str, int]:
    """When each stage but the report was made."""
    files = (p for p in run.path.rglob("manifest.json") if "report" not in p.parts)
    return {str(p.parent.relative_to(run.path)): p.stat().st_mtime_ns for p in files}


# ---- a real run


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run that was finished without a further set, and got one later; its overrides, and the stages before."""
    folder = tmp_path_factory.mktemp("sets")
    overrides = tiny_experiment(tiny_model, folder / "runs")
    run = run_stages(overrides, *CHAIN)
    before = made(run)
    sets = [*FOUR, *quiz(folder)]
    run_stages([*overrides, *sets], *CHAIN)
    (run.path / "config.yaml").write_text(to_yaml(compose_config([*overrides, *sets])))
    return run, overrides, before


def test_adding_a_set_to_a_finished_run_draws_that_set_alone(finished):
    run, _, before = finished
    after = made(run)
    assert after.items() >= before.items()
    parts = ("problems.sets/{}", "evaluate/{}/base", "evaluate/{}/trained", "evaluate/{}/scores")
    assert after.keys() - before == {part.format(name) for part in parts for name in ("four", "quiz")}


def test_each_set_is_sampled_and_scored_on_its_own_problems(finished):
    run, *_ = finished
    for folder, at, count, samples, limit in (
        ("problems", "evaluate", 3, 2, 12),
        ("problems.sets/four", "evaluate/four", 2, 3, 9),
    ):
        texts = {p["problem"] for p in rows(run.path / folder / "heldout.jsonl")}
        assert len(texts) == count
        for subject in ("base", "trained"):
            drawn = rows(run.path / at / subject / "generations.jsonl")
            assert {r["problem"] for r in drawn} == texts and len(drawn) == count * samples
            assert max(r["num_generated_tokens"] for r in drawn) <= limit
            graded = rows(run.path / at / "scores" / f"{subject}.jsonl")
            assert [r["generation"] for r in graded] == [r["generation"] for r in drawn]
        scores = json.loads((run.path / at / "scores/metrics.json").read_text())
        assert scores["samples_per_problem"] == samples
        assert [f["problems"] for f in scores["subjects"].values()] == [count, count]
    four = {p["problem"] for p in rows(run.path / "problems.sets/four/heldout.jsonl")}
    assert all(len(re.findall(r"\d+", text)) == 4 for text in four)


def test_a_set_of_another_kind_has_its_own_scorer_and_chance_level(finished):
    run, *_ = finished
    graded = rows(run.path / "evaluate/quiz/scores/trained.jsonl")
    assert {r["scorer"] for r in graded} == {"choice"} and {r["expected_answer"] for r in graded} <= set(
        "ABCD"
    )
    for at, expected in (("evaluate/quiz", (1 / 4 + 1 / 3) / 2), ("evaluate/four", None), ("evaluate", None)):
        subjects = json.loads((run.path / at / "scores/metrics.json").read_text())["subjects"]
        assert (
            [f.get("chance") for f in subjects.values()] == [pytest.approx(expected)] * 2
            if expected
            else [None] * 2
        )
    text = (run.path / "report/report.md").read_text()
    assert "pass@1 of guessing" in text.partition("## On quiz")[2] and "| quiz \\(2 x 2\\) |" in text
    versions = [
        json.loads((run.path / at / "scores/manifest.json").read_text())["config"]["grader_version"]
        for at in ("evaluate", "evaluate/quiz")
    ]
    assert "choice" not in versions[0] and "choice" in versions[1]


def test_the_report_has_every_set_under_its_name_and_the_headline_of_its_own(finished):
    run, *_ = finished
    results = json.loads((run.path / "report/results.json").read_text())
    own, four = (
        json.loads((run.path / at / "scores/metrics.json").read_text())
        for at in ("evaluate", "evaluate/four")
    )
    assert results["scores"] == own and results["sets"]["four"]["scores"] == four
    assert {p["problem_id"] for p in results["problems"]} == {
        r["problem_id"] for r in rows(run.path / "problems/heldout.jsonl")
    }
    assert len(results["sets"]["four"]["problems"]) == 2
    assert results["pair"] == results["sets"]["four"]["pair"]
    assert [m["stage"] for m in results["provenance"]["stages"]].count("problems/four") == 1
    assert not results["provenance"]["missing"] and not results.get("stale")
    page, text = ((run.path / f"report/report.{kind}").read_text() for kind in ("html", "md"))
    assert (
        'data-path="sets.four.scores.subjects.trained.lenient"' in page and "#traces/four%2Ftrained/" in page
    )
    assert (
        "## On four" in text
        and "Samples of the trained model on four" in text
        and "four: Only 2 problems" in text
    )


def test_a_stage_of_a_set_runs_alone_and_status_has_it(finished, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run, overrides, _ = finished
    done = recipe_here("evaluate", *overrides, *FOUR, ONLY, "evaluate/four/base")
    assert done.returncode == 0 and "[evaluate/four/base] done, skipped" in done.stdout, done.stderr
    shown = nemo_cot_here("status", f"name={run.path.name}", f"runs_dir={run.path.parent}").stdout
    assert re.search(r"evaluate/four/scores\s*│ done", shown) and re.search(r"problems/four\s*│ done", shown)


def test_runs_are_compared_on_each_set_that_all_have(finished, tmp_path):
    run, overrides, _ = finished
    below, few = f"runs_dir={run.path.parent}", "evaluate.bootstrap_resamples=200"
    done = nemo_cot_here(
        "compare",
        "tiny:base",
        "tiny:trained",
        below,
        few,
        "--json",
        tmp_path / "c.json",
        "--markdown",
        tmp_path / "c.md",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 problems.")
    assert "\nfour: 2 problems." in done.stdout
    assert "pass@3" in done.stdout
    found = json.loads((tmp_path / "c.json").read_text())
    assert (found["problems"], found["sets"]["four"]["problems"], found["sets"]["four"]["k"]) == (3, 2, 3)
    assert "## four" in (tmp_path / "c.md").read_text()
    alone = nemo_cot_here("compare", "tiny:base", "tiny:trained", below, few, "--set", "four").stdout
    assert alone.startswith("four: 2 problems.") and "3 problems" not in alone
    one_error(
        nemo_cot_here("compare", "tiny:base", "tiny:trained", below, "--set", "five"),
        "'five'",
        "choose among four",
    )
    other = [o.replace("name=tiny", "name=other") for o in overrides]
    run_stages(
        [*other, f"reuse=[{run.path.name}]", *FOUR[:1], f"{PROBLEMS}.terms=5", *FOUR[2:]], *BEFORE, "evaluate"
    )
    done = nemo_cot_here("compare", "tiny", "other", below, few)
    assert "four: 2 problems" not in done.stdout
    assert "the set four is left out: the problems differ" in done.stdout
    done = nemo_cot_here("report", "tiny:base", "tiny:trained", below, few, "--output", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "page/results.json").read_text())
    assert written["comparison"]["problems"] == 3 and written["sets"]["four"]["comparison"]["problems"] == 2
    assert "#traces/four%2Ftiny%3Atrained/" in (tmp_path / "page/report.html").read_text()
    assert "four/trained" in nemo_cot_here("traces", "tiny:four/trained", below, few).stdout


def test_the_run_is_read_back_and_can_be_run_again(finished):
    run, overrides, _ = finished
    cfg = load_config([*overrides, *FOUR, *quiz(run.path.parent.parent)])
    assert OmegaConf.to_object(stored_config(run.path / "config.yaml")) == cfg
    assert load_config(overrides_of(cfg)) == cfg


def test_a_config_of_before_there_were_sets_is_read(finished, tmp_path):
    _, overrides, _ = finished
    tree = compose_config(overrides)
    plain = OmegaConf.create(to_yaml(tree))
    del plain.evaluate.sets
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(plain))
    assert OmegaConf.to_object(stored_config(tmp_path / "config.yaml")) == load_config(overrides)


# ---- stages, fingerprints, jobs


SAMPLED = (
    1, "chunks engine.kind model.end_of_turn model.eos_token model.prompt samples_per_problem sampling.batch_size "
    "sampling.max_new_tokens sampling.precision sampling.temperature sampling.top_k sampling.top_p seed",
    "model problems", "generations.jsonl",
)  # fmt: skip
OF_BEFORE = {
    "problems": (
        1, "problems.digits problems.num_heldout problems.num_train problems.seed problems.source problems.terms", "",
        "train.jsonl heldout.jsonl",
    ),
    "evaluate/base": SAMPLED,
    "evaluate/trained": SAMPLED,
    "evaluate/scores": (
        5, "evaluate.bootstrap_resamples evaluate.confidence evaluate.samples_per_problem evaluate.seed "
        "grade.deadline_seconds grade.fallback grade.thoughts grader_version", "base trained",
        "metrics.json structure.json base.jsonl trained.jsonl",
    ),
}  # fmt: skip
"""Version, keys of the config, inputs and outputs of the stages as runs have them that were made before there were sets."""


def test_the_stages_that_were_there_before_keep_their_fingerprints():
    plain, more = (whole_graph(load_config(["experiment=quickstart", *sets])).stages for sets in ([], FOUR))
    for name, expected in OF_BEFORE.items():
        stage = plain[name]
        keys = " ".join(sorted(flatten(stage.config)))
        assert (stage.version, keys, " ".join(sorted(stage.inputs)), " ".join(stage.writes)) == expected
    for name, stage in plain.items():
        assert (stage.config, stage.inputs.keys(), stage.version) == (
            more[name].config,
            more[name].inputs.keys(),
            more[name].version,
        )


def test_contamination_is_looked_for_in_the_problems_of_all_sets(tiny_model, tmp_path):
    """A training problem as a model of the wording would have it: other case and marks, so not the same problem."""
    tiny = [*tiny_experiment(tiny_model, tmp_path / "runs"), "curate.filters.contamination.ngram=13"]
    run = run_stages(tiny, *BEFORE[:-2])
    chosen = rows(run.path / "curate/traces.jsonl")[0]["problem"]
    four = of_file(tmp_path / "h.jsonl", f"{chosen.upper()} !", "What is 1?")
    run_stages([*tiny, *four], *BEFORE[:-2])
    assert chosen not in {r["problem"] for r in rows(run.path / "curate/traces.jsonl")}
    assert json.loads((run.path / "curate/dropped.json").read_text())["contamination_exact"]


def test_a_training_problem_in_a_set_is_refused_before_and_by_the_stage(tiny_model, tmp_path):
    tiny = tiny_experiment(tiny_model, tmp_path / "runs")
    run = run_stages(tiny, "convert", "problems")
    same = rows(run.path / "problems/train.jsonl")[1]
    four = of_file(tmp_path / "h.jsonl", "What is 1?", same["problem"].replace(" ", "  "))
    with pytest.raises(UserError) as caught:
        run_stages([*tiny, *four], "problems")
    told = str(caught.value)
    assert f"the held-out problem of four is a training problem too, {same['problem_id']}" in told
    assert "h-2" in told
    cfg = load_config([*tiny, *four])
    errors = [f.what for f in preflight(cfg, estimate(cfg, None, 3), {}) if f.level == "error"]
    assert len(errors) == 1 and "training problem too" in errors[0]


def test_jobs_of_a_set_wait_for_its_problems_and_are_scored_early_by_themselves(tiny_model, tmp_path):
    tiny = [
        *tiny_experiment(tiny_model, tmp_path / "runs"),
        "cluster=slurm_minimal",
        *FOUR,
        "evaluate.chunks=2",
    ]
    cfg = load_config([*tiny, "evaluate.over_budget=found", "evaluate.token_budgets=[4]"])
    chain = whole_graph(cfg).only((*BEFORE, "evaluate"))
    jobs = {job.key: job for job in chain_jobs(cfg, chain, plan_chain(chain, run_directory(cfg)))}
    assert set(jobs["evaluate-four-base-chunks"].after) == {"convert", "problems-four"}
    assert jobs["evaluate-four-base"].stage == "evaluate/four/base"
    early = jobs["evaluate-four-scores-early"]
    assert early.overrides == ("evaluate.subjects=[base]",) and early.after == ("evaluate-four-base",)
    assert early.stage == "evaluate/four/scores"
    assert jobs["evaluate-scores-early"].overrides == early.overrides
    model = EvaluatedModel(str(tiny_model), "{problem}", "e", None, None, None)
    clash = replace(
        cfg,
        evaluate=replace(cfg.evaluate, models={"four-base": model}, subjects=["base", "four-base"], chunks=1),
    )
    chain = whole_graph(clash).only(["evaluate"])
    with pytest.raises(UserError, match="evaluate-four-base would be the name of two jobs"):
        chain_jobs(clash, chain, plan_chain(chain, run_directory(clash)))
