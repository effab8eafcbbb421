"""kill -9 at many moments of every stage; the same command again makes the same artifacts."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chain.forks import Ended, Forks
from tests.support import RECIPES, digests, nemo_cot, tiny_experiment, wait_for

STAGES = {name: (name,) for name in RECIPES} | {
    "evaluate": ("evaluate/base", "evaluate/trained", "evaluate/scores")
}
MOMENTS = 2
"""Kills of each stage, its first and its last call that changes the disk before its publication; those at the
publication come on top."""


@dataclass(frozen=True)
class Reference:
    """A chain that nobody disturbed."""

    run: Path
    overrides: list[str]
    digests: dict[str, str]
    calls: dict[str, list[str]]
    seconds: dict[str, float]

    def elsewhere(self, runs_dir: Path) -> list[str]:
        """The same command for another directory."""
        return [*self.overrides, f"runs_dir={runs_dir}"]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as server:
        yield server


@pytest.fixture(scope="module")
def reference(forks: Forks, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    runs = tmp_path_factory.mktemp("reference")
    overrides = tiny_experiment(tiny_model, runs)
    calls, seconds = {}, {}
    for name in RECIPES:
        started = time.monotonic()
        ended = forks.run(name, overrides)
        assert ended.code == 0, ended.output
        calls[name], seconds[name] = ended.calls, time.monotonic() - started
    made = digests(runs / "tiny")
    assert {
        "problems/train.jsonl",
        "pack/sequences.jsonl",
        "train/model/model.safetensors",
        "train/metrics.jsonl",
        "evaluate/base/generations.jsonl",
        "evaluate/trained/generations.jsonl",
    } <= made.keys()
    return Reference(runs / "tiny", overrides, made, calls, seconds)


def up_to(reference: Reference, recipe: str, runs: Path) -> Path:
    """A run directory in which all that comes before ``recipe`` is done."""
    run = runs / "tiny"
    later = {name.partition("/")[0] for r in RECIPES[RECIPES.index(recipe) :] for name in STAGES[r]}
    shutil.copytree(
        reference.run,
        run,
        ignore=lambda folder, names: later & set(names) if folder == str(reference.run) else (),
    )
    return run


def finished(run: Path, recipe: str) -> bool:
    return all((run / stage / "manifest.json").exists() for stage in STAGES[recipe])


def leftovers(run: Path) -> list[Path]:
    return [p for p in run.rglob("*") if ".partial-" in p.name or p.name.endswith((".old", ".tmp"))]


def assert_same(reference: Reference, run: Path, recipe: str, again: Ended) -> None:
    """The recipe's own artifacts, and those of the stages before it, are the undisturbed ones."""
    assert again.code == 0, again.output
    assert leftovers(run) == []
    made = digests(run)
    done = tuple(s + "/" for r in RECIPES[: RECIPES.index(recipe) + 1] for s in STAGES[r])
    assert made == {path: digest for path, digest in reference.digests.items() if path.startswith(done)}
    if recipe == "report":
        assert (run / "report" / "report.html").stat().st_size > 1000


def moments(calls: list[str]) -> list[int]:
    """Some calls of the whole stage, and all from the publication's rename on."""
    publication = max(i for i, call in enumerate(calls) if call.startswith("rename "))
    spread = {round(i * (publication - 1) / (MOMENTS - 1)) for i in range(MOMENTS)}
    return sorted(spread | set(range(publication, min(publication + 3, len(calls)))))


def first_of(calls: list[str], start: str) -> int:
    return next(i for i, call in enumerate(calls) if call.startswith(start))


@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_between_any_two_writes(recipe, reference, forks, tmp_path):
    chosen = moments(reference.calls[recipe])
    assert len(chosen) > MOMENTS
    for moment in chosen:
        run = up_to(reference, recipe, tmp_path / str(moment))
        overrides = reference.elsewhere(run.parent)
        killed = forks.run(recipe, overrides, kill_at=moment)
        assert killed.code == -signal.SIGKILL, f"not killed at call {moment}: {killed.output}"
        assert_same(reference, run, recipe, forks.run(recipe, overrides))


def test_killed_again_and_again(reference, forks, tmp_path):
    """Each attempt of the training gets some calls further than the last; what it had is used."""
    run = up_to(reference, "train", tmp_path)
    overrides = reference.elsewhere(tmp_path)
    after_a_checkpoint = first_of(reference.calls["train"], "rename ") + 1
    attempts = [forks.run("train", overrides, kill_at=after_a_checkpoint) for _ in range(3)]
    assert [ended.code for ended in attempts] == [-signal.SIGKILL] * 3
    assert all("[train] resumes; attempt" in ended.output for ended in attempts[1:])
    last = forks.run("train", overrides)
    saves = [sum(call.startswith("rename ") for call in calls) for calls in (last.calls, reference.calls["train"])]
    assert saves[0] < saves[1], "it did not go on from a checkpoint"
    assert_same(reference, run, "train", last)


