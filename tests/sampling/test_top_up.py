"""More samples, or fewer: those that are there are kept, byte for byte, and only new seeds are drawn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.records import Problem
from nemo_cot.sampling.chunks import GENERATIONS, Sampling
from nemo_cot.sampling.openai.endpoint import sample_endpoint
from nemo_cot.stages import RunDirectory, run_stage
from nemo_cot.stages.manifest import read_manifest
from tests.sampling.test_endpoint import engine, job
from tests.scripted_server import Script, scripted
from tests.support import recipe_here, run_stages, tiny_experiment, write_lines

PROBLEMS = "abc"
SEED = 100


def sampled(
    folder: Path, script: Script, samples: int, chunks: int, *, seed: int = SEED, reuse: tuple[Path, ...] = (), **changes
) -> RunDirectory:
    """Bring the stage up to date in the run ``folder``, over a real HTTP server that honours seeds."""
    run = RunDirectory(folder, reuse).create()
    rows = [{"problem_id": p, "problem": f"problem {p}", "expected_answer": "1"} for p in PROBLEMS]
    problems = folder.parent / "problems.jsonl"
    if not problems.exists():
        write_lines(problems, rows)

    def work(target: Path, inputs: dict, numbers: range) -> None:
        asked = replace(job(target), problems=read_jsonl(inputs["problems"], Problem), samples=numbers, seed=seed)
        sample_endpoint(engine(script), asked)

    config = {"generate": {"samples_per_problem": samples, "seed": seed}}
    values = {
        "name": "generate", "inputs": {"problems": problems}, "config": config, "work": work, "samples": samples,
        "samples_key": "generate.samples_per_problem", "chunks": chunks, "resumable": True, "batches": False,
        "resources": "generate", **changes,
    }  # fmt: skip
    for stage in Sampling(**values).stages():
        run_stage(stage, run, show=lambda line: None)
    return run


def content(run: RunDirectory) -> bytes:
    return (run.stage("generate") / GENERATIONS).read_bytes()


def drawn(script: Script) -> list[tuple[str, int]]:
    """What was asked for, in order of problem and sample; the list is emptied."""
    bodies, script.bodies[:] = list(script.bodies), []
    return sorted((body["prompt"].partition("problem ")[2][0], body["seed"] - SEED) for body in bodies)


def pairs(numbers: range) -> list[tuple[str, int]]:
    return [(p, s) for p in PROBLEMS for s in numbers]


COUNTS = st.integers(1, 6)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@example([(4, 4), (1, 5), (4, 4)])
@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=2, max_size=3))
def test_any_way_to_a_number_of_samples_ends_in_the_same_bytes(tmp_path_factory, way):
    """(samples, chunks) after (samples, chunks): each equals its run from scratch, and only what was never there
    at that moment is asked for, each once; of a larger run before the last, chunks may be there still.
    """
    folder = tmp_path_factory.mktemp("way")
    with scripted() as script:
        there = most = 0
        for samples, wanted in way:
            run = sampled(folder / "run", script, samples, min(samples, wanted))
            asked, missing = drawn(script), pairs(range(min(there, samples), samples))
            assert asked == missing or (there < most and set(asked) < set(missing) and len(asked) == len(set(asked)))
            there, most = samples, max(most, samples)
            scratch = sampled(folder / f"scratch-{samples}", script, samples, 1)
            script.bodies.clear()
            assert content(run) == content(scratch)


def test_the_manifest_names_what_was_drawn_before_and_with_what(tmp_path):
    with scripted() as script:
        first = read_manifest(sampled(tmp_path / "run", script, 4, 1).stage("generate"))
        run = sampled(tmp_path / "run", script, 6, 1)
        second = read_manifest(run.stage("generate"))
        third = read_manifest(sampled(tmp_path / "run", script, 8, 2).stage("generate"))
        plain = read_manifest(sampled(tmp_path / "other", script, 8, 1).stage("generate"))
        chunk = read_manifest(run.stage("generate/chunk-001"))
    assert first.earlier is None and plain.earlier is None
    told = second.earlier
    assert told["generate.samples_per_problem"] == 4 and told["fingerprint"] == first.fingerprint
    assert told["outputs"][GENERATIONS]["sha256"] == first.outputs[GENERATIONS].sha256
    assert told["finished_at"] == first.finished_at and told["code"] == first.code
    assert third.earlier["generate.samples_per_problem"] == 6 and third.earlier["earlier"] == told
    assert chunk.earlier["generate.samples_per_problem"] == 6, "the chunk drew only a part"
    assert third.fingerprint == plain.fingerprint, "how it came about is no part of what it is"


@pytest.mark.parametrize("changed", ["seed", "problems", "bytes", "lost"])
def test_nothing_is_kept_of_another_result(changed, tmp_path):
    with scripted() as script:
        run = sampled(tmp_path / "run", script, 4, 1)
        file = run.stage("generate") / GENERATIONS
        if changed == "problems":
            rows = [{"problem_id": p, "problem": f"problem {p} b", "expected_answer": "1"} for p in PROBLEMS]
            write_lines(tmp_path / "problems.jsonl", rows)
        elif changed == "bytes":
            file.write_bytes(file.read_bytes().replace(b"it is", b"it be", 1))
        elif changed == "lost":
            file.unlink()
        drawn(script)
        again = sampled(tmp_path / "run", script, 8, 1, seed=SEED + (changed == "seed") * 1000)
        assert len(drawn(script)) == 8 * len(PROBLEMS) and b"it be" not in content(again)
    assert read_manifest(again.stage("generate")).earlier is None


@pytest.mark.parametrize("samples, new", [(3, range(0)), (12, range(8, 12))])
def test_another_run_gives_what_it_has(samples, new, tmp_path):
    """The one with the most is taken: a run of 2 of one's own, one of 8 to reuse."""
    with scripted() as script:
        other = sampled(tmp_path / "other", script, 8, 1)
        before = content(other)
        sampled(tmp_path / "run", script, 2, 1)
        drawn(script)
        run = sampled(tmp_path / "run", script, samples, 1, reuse=(other.path,))
        assert drawn(script) == pairs(new) and content(other) == before
        assert content(run) == content(sampled(tmp_path / "scratch", script, samples, 1))


