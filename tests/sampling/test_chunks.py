"""Sampling in chunks: the same rows in the same order, alone or side by side, and nothing missing in silence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph, load_recipe
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.recipe import ONLY
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.chunks import chunk_samples, merged
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import read_manifest
from tests.support import SECONDS, environment, one_error, recipe_here, run_stages, tiny_experiment

PROBLEMS = [Problem(problem_id=name, problem=f"problem {name}", expected_answer="1") for name in "abc"]


def row(problem: str, sample: int) -> Trace:
    return Trace(
        problem_id=problem, sample=sample, problem=problem, expected_answer="1",
        generation=f"{problem}{sample}", num_generated_tokens=1, finish_reason="stop",
    )  # fmt: skip


def parts(folder: Path, samples: int, chunks: int) -> list[tuple[Path, range]]:
    made = []
    for chunk in range(chunks):
        numbers = chunk_samples(samples, chunks, chunk)
        write_jsonl(folder / f"{chunk}.jsonl", [row(p.problem_id, s) for p in PROBLEMS for s in numbers])
        made.append((folder / f"{chunk}.jsonl", numbers))
    return made


@pytest.mark.parametrize("samples, chunks", [(1, 1), (7, 1), (7, 2), (7, 3), (7, 7), (512, 13)])
def test_every_sample_is_in_one_chunk_and_none_is_empty(samples, chunks):
    dealt = [list(chunk_samples(samples, chunks, chunk)) for chunk in range(chunks)]
    assert [s for numbers in dealt for s in numbers] == list(range(samples))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1 and all(dealt)


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_merged_is_the_order_without_chunks(chunks, tmp_path):
    expected = [(p.problem_id, s) for p in PROBLEMS for s in range(5)]
    assert [(t.problem_id, t.sample) for t in merged(parts(tmp_path, 5, chunks), PROBLEMS)] == expected


@pytest.mark.parametrize("damage", ["cut", "extra", "swapped", "twice", "other"])
def test_a_chunk_that_is_not_whole_is_refused_by_file_and_line(damage, tmp_path):
    files = parts(tmp_path, 4, 2)
    lines = files[1][0].read_text().splitlines()
    lines = {
        "cut": lines[:-1],
        "extra": [*lines, lines[0]],
        "swapped": [lines[1], lines[0], *lines[2:]],
        "twice": [lines[0], lines[0], *lines[2:]],
        "other": [*lines[:-1], lines[-1].replace('"problem_id":"c"', '"problem_id":"d"')],
    }[damage]
    files[1][0].write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="expected") as caught:
        list(merged(files, PROBLEMS))
    assert str(files[1][0]) in caught.value.where


@pytest.mark.parametrize("group", ["generate", "evaluate"])
@pytest.mark.parametrize("chunks", [0, 9])
def test_chunks_that_cannot_be_are_refused(group, chunks):
    with pytest.raises(UserError) as caught:
        load_config([f"{group}.chunks={chunks}"])
    assert caught.value.where == f"{group}.chunks"


@pytest.fixture(scope="module")
def prepared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, of which tiny has problems and a base model."""
    runs = tmp_path_factory.mktemp("runs")
    run_stages(tiny_experiment(tiny_model, runs), "convert", "problems")
    return runs


@pytest.fixture
def base(prepared: Path, tiny_model: Path, tmp_path: Path) -> list[str]:
    """Overrides of a copy of it."""
    shutil.copytree(prepared / "tiny", tmp_path / "runs" / "tiny")
    return tiny_experiment(tiny_model, tmp_path / "runs")


def made(name: str, overrides: list[str]) -> tuple[RunDirectory, list[str]]:
    """Run the recipe; the stages that it speaks of."""
    done = recipe_here(name, *overrides)
    assert done.returncode == 0, done.stderr
    run = run_directory(load_config([o for o in overrides if "=" in o]))
    return run, re.findall(r"^\[(\S+)\]", done.stdout, re.M)


CHUNKED = ["generate/chunk-000", "generate/chunk-001", "generate"]


def test_a_chunked_teacher_writes_what_an_unchunked_one_writes(base):
    """The procedural teacher's text depends on problem and sample alone: the same bytes."""
    run, names = made("generate", base)
    assert names == ["generate"]
    whole = (run.stage("generate") / "generations.jsonl").read_bytes()
    shutil.rmtree(run.stage("generate"))
    run, names = made("generate", [*base, "generate.chunks=2"])
    assert names == CHUNKED
    assert (run.stage("generate") / "generations.jsonl").read_bytes() == whole
    assert all((run.stage(name) / "manifest.json").exists() for name in names)


