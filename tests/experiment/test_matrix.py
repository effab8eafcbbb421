"""Every experiment file and every run of every study: its data path, on small data, up to what is trained on; and that it
does what it is there for.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.compose import CONF, Composer, to_dataclasses
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.experiment.study import chosen_study
from nemo_cot.stages import RunDirectory, run_stage
from tests.experiment import matrix_table
from tests.experiment.made_pools import Answers, small, write_data
from tests.experiment.row_checks import (
    Row,
    answers_alone,
    asked,
    deleted,
    digits,
    edited,
    inserted,
    keywords,
    learning_rate,
    lengths,
    lora,
    model,
    partial,
    pass_rates,
    shuffled,
    size,
    steps,
    style,
    sums_of,
    verdicts,
    written_by,
)
from tests.scripted_server import scripted
from tests.support import rows
from tests.tiny import write_tiny_model, write_tiny_tokenizer

UP_TO_PACK = ("convert", "problems", "generate", "refine", "grade", "curate", "transform", "pack")
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml") if path.stem != "quickstart_seeds")
COMPOSER = Composer()


RIGHT, WRONG, HALF = verdicts(right=1.0), verdicts(wrong=1.0), verdicts(right=0.5, wrong=0.5)
MAIN = [RIGHT, size(20), lengths(3000), asked("reasoning"), model("Qwen2.5-32B", 1e-5)]
COUNTED = [RIGHT, size(20), style("good")]
"""The quickstart's traces."""
ROWS: dict[str, list[Callable[[Row], None]]] = {
    "paper_main": MAIN,
    "paper_human": [size(20)],
    "paper_nemotron_qwq": [size(50), written_by(qwq_32b_preview=1.0)],
    "paper_human_stages": [size(50), written_by(human_stage1=1.0)],
    "paper_human_refined": [size(50), written_by(human_stage1=1.0), edited("edit_structure", "self_checks", "harmonise")],
    "paper_paraphrase": [size(50), written_by(human_stage1=1.0), edited("paraphrase")],
    "paper_mixed_teachers": [size(50), written_by(human_stage1=0.5, qwq_32b_preview=0.5)],
    "paper_nonreasoning": [RIGHT, size(20), asked("plain")],
    "paper_nonreasoning_edited": [RIGHT, size(20), asked("plain"), edited("edit_structure", "self_checks")],
    "paper_wrong": [WRONG, *MAIN[1:]],
    "paper_mixed_answers": [HALF, *MAIN[1:]],
    "paper_keywords": [keywords(1.0), RIGHT, size(20)],
    "paper_difficulty": [RIGHT, size(20), pass_rates(0.0, 0.6), lengths(3000)],
    "paper_diversity": [RIGHT, size(20, problems=4), lengths(3000)],
    "paper_length": [RIGHT, size(20), lengths(8000)],
    "paper_size": [RIGHT, size(50), lengths(3000)],
    "paper_openmath": MAIN,
    "paper_7b": [*MAIN[:4], model("Qwen2.5-7B", 1e-5)],
    "paper_14b": [*MAIN[:4], model("Qwen2.5-14B", 1e-5)],
    "paper_llama3_70b": [*MAIN[:4], model("Meta-Llama-3-70B", 1e-5)],
    "paper_mistral_7b": [*MAIN[:4], model("Mistral-7B-v0.3", 5e-6)],
    "paper_qwen3_14b": [*MAIN[:4], model("Qwen3-14B-Base", 1e-5)],
    "paper_lora": [*MAIN[:4], lora(1e-4)],
    "paper_partial": [partial(0.5)],
    "structure_answers": [answers_alone],
    "structure_digits": [digits(0.7), RIGHT],
    "structure_shuffled": [shuffled(1.0), RIGHT],
    "structure_deleted": [deleted(0.67)],
    "structure_inserted": [inserted(1.0), RIGHT],
    "quickstart": COUNTED,
    "quickstart_paper_lr": [*COUNTED, learning_rate(1e-5)],
    "quickstart_self": [RIGHT, size(10), asked("reasoning")],
    "quickstart_wrong": [WRONG, size(20), style("wrong")],
    "quickstart_lora": [*COUNTED, lora(2e-3), steps(20)],
    "quickstart_sets": [*COUNTED, sums_of("four_terms", 4)],
}  # fmt: skip
RUNS: dict[str, dict[str, list[Callable[[Row], None]]]] = {
    "paper": {
        "main": MAIN, "base": MAIN, "prompted": MAIN, "qwq50": ROWS["paper_nemotron_qwq"],
        **{f"human_stage{n}": [size(50), written_by(**{f"human_stage{n}": 1.0})] for n in (1, 2, 3, 4)},
        "human_refined": ROWS["paper_human_refined"], "paraphrase": ROWS["paper_paraphrase"],
        "nonreasoning": ROWS["paper_nonreasoning"], "nonreasoning_engineered": [RIGHT, size(20), asked("engineered")],
        "nonreasoning_guided": [RIGHT, size(20), asked("guided")], "nonreasoning_edited": ROWS["paper_nonreasoning_edited"],
        "wrong": ROWS["paper_wrong"], "mixed_answers": ROWS["paper_mixed_answers"], "no_keywords": ROWS["paper_keywords"],
        "hard": ROWS["paper_difficulty"], "easy": [RIGHT, size(20), pass_rates(0.75, 1.0)],
        "middling": [RIGHT, size(20), pass_rates(0.25, 0.75)], "few_problems": ROWS["paper_diversity"],
        "short": [RIGHT, size(20), lengths(1000)], "long": ROWS["paper_length"], "7b": ROWS["paper_7b"], "14b": ROWS["paper_14b"],
        "partial": ROWS["paper_partial"], "mixed_teachers": ROWS["paper_mixed_teachers"], "lora": ROWS["paper_lora"],
    },
    "structure": {
        "untouched": MAIN, "wrong": ROWS["paper_wrong"], "answers": [answers_alone],
        **{f"digits_{n}": [digits(n / 100)] for n in (20, 50, 70, 100)},
        **{f"keywords_{n}": [keywords(n / 100)] for n in (20, 50, 100)},
        **{f"{c.__name__}_{n}": [c(n / 100)] for c in (shuffled, deleted, inserted) for n in (33, 67, 100)},
        "partial_25": [partial(0.25)], "partial_50": [partial(0.5)],
    },
    "scale": {
        "32b": MAIN, "14b": ROWS["paper_14b"], "14b_lr2e-5": [model("Qwen2.5-14B", 2e-5)], "7b": ROWS["paper_7b"],
        "7b_lr2e-5": [model("Qwen2.5-7B", 2e-5)], "7b_lr5e-5": [model("Qwen2.5-7B", 5e-5)],
        "7b_short": [model("Qwen2.5-7B", 1e-5), lengths(1000)], "1_trace": [size(1)], "5_traces": [size(5)], "10_traces": [size(10)],
        "50_traces": [size(50)], "200_traces": [size(200, problems=50)],
        **{name: ROWS[f"paper_{name}"] for name in ("llama3_70b", "mistral_7b", "qwen3_14b")},
    },
    "quickstart_ablations": {
        "right": COUNTED, "wrong": ROWS["quickstart_wrong"], "mixed_answers": [HALF, size(20)], "answers": [answers_alone],
        "no_keywords": [keywords(1.0), RIGHT], "shuffled": [shuffled(1.0), RIGHT], "deleted": [deleted(0.67)],
        "digits_20": [digits(0.2), RIGHT], "digits_70": [digits(0.7), RIGHT], "partial": [partial(0.5, stops=False)],
        "short": [RIGHT, size(20), style("short")], "five_traces": [size(5)], "self": ROWS["quickstart_self"],
        "longer": [*COUNTED, steps(20)], "lora": ROWS["quickstart_lora"], "lora_half": [*COUNTED, lora(2e-3), steps(10)],
    },
}  # fmt: skip
EVALUATED = {
    ("paper", "qwen_math_72b"),
    *(("quickstart_ablations", name) for name in ("prompted", "untrained")),
    *(("experiment", name) for name in ("paper_baselines", "paper_prompting", "quickstart_prompting")),
}
"""Rows that only evaluate, without traces."""


