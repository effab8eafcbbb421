"""evaluate.sets: further held-out sets of a run, each sampled, scored, compared and reported by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import run_stages, tiny_experiment

CHAIN = ("convert", "problems", "generate", "grade", "curate", "pack", "train", "evaluate", "report")
FOUR = [
    "evaluate.sets.four.problems=chain_sum", "evaluate.sets.four.problems.terms=4",
    "evaluate.sets.four.problems.num_heldout=2", "evaluate.sets.four.problems.num_train=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run without further sets, finished; its overrides."""
    overrides = tiny_experiment(tiny_model, tmp_path_factory.mktemp("sets") / "runs")
    return run_stages(overrides, *CHAIN), overrides


def test_adding_a_set_to_a_finished_run_draws_that_set_alone(finished):
    run, overrides = finished
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("manifest.json") if "report" not in p.parts}
    run_stages([*overrides, *FOUR], *CHAIN)
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())
    new = {str(p.parent.relative_to(run.path)) for p in run.path.rglob("manifest.json")} - {str(p.parent.relative_to(run.path)) for p in before} - {"report"}
    assert new == {"problems.sets/four", "evaluate/four/base", "evaluate/four/trained", "evaluate/four/scores"}
