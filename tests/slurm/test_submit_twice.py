"""Two submissions at once, by stand-ins of Slurm's commands: a queue that is a folder, a file a job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.io import hashing
from nemo_cot.launchers.slurm.record import Submission, SubmittedJob, comment_of, write_submission
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import run_lock
from tests.slurm.conftest import PROFILE
from tests.support import SECONDS, environment, nemo_cot, tiny_experiment, wait_for

SBATCH = """\
#!/bin/bash
for ((id = 1; ; id++)); do mkdir "$QUEUE/$id" 2>/dev/null && break; done
sed -n 's/^#SBATCH --comment=//p' "${@: -1}" > "$QUEUE/$id/comment"
sleep 0.2
echo $id
"""
SQUEUE = """\
#!/bin/bash
for job in "$QUEUE"/*/; do
    [ -s "$job/comment" ] && echo "$(basename "$job")|PENDING|None|0:00||$(cat "$job/comment")"
done
touch "$LOOKED/$PPID"
exit 0
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """The environment of submissions that find the stand-ins."""
    folder = tmp_path / "bin"
    for place in (folder, tmp_path / "queue", tmp_path / "looked"):
        place.mkdir()
    for name, text in (
        ("sbatch", SBATCH),
        ("squeue", SQUEUE),
        ("scontrol", "#!/bin/sh\necho ClusterName = here\n"),
        ("sinfo", "#!/bin/sh\necho 'batch*|idle|2'\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return environment(
        PATH=f"{folder}:{os.environ['PATH']}", QUEUE=str(tmp_path / "queue"), LOOKED=str(tmp_path / "looked")
    )


@pytest.mark.parametrize("verb", ["submit", "run"])
def test_what_is_queued_while_it_waits_for_the_lock_is_seen_by_the_stand_in_queue(
    stand_ins, tiny_model, tmp_path, verb
):
    """The test is the other submission: it holds the lock, and gives it back with a job in the queue."""
    run = tmp_path / "runs" / "tiny"
    begun = SubmittedJob("problems", "problems", "", [], "logs/problems.log", [])
    write_submission(run, Submission("2026-01-01T00:00:00+00:00", "here", "code", [], ["problems"], [begun]))
    overrides = [*tiny_experiment(tiny_model, Path("runs")), *PROFILE, "launcher.stages=[problems]"]
    with run_lock(run):
        process = subprocess.Popen(
            [sys.executable, "-m", "nemo_cot.launchers.cli", verb, *overrides],
            cwd=tmp_path, env=stand_ins, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(lambda: list((tmp_path / "looked").iterdir()))
        (tmp_path / "queue" / "7").mkdir()
        (tmp_path / "queue" / "7" / "comment").write_text(comment_of(run) + "\n")
    said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2 and "queued or running: jobs 7 (pending)" in said[1], said
    assert not (run / "slurm" / "01-problems.sbatch").exists() and not (run / "problems").exists()


def test_of_two_submissions_at_once_one_is_refused_by_the_stand_in_queue(stand_ins, tiny_model, tmp_path):
    """The second waits for the lock, which the first gives back with its jobs in the queue."""
    overrides = [
        *tiny_experiment(tiny_model, Path("runs")), *PROFILE, "launcher.stages=[problems]",
        "cluster.pass_environment=[PATH,QUEUE,LOOKED]",
    ]  # fmt: skip
    command = [sys.executable, "-m", "nemo_cot.launchers.cli", "submit", *overrides]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=stand_ins, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=SECONDS) for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    refused = said[[process.returncode for process in both].index(2)][1]
    # By the lock, where the first one takes longer than the second waits for it.
    assert "a submitted chain is queued or running" in refused or "in use by process" in refused
    assert len(list((tmp_path / "queue").iterdir())) == 1
    assert len(list((tmp_path / "looked").iterdir())) == 2, "both looked at the queue"


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_dry_run_leaves_alone_what_queued_jobs_will_read(stand_ins, tiny_model, tmp_path):
    """And the config of the run, whether it was submitted or done here. It says that submit would be refused."""
    overrides = [
        *tiny_experiment(tiny_model, Path("runs")), *PROFILE, "cluster.pass_environment=[PATH,QUEUE,LOOKED]",
    ]  # fmt: skip
    done = nemo_cot("submit", *overrides, cwd=tmp_path, **stand_ins)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "tiny"
    before = _contents(run)
    assert any(name.endswith("07-train.json") for name in before) and "config.yaml" in before
    again = nemo_cot(
        "submit", *overrides, "train.optim.lr=9e-1", "launcher.stages=[train,report]", "--dry-run",
        cwd=tmp_path, **stand_ins,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "warning: submit would be refused now" in again.stdout and "queued or running" in again.stdout
    after = _contents(run)
    assert {name: after.get(name) for name in before} == before
    assert "train.optim.lr=9e-1" in (run / "slurm" / "dry-run" / "01-train.json").read_text()


def test_logs_may_lie_elsewhere_and_a_dry_run_makes_no_folder_there(stand_ins, tiny_model, tmp_path):
    logs = tmp_path / "logs"
    overrides = [
        *tiny_experiment(tiny_model, Path("runs")), *PROFILE, f"cluster.log_dir={logs}",
        "cluster.pass_environment=[PATH,QUEUE,LOOKED]", "launcher.stages=[problems]",
    ]  # fmt: skip
    for more, there in ((["--dry-run"], False), ([], True)):
        done = nemo_cot("submit", *overrides, *more, cwd=tmp_path, **stand_ins)
        assert done.returncode == 0, done.stderr
        assert (logs / "tiny").is_dir() == there


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_where_everything_is_finished_nothing_is_submitted(stand_ins, tiny_model, tmp_path, more):
    overrides = [*tiny_experiment(tiny_model, Path("runs")), "launcher.stages=[problems]"]
    assert nemo_cot("run", *overrides, cwd=tmp_path).returncode == 0
    done = nemo_cot("submit", *overrides, *PROFILE, *more, cwd=tmp_path, **stand_ins)
    assert done.returncode == 0 and "there is nothing to submit" in done.stdout, done.stderr
    assert list((tmp_path / "queue").iterdir()) == []


def test_no_chunk_job_hashes_the_teacher_that_submit_has_hashed(stand_ins, tiny_model, tmp_path, monkeypatch):
    """Counted: the files that the jobs' own processes would read to hash."""
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_model, teacher)
    (teacher / "extra.bin").write_bytes(bytes(3 << 20))  # as large as a shard, for the memory of digests
    overrides = [
        *tiny_experiment(tiny_model, tmp_path / "runs"), *PROFILE, "launcher.stages=[problems,convert,generate]",
        "teacher=model", f"teacher.path={teacher}", "generate.chunks=2", "generate.samples_per_problem=2",
        "cluster.resources.generate.gpus_per_node=null", "cluster.pass_environment=[PATH,QUEUE,LOOKED]",
    ]  # fmt: skip
    command = [sys.executable, "-m", "nemo_cot.launchers.cli", "submit", *overrides]
    done = subprocess.run(command, cwd=tmp_path, env=stand_ins, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    hashed: list[Path] = []
    digest = hashing.sha256_of
    monkeypatch.setattr(hashing, "sha256_of", lambda path: (hashed.append(path), digest(path))[1])
    cfg = load_config(overrides)
    stages = graph(cfg).stages
    chunks = [stage for name, stage in stages.items() if "/chunk-" in name]
    assert len(chunks) == 2
    for chunk in chunks:
        run = RunDirectory(tmp_path / "runs" / "tiny")
        run.hasher().sha256(run.resolve(chunk.inputs["teacher"], "teacher"))
    assert teacher / "extra.bin" not in hashed
    (teacher / "extra.bin").write_bytes(bytes(4 << 20))
    RunDirectory(tmp_path / "runs" / "tiny").hasher().sha256(teacher)
    assert teacher / "extra.bin" in hashed, "the count sees what is hashed"