# ---- the rows, made


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[tuple[str, ...]], Row]]:
    """Brings the data of a row up to date in one directory per pool, where what rows have in common is done once."""
    folder = tmp_path_factory.mktemp("matrix")
    write_data(folder)
    weights = write_tiny_model(folder / "models/weights")

    @functools.cache
    def student(*special: str) -> Path:
        own = folder / "models" / hashlib.sha256(repr(special).encode()).hexdigest()[:8]
        own.mkdir()
        write_tiny_tokenizer(own, special)
        for file in (*weights.glob("*.safetensors"), weights / "config.json"):
            (own / file.name).hardlink_to(file)
        return own

    @functools.cache
    def made(overrides: tuple[str, ...]) -> Row:
        cfg = composed(*overrides)
        base = student(*dict.fromkeys((cfg.model.eos_token, "<|im_start|>", cfg.model.end_of_turn)))
        own = composed(*overrides, *small(cfg, folder, base, server))
        parts = fingerprinted(own)
        key = json.dumps([parts[part] for part in ("teacher", "problems", "generate", "refine", "model")], default=str)
        run = RunDirectory(folder / "runs" / hashlib.sha256(key.encode()).hexdigest()[:12]).create()
        for stage in whole_graph(own).only(UP_TO_PACK).stages.values():
            run_stage(stage, run, show=lambda line: None)
        path = run.path
        chosen = rows(path / "curate/traces.jsonl")
        traces = rows(path / "transform/traces.jsonl") if cfg.transform.steps else chosen
        return Row(cfg, chosen, traces, rows(path / "pack/sequences.jsonl"), rows(path / "curate/selection.jsonl"))

    with scripted(say=Answers()) as server:
        yield made