def test_what_draws_in_batches_is_drawn_again(tmp_path):
    with scripted() as script:
        sampled(tmp_path / "run", script, 4, 1, batches=True)
        drawn(script)
        sampled(tmp_path / "run", script, 8, 1, batches=True)
        assert drawn(script) == pairs(range(8))


@pytest.mark.parametrize("after", [0, 1, 5, 11])
def test_a_top_up_that_was_cut_short_goes_on(after, tmp_path):
    with scripted() as script:
        sampled(tmp_path / "run", script, 4, 1)
        drawn(script)
        script.statuses[:] = [200] * after + [400]
        with pytest.raises(UserError):
            sampled(tmp_path / "run", script, 8, 1)
        script.statuses.clear()
        asked = len(drawn(script))
        run = sampled(tmp_path / "run", script, 8, 1)
        again = drawn(script)
        assert set(again) <= set(pairs(range(4, 8))) and len(again) + asked >= 4 * len(PROBLEMS)
        assert content(run) == content(sampled(tmp_path / "scratch", script, 8, 1))


def test_one_that_was_killed_before_it_was_published_draws_nothing_more(tmp_path, monkeypatch):
    with scripted() as script:
        sampled(tmp_path / "run", script, 4, 1)
        drawn(script)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("nemo_cot.stages.engine.write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            sampled(tmp_path / "run", script, 8, 1)
        assert drawn(script) == pairs(range(4, 8))
        run = sampled(tmp_path / "run", script, 8, 1)
        assert drawn(script) == []
        assert content(run) == content(sampled(tmp_path / "scratch", script, 8, 1))


@pytest.fixture(scope="module")
def prepared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    run_stages(tiny_experiment(tiny_model, runs), "convert", "problems")
    return runs


@pytest.mark.parametrize(
    "recipe, whole, key",
    [
        ("generate", "generate", "generate.samples_per_problem"),
        ("evaluate", "evaluate/base", "evaluate.samples_per_problem"),
    ],
)
@pytest.mark.parametrize("chunks", [1, 2])
def test_the_recipes_top_up(recipe, whole, key, chunks, prepared, tiny_model, tmp_path):
    shutil.copytree(prepared / "tiny", tmp_path / "tiny")
    group = "teacher" if recipe == "generate" else "evaluate"
    with scripted() as script:
        base = [
            *tiny_experiment(tiny_model, tmp_path), "teacher=model", f"{group}.engine=openai", "evaluate.subjects=[base]",
            f"{group}.engine.dialect=vllm", f"{group}.engine.server.base_url={script.base_url}",
            f"{group}.engine.server.model_name=scripted", f"{recipe}.chunks={chunks}", f"{group}.sampling.max_new_tokens=12",
            f"{group}.engine.server.neutral=true",
        ]  # fmt: skip
        for samples, new in ((4, range(4)), (8, range(4, 8)), (3, range(0))):
            overrides = [*base, f"{key}={samples}"]
            run = run_directory(load_config(overrides))
            if samples == 8:
                (step,) = [s for s in plan_chain(graph(load_config(overrides)), run) if s.stage.name == whole]
                assert any(reason.startswith("keeps what is there with") for reason in step.reasons), step
            done = recipe_here(recipe, *overrides)
            assert done.returncode == 0, done.stderr
            seeds = {body["seed"] for body in script.bodies}
            first = load_config(overrides).generate.seed if recipe == "generate" else load_config(overrides).evaluate.seed
            assert seeds == {first + number for number in new}, "a seed that was there was drawn again"
            script.bodies.clear()
            rows = [json.loads(line) for line in (run.stage(whole) / GENERATIONS).read_text().splitlines()]
            ids = list(dict.fromkeys(row["problem_id"] for row in rows))
            assert [(r["problem_id"], r["sample"]) for r in rows] == [(p, s) for p in ids for s in range(samples)]


def test_traces_out_of_a_file_are_read_again(tiny_model, tmp_path):
    """They come all at once, whatever the number."""
    cfg = load_config([*tiny_experiment(tiny_model, tmp_path), "teacher=file", f"teacher.path={tmp_path}/x.jsonl"])
    assert graph(cfg).stages["generate"].earlier is None
