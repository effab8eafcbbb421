"""Which jobs a chain is made of, and what each waits for: derived from the graph, for made-up states of a run. No
Slurm is needed."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.config import OWN_SUBJECTS, Config
from nemo_cot.config.engines import EvaluatedModel
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import Graph, graph
from nemo_cot.experiment.planner import Step, plan_chain
from nemo_cot.launchers.slurm.jobs import ChainJob, chain_jobs
from nemo_cot.launchers.slurm.record import SubmittedJob
from nemo_cot.launchers.slurm.submit import _dependency
from nemo_cot.stages import RunDirectory

CHUNKS = ["generate.chunks=3", "evaluate.chunks=2"]
THREE = ("base", "other", "trained")
ALIGNER = ["train=nemo_aligner", "model=qwen2.5_7b", "model.path=/models/none"]
CONFIGS = {
    "plain": ([], ("base", "trained")),
    "chunks": (CHUNKS, THREE),
    "three training jobs": (["cluster.train_jobs=3"], THREE),
    "NeMo-Aligner": ([*ALIGNER, *CHUNKS], ("trained", "base")),
    "no training": (["launcher.stages=[problems,convert,evaluate,report]"], ("base",)),
}


@functools.cache
def _loaded(*overrides: str) -> Config:
    return load_config(["cluster=slurm_minimal", "experiment=quickstart", *overrides])


def config(overrides: Sequence[str] = (), subjects: Sequence[str] = ("base", "trained")) -> Config:
    """The quickstart for Slurm; ``subjects`` that it does not know are models in a folder."""
    cfg = _loaded(*overrides)
    others = {
        name: EvaluatedModel("/models/other", "{problem}", "<|im_end|>", None, None, None)
        for name in subjects
        if name not in OWN_SUBJECTS
    }
    return replace(cfg, evaluate=replace(cfg.evaluate, subjects=list(subjects), models=others))


def jobs_of(cfg: Config, steps: list[Step] | None = None) -> dict[str, ChainJob]:
    """By key, of a run in which nothing is done."""
    chain = graph(cfg)
    steps = plan_chain(chain, RunDirectory(Path("/none/run"))) if steps is None else steps
    return {job.key: job for job in chain_jobs(cfg, chain, steps)}


def partly_done(chain: Graph, draw: random.Random) -> list[Step]:
    """Stages at random are settled whose needs are; parts of a settled stage are left out, as the planner does."""
    settled: set[str] = set()
    for name, stage in chain.stages.items():
        if all(need in settled for need in stage.needs if need in chain.stages) and draw.random() < 0.7:
            settled.add(name)
    left = [n for n in chain.stages if chain.wholes.get(n) not in settled]
    return [Step(chain.stages[n], "skip" if n in settled else "run", finished=n in settled) for n in left]


def before(jobs: dict[str, ChainJob], key: str) -> set[str]:
    """Keys of all jobs that end before ``key`` starts."""
    return {k for need in jobs[key].after for k in (need, *before(jobs, need))}


def made_by(job: ChainJob) -> list[str]:
    return [f"{stage}/chunk-{n:03d}" for stage in job.stages for n in job.array] or list(job.stages)


@pytest.mark.parametrize("overrides, subjects", CONFIGS.values(), ids=CONFIGS)
def test_each_stage_that_is_not_settled_has_one_job_behind_all_that_it_needs(overrides, subjects):
    cfg, draw = config(overrides, subjects), random.Random(5)
    chain = graph(cfg)
    for number in range(30):
        steps = partly_done(chain, draw) if number else plan_chain(chain, RunDirectory(Path("/none/run")))
        jobs, open_stages = jobs_of(cfg, steps), {s.stage.name for s in steps if not s.settled}
        final = {k: job for k, job in jobs.items() if not job.continued and not k.endswith("-early")}
        makers = [name for job in final.values() for name in made_by(job)]
        assert sorted(makers) == sorted(open_stages), "nothing twice, nothing left out"
        maker = {name: key for key, job in final.items() for name in made_by(job)}
        for name in open_stages:
            needed = {maker[need] for need in chain.needs(name) if need in open_stages}
            assert needed <= before(jobs, maker[name]), (name, needed)
        for key in jobs:
            assert set(jobs[key].after) <= set(list(jobs)[: list(jobs).index(key)]), (
                "an id is known when it is named"
            )
        assert {k for k, job in jobs.items() if job.after_any} == {"report"} & jobs.keys()
        if "report" in jobs:
            assert set(jobs["report"].after) == jobs.keys() - {"report"}, "after any end of every other"


SETS = [
    word
    for name in ("four", "five")
    for key in [f"evaluate.sets.{name}.problems"]
    for word in (f"{key}=chain_sum", f"{key}.terms=4", f"{key}.num_heldout=2", f"{key}.num_train=3")
]
ASKED = [*SETS, "evaluate.engine=openai", "evaluate.engine.dialect=vllm"]


@pytest.mark.parametrize("overrides, subjects, makes", [
    (ASKED, ("base", "trained"), {
        "evaluate-base": ["evaluate/base", "evaluate/four/base", "evaluate/five/base"],
        "evaluate-trained": ["evaluate/trained", "evaluate/four/trained", "evaluate/five/trained"]}),
    (SETS, ("base",), {}),
    ([*ASKED, "evaluate.sets.five.samples_per_problem=1", "evaluate.chunks=2"], ("base",), {
        "evaluate-base-chunks": ["evaluate/base", "evaluate/four/base"]}),
    ([*ASKED, "evaluate.examples.number=1"], ("prompted",), {
        "evaluate-prompted": ["evaluate/prompted", "evaluate/four/prompted", "evaluate/five/prompted"]}),
    (["refine.engine=openai", "refine.passes=[{prompt:self_checks},{prompt:paraphrase},{prompt:harmonise,path:/models/x}]"],
     ("base",), {"refine-1-self_checks": ["refine/1-self_checks", "refine/2-paraphrase"]}),
    (["refine.engine=openai", "refine.passes=[{prompt:self_checks},{prompt:paraphrase,path:/models/x},{prompt:harmonise}]"],
     ("base",), {}),
])  # fmt: skip
def test_stages_that_want_the_same_server_have_one_job(overrides, subjects, makes):
    """Sets of a subject, each chunk of them, and passes in a row; not another model's, another number of chunks, or what
    has no server. What is done gets none.
    """
    cfg = config(overrides, subjects)
    jobs = jobs_of(cfg)
    assert {key: [*job.stages] for key, job in jobs.items() if job.also} == makes
    chain, names = graph(cfg), list(jobs)
    final = {stage: key for key, job in jobs.items() for stage in made_by(job)}
    for key, job in jobs.items():
        for stage in () if key.endswith("-early") else made_by(job):
            needs = {final[need] for need in chain.needs(stage)} - {key}
            assert needs <= before(jobs, key), (stage, needs)
        assert {*job.after} <= {*names[: names.index(key)]}
    for key, stages in makes.items():
        done = {stages[0], *(f"{stages[0]}/chunk-{n:03d}" for n in jobs[key].array)}
        left = [Step(s, "skip" if n in done else "run") for n, s in chain.stages.items()]
        again = {job.stage: [*job.also] for job in jobs_of(cfg, left).values() if job.also}
        assert again.get(stages[1], []) == stages[2:] and stages[0] not in again


def test_of_several_stages_one_that_failed_does_not_keep_others_from_being_scored():
    jobs = jobs_of(config(ASKED, ("base",)))
    ids = {key: SubmittedJob(key, job.stage, f"{number}", [], "", []) for number, (key, job) in enumerate(jobs.items())}
    sampled = ids["evaluate-base"].id
    for name in ("evaluate-scores", "evaluate-four-scores"):
        assert _dependency(jobs[name], list(jobs.values()), ids) == [f"--dependency=afterany:{sampled}"]
    jobs = jobs_of(config(["refine.engine=openai", "refine.passes=[{prompt:self_checks},{prompt:paraphrase}]"]))
    ids = {key: SubmittedJob(key, job.stage, f"{number}", [], "", []) for number, (key, job) in enumerate(jobs.items())}
    assert f"afterok:{ids['refine-1-self_checks'].id}" in _dependency(jobs["grade"], list(jobs.values()), ids)[0]


def test_chunks_are_an_array_of_those_that_are_missing_and_a_job_that_merges():
    cfg = config(CHUNKS)
    chain = graph(cfg)
    done = {"problems", "convert", "generate/chunk-001"}
    steps = [Step(stage, "skip" if name in done else "run") for name, stage in chain.stages.items()]
    jobs = jobs_of(cfg, steps)
    array, merge = jobs["generate-chunks"], jobs["generate"]
    assert (array.array, array.resources, array.after) == ((0, 2), "generate", ())
    assert (merge.array, merge.resources, merge.after) == ((), "cpu", ("generate-chunks",))


def test_training_jobs_in_a_row_go_on_with_the_same_stage():
    jobs = jobs_of(config(["cluster.train_jobs=3"]))
    row = ["train-1", "train-2", "train"]
    assert [jobs[key].continued for key in row] == [True, True, False]
    assert [jobs[key].after for key in row[1:]] == [("train-1",), ("train-2",)]
    assert set(jobs["train-1"].after) == {"convert", "pack"} and jobs["evaluate-trained"].after[0] == "train"


@pytest.mark.parametrize("overrides, subjects, done, scored, early, after", [
    ([], THREE[::2], [], False, "base", ["evaluate-base"]),
    ([], THREE, [], False, "base,other", ["evaluate-base", "evaluate-other"]),
    ([], THREE, ["evaluate/base"], False, "base,other", ["evaluate-other"]),
    ([], THREE[::2], ["evaluate/base"], False, "base", []),
    ([], THREE[::2], ["evaluate/base"], True, None, None),
    ([], THREE[::2], ["evaluate/trained", "train"], False, None, None),
    ([], ["trained"], [], False, None, None),
    ([], ["base"], [], False, None, None),
    (CHUNKS, THREE[::2], [], False, "base", ["evaluate-base"]),
    (ALIGNER, THREE[::2], [], False, "base", ["evaluate-base"]),
])  # fmt: skip
def test_what_need_not_wait_for_the_training_is_scored_beside_it(
    overrides, subjects, done, scored, early, after
):
    """Also after a submission that sampled it and was cancelled before it was scored."""
    cfg = config(overrides, subjects)
    chain = graph(cfg)
    steps = [
        Step(stage, "skip" if name in done else "run", finished=scored and name == "evaluate/scores")
        for name, stage in chain.stages.items()
    ]
    jobs = jobs_of(cfg, steps)
    found = jobs.get("evaluate-scores-early")
    if early is None:
        assert found is None
        return
    assert found.overrides == (f"evaluate.subjects=[{early}]",) and sorted(found.after) == after
    assert found.stage == "evaluate/scores" and "evaluate-scores-early" in jobs["evaluate-scores"].after
    assert "train" not in before(jobs, found.key)
    ids = {key: SubmittedJob(key, job.stage, f"{number}", [], "", []) for number, (key, job) in enumerate(jobs.items())}
    (condition,) = _dependency(jobs["evaluate-scores"], list(jobs.values()), ids)
    others = [ids[key].id for key in jobs["evaluate-scores"].after if key != found.key]
    assert condition == f"--dependency=afterok:{':'.join(others)},afterany:{ids[found.key].id}", (
        "should it fail, all are scored in the end"
    )


def test_two_jobs_of_one_name_are_refused():
    cfg = config(["evaluate.chunks=2"], ["base-chunks", "base"])
    with pytest.raises(UserError, match="evaluate-base-chunks would be the name of two jobs"):
        jobs_of(cfg)
    with pytest.raises(UserError, match="evaluate-scores-early would be the name of two jobs"):
        jobs_of(config([], ["scores-early", "base", "trained"]))


SHARED = {name: str(100 + i) for i, name in enumerate(("convert", "problems", "generate", "grade", "evaluate/base"))}


@pytest.mark.parametrize("name", ["plain", "chunks"])
def test_stages_of_another_runs_job_get_none_and_are_waited_for(name):
    overrides, subjects = CONFIGS[name]
    cfg = config(overrides, subjects)
    chain = graph(cfg)
    steps = plan_chain(chain, RunDirectory(Path("/none/run")))
    jobs = {job.key: job for job in chain_jobs(cfg, chain, steps, SHARED)}
    assert not {job.stage for job in jobs.values()} & SHARED.keys()
    for job in jobs.values():
        if job.stage != "report":
            assert set(job.beside) == {SHARED[need] for need in chain.needs(job.stage) if need in SHARED}, job
            assert not set(job.after) & {key.replace("/", "-") for key in SHARED}
    assert _dependency(jobs["curate"], list(jobs.values()), {}) == [
        f"--dependency=afterok:{':'.join(jobs['curate'].beside)}"
    ]


def test_a_stage_that_is_settled_by_now_is_not_waited_for():
    cfg = config()
    chain = graph(cfg)
    steps = [
        replace(step, action="reuse" if step.stage.name in SHARED else "run")
        for step in plan_chain(chain, RunDirectory(Path("/none/run")))
    ]
    assert all(job.beside == () for job in chain_jobs(cfg, chain, steps, SHARED))