def composed(*overrides: str) -> Config:
    """The config, with a stand-in for each path that the user must give."""
    tree = COMPOSER.tree(list(overrides))
    for key in OmegaConf.missing_keys(tree):
        OmegaConf.update(tree, key, "a")
    return to_dataclasses(tree)


def variants(study: str) -> dict[str, tuple[str, ...]]:
    """The overrides of each variant, of the first of its repeats."""
    runs: dict[str, tuple[str, ...]] = {}
    for run in chosen_study([f"study={study}"]).runs:
        runs.setdefault(run.variant, tuple(o for o in run.overrides if not o.startswith(("name=", "runs_dir="))))
    return runs


def test_every_experiment_and_every_run_of_a_study_is_here():
    assert {*ROWS, *(name for kind, name in EVALUATED if kind == "experiment")} == set(EXPERIMENTS)
    assert set(RUNS) == set(STUDIES)
    for study in STUDIES:
        assert {*RUNS[study], *(name for kind, name in EVALUATED if kind == study)} == set(variants(study))


def check(row: Row, checks: list[Callable[[Row], None]]) -> None:
    assert len(row.traces) == len(row.sequences) == row.cfg.curate.num_traces
    for one in checks:
        one(row)


@pytest.mark.parametrize("name", ROWS)
def test_an_experiment_trains_on_what_it_is_about(name, make):
    check(make((f"experiment={name}",)), ROWS[name])


@pytest.mark.parametrize("study, variant", [(study, variant) for study, runs in RUNS.items() for variant in runs])
def test_a_run_of_a_study_trains_on_what_it_is_about(study, variant, make):
    check(make(variants(study)[variant]), RUNS[study][variant])


@pytest.mark.parametrize("study", [None, *RUNS])
def test_no_two_rows_are_the_same(study, make):
    """What is trained, on what: a row that changes nothing is another one over again."""
    overrides = variants(study) if study else {name: (f"experiment={name}",) for name in ROWS}
    found: dict[str, list[str]] = {}
    for name in RUNS[study] if study else ROWS:
        found.setdefault(make(overrides[name]).trained, []).append(name)
    same = {"paper": [["main", "base", "prompted"]], None: [["quickstart", "quickstart_sets"]]}  # which differ in what is evaluated
    assert [names for names in found.values() if len(names) > 1] == same.get(study, [])


def test_rows_without_traces_evaluate():
    own = composed("experiment=paper_baselines", "evaluate.models.qwen_math_72b.path=x")
    assert own.evaluate.subjects == ["base", "qwen_math_72b"] and "train" not in own.launcher.stages
    assert next(run for run in chosen_study(["study=paper"]).runs if run.variant == "base").subject == "base"


def test_the_page_of_experiments_is_that_of_the_files():
    text = matrix_table.PAGE.read_text()
    assert text == matrix_table.page(text), "python -m tests.experiment.matrix_table"


@pytest.mark.parametrize("name", [name for name in (*ROWS, "paper_baselines") if not name.startswith("quickstart")])
def test_preflight_finds_nothing_but_what_the_user_gives(name, large_disk):
    """On the cluster's image: lengths fit the engines, heads the GPUs, and the trainer can do what is asked."""
    cfg = composed(f"experiment={name}")
    _, findings = examine(cfg, run_directory(cfg), whole_graph(cfg), elsewhere=True)
    assert {f.rule for f in findings if f.level in ("error", "warning")} <= {"inputs_exist"}