SERVER = [
    "teacher=model", "teacher.engine=openai", "teacher.engine.server.base_url=http://127.0.0.1:9/v1",
    "teacher.engine.server.neutral=true", "generate.seed=99",
]  # fmt: skip
"""A teacher whose server is never asked: what draws from it is replaced."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sample numbers that the teacher drew, of all problems."""
    numbers: list[int] = []

    def sample(engine, job) -> None:
        numbers.extend(s for _, s in job.pairs)
        write_jsonl(job.folder / "generations.jsonl", [job.trace(p, s, "x", 1, "stop") for p, s in job.pairs])

    monkeypatch.setattr("nemo_cot.traces.teachers.sample", sample)
    return numbers


@pytest.mark.parametrize("first, then", [(2, 1), (1, 2), (3, 2)])
def test_with_a_seed_per_sample_nothing_is_drawn_again_in_other_chunks(first, then, base, drawn):
    run, names = made("generate", [*base, *SERVER, f"generate.chunks={first}"])
    assert names[-1] == "generate" and len(names) == (first + 1 if first > 1 else 1)
    manifest = read_manifest(run.stage("generate"))
    assert {label for label, part in manifest.inputs.items() if part.part} == {
        f"chunk-{i:03d}" for i in range(first) if first > 1
    }
    drawn.clear()
    for only in ([], [ONLY, "generate/chunk-000"] if then > 1 else []):
        assert made("generate", [*base, *SERVER, f"generate.chunks={then}", *only])[1] == ["generate"]
    assert drawn == [] and read_manifest(run.stage("generate")) == manifest


def test_another_seed_is_drawn_in_chunks(base, drawn):
    made("generate", [*base, *SERVER, "generate.chunks=2"])
    drawn.clear()
    _, names = made("generate", [*base, *SERVER, "generate.chunks=2", "generate.seed=98"])
    assert names == CHUNKED and sorted(set(drawn)) == [0, 1, 2, 3]


def test_the_embedded_engine_draws_again_in_other_chunks_and_says_why(base):
    embedded = [*base, "evaluate.subjects=[base]"]
    run, _ = made("evaluate", embedded)
    steps = {s.stage.name: s for s in plan_chain(graph(load_config([*embedded, "evaluate.chunks=2"])), run)}
    merge = steps["evaluate/base"]
    assert merge.after == ("evaluate/base/chunk-000", "evaluate/base/chunk-001") and merge.replaces
    (reason,) = merge.reasons
    assert reason.startswith("chunks: 1 -> 2 (") and "embedded engine" in reason


def test_one_chunk_alone_then_the_rest_skips_it(base):
    overrides = [*base, "generate.chunks=2"]
    run, names = made("generate", [*overrides, ONLY, "generate/chunk-001"])
    assert names == ["generate/chunk-001"]
    before = (run.stage("generate/chunk-001") / "manifest.json").read_bytes()
    merge = recipe_here("generate", *overrides, ONLY, "generate")
    one_error(merge, "the stage generate/chunk-000 has not been run", "python recipes/generate.py")
    run, names = made("generate", overrides)
    assert names == CHUNKED
    assert (run.stage("generate/chunk-001") / "manifest.json").read_bytes() == before, "it was run again"


def test_a_file_is_read_as_a_whole(base):
    named = [*base, "generate.chunks=2", "teacher=file", "teacher.path=x.jsonl"]
    assert [stage.name for stage in load_recipe("generate")(load_config(named))] == ["generate"]


def test_embedded_evaluation_in_chunks_run_side_by_side(base):
    """Two processes at once on one run directory, each a chunk; then the merge and the scores."""
    overrides = [*base, "evaluate.chunks=2", "evaluate.subjects=[base]"]
    chunks = [f"evaluate/base/chunk-00{number}" for number in range(2)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "nemo_cot.recipes.evaluate", *overrides, ONLY, chunk],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for chunk in chunks
    ]  # fmt: skip
    outputs = [process.communicate(timeout=SECONDS)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert [f"[{chunk}] runs" in output for chunk, output in zip(chunks, outputs)] == [True, True]
    done = recipe_here("evaluate", *overrides)
    assert done.returncode == 0 and done.stdout.count("done, skipped") == 2, done.stdout + done.stderr
    run = run_directory(load_config(overrides))
    rows = [
        json.loads(t) for t in (run.stage("evaluate/base") / "generations.jsonl").read_text().splitlines()
    ]
    heldout = [
        json.loads(t)["problem_id"]
        for t in (run.stage("problems") / "heldout.jsonl").read_text().splitlines()
    ]
    assert [(r["problem_id"], r["sample"]) for r in rows] == [(p, s) for p in heldout for s in range(2)]
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert scores["subjects"]["base"]["samples"] == 6
