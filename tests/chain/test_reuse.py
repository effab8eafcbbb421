"""A chain that reuses what another run has: one set of solutions for all ablations."""

from __future__ import annotations

from pathlib import Path

from nemo_cot.stages.manifest import read_manifest
from tests.support import digests, nemo_cot, tiny_experiment

REUSED = ("convert", "problems", "generate", "grade", "curate", "pack")


def test_another_training_reuses_everything_before_it(packed: Path, tiny_model: Path, tmp_path: Path):
    overrides = tiny_experiment(tiny_model, tmp_path, name="ablation")
    stages = f"launcher.stages=[{','.join(REUSED)},train]"
    before = digests(packed)
    done = nemo_cot(
        "run", *overrides, stages, f"reuse=[{packed}]", "train.optim.lr=5e-4", "train.max_steps=2"
    )
    assert done.returncode == 0, done.stderr
    assert [f"[{s}] reused from tiny" in done.stdout for s in REUSED] == [True] * len(REUSED), done.stdout
    assert "[train] runs" in done.stdout and "will be replaced" not in done.stdout
    run = tmp_path / "ablation"
    generations = "generate/generations.jsonl"
    assert (run / generations).samefile(packed / generations)
    assert read_manifest(run / "generate").reused_from == str(packed)
    reused = {k: v for k, v in digests(run).items() if not k.startswith(("train/", "."))}
    assert digests(packed) == before == reused
    again = nemo_cot("run", *overrides, stages, "train.optim.lr=1e-3", "train.max_steps=2")
    assert again.returncode == 0 and again.stdout.count("done, skipped") == len(REUSED), again.stdout
    told = [line for line in again.stdout.splitlines() if "will be replaced" in line]
    assert len(told) == 1 and "train (train.optim.lr: 0.0005 -> 0.001)" in told[0]
    assert "reuse=[ablation]" in told[0] and again.stdout.index(told[0]) < again.stdout.index("[convert]")