WATCHED = {
    "train, first checkpoint": ("train", "train.partial-*/scratch/checkpoints/step-*/state.safetensors"),
    "train, export": ("train", "train.partial-*/model/config.json"),
    "evaluate, first batch of trained": ("evaluate", "evaluate/trained.partial-*/generations.jsonl"),
    "evaluate, scores begun": ("evaluate", "evaluate/scores.partial-*/.attempt.json"),
    "grade, begun": ("grade", "grade.partial-*/.attempt.json"),
}


@pytest.mark.parametrize("recipe, pattern", WATCHED.values(), ids=WATCHED)
def test_killed_from_outside_when_a_file_appears(recipe, pattern, reference, forks, tmp_path):
    for attempt in range(20):  # a kill may come too late: only one that hits unfinished work counts
        run = up_to(reference, recipe, tmp_path / str(attempt))
        pid = forks.begin(recipe, reference.elsewhere(run.parent))
        wait_for(
            lambda run=run: any(p.stat().st_size for p in run.glob(pattern)) or finished(run, recipe),
            every=0.0005,
        )
        if not finished(run, recipe):
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(pid, signal.SIGKILL)
        code = forks.end().code
        if code == -signal.SIGKILL and not finished(run, recipe):
            assert_same(reference, run, recipe, forks.run(recipe, reference.elsewhere(run.parent)))
            return
    pytest.fail("the kill never hit unfinished work")


def test_killed_from_outside_at_some_time(reference, forks, tmp_path):
    """One run, every stage killed once on the way, early or late."""
    run, hits = tmp_path / "tiny", 0
    overrides = reference.elsewhere(tmp_path)
    for number, recipe in enumerate(RECIPES):
        seconds = (0.25, 0.5, 0.75)[number % 3] * reference.seconds[recipe]
        for _ in range(4):  # the machine may be less busy now than when the reference was made
            if killed_after(seconds, recipe, overrides, run, forks):
                hits += 1
                break
            seconds /= 2
            for stage in STAGES[recipe]:
                shutil.rmtree(run / stage, ignore_errors=True)
        assert_same(reference, run, recipe, forks.run(recipe, overrides))
    assert hits >= len(RECIPES) // 2, f"only {hits} stages were still at work"
    assert digests(run) == reference.digests


def killed_after(seconds: float, recipe: str, overrides: list[str], run: Path, forks: Forks) -> bool:
    """Whether the stage was still at work then, and was killed."""
    pid = forks.begin(recipe, overrides)
    time.sleep(seconds)
    if not finished(run, recipe):
        with suppress(ProcessLookupError):  # it has ended since
            os.kill(pid, signal.SIGKILL)
    return forks.end().code == -signal.SIGKILL


def test_sampling_teacher_killed_after_its_first_batch(reference, forks, tmp_path):
    teacher = [
        "teacher=model",
        "teacher.sampling.batch_size=4",
        "teacher.sampling.max_new_tokens=8",
        "teacher.sampling.precision=fp32",
    ]
    whole = up_to(reference, "generate", tmp_path / "whole")
    undisturbed = forks.run("generate", [*reference.elsewhere(whole.parent), *teacher])
    assert undisturbed.code == 0, undisturbed.output
    run = up_to(reference, "generate", tmp_path / "killed")
    overrides = [*reference.elsewhere(run.parent), *teacher]
    batch = first_of(undisturbed.calls, "fsync generations.jsonl")
    for _ in range(2):
        assert forks.run("generate", overrides, kill_at=batch + 1).code == -signal.SIGKILL
    again = forks.run("generate", overrides)
    assert again.code == 0 and "[generate] resumes" in again.output
    assert digests(run / "generate") == digests(whole / "generate")
    assert len((run / "generate" / "generations.jsonl").read_text().splitlines()) == 24


def test_replacing_an_older_result_survives_kills(reference, forks, tmp_path):
    """Back to a former config: the old result stays, or the new one is there, at every kill."""
    run = up_to(reference, "evaluate", tmp_path)
    overrides = reference.elsewhere(tmp_path)
    other = forks.run("train", [*overrides, "train.optim.lr=1e-3"])
    assert other.code == 0 and "train.optim.lr: 0.0003 -> 0.001" in other.output
    other_weights = digests(run / "train")["model/model.safetensors"]
    assert other_weights != reference.digests["train/model/model.safetensors"]
    shutil.copytree(run, tmp_path / "whole" / "tiny")
    calls = forks.run("train", reference.elsewhere(tmp_path / "whole")).calls
    old = first_of(calls, "rename train")
    for moment in range(old, min(old + 6, len(calls))):
        there = reference.elsewhere(tmp_path / str(moment))
        shutil.copytree(run, tmp_path / str(moment) / "tiny")
        assert forks.run("train", there, kill_at=moment).code == -signal.SIGKILL
        assert_same(reference, tmp_path / str(moment) / "tiny", "train", forks.run("train", there))


def test_the_real_command_twice_in_fresh_directories(reference, tmp_path):
    """nemo-cot run, in processes of its own, makes what the forked recipes made."""
    done = nemo_cot("run", *reference.elsewhere(tmp_path))
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "tiny") == reference.digests
    assert leftovers(tmp_path / "tiny") == []
    assert (tmp_path / "tiny" / "report" / "report.md").exists()
