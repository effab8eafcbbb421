"""kill -9 of a study at ten moments: it resumes, does no shared stage twice, and ends with the same table.

    python benchmarks/study_kills.py [--kills 10] [--jobs 1] [--slurm]

A study of four runs of a random model, once undisturbed, then with kills, after each of which the same command goes on
until the next. Local: the whole process group, after each share of the time that the undisturbed one took. ``--slurm``
(root, Debian's Slurm packages): on a cluster of two nodes started here, in turn the submitting process, after a part of
the time that a submission takes, and all processes of a job that runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.slurm.cluster import Cluster, lacking  # noqa: E402
from tests.support import tiny_experiment  # noqa: E402
from tests.tiny import write_tiny_model  # noqa: E402

RUNS = 4
SHARED = ("convert", "problems", "generate", "grade", "evaluate/base")


def write_study(folder: Path) -> None:
    model = write_tiny_model(folder / "model")
    common = [o for o in tiny_experiment(model, folder) if not o.startswith(("name=", "runs_dir="))]
    runs = {"right": ["train.global_batch_size=3"], "wrong": ["train.global_batch_size=3", "curate.verdicts=[wrong]"]}
    study = {"overrides": common, "runs": runs, "baseline": "right", "repeats": {"train.seed": [1, 2]}}
    (folder / "study").mkdir()
    (folder / "study/small.yaml").write_text(json.dumps(study))


def start(folder: Path, runs: Path, verb: str, *more: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "nemo_cot.launchers.cli", verb, "study=small", f"runs_dir={runs}", *more]
    environment = {**os.environ, "NEMO_COT_CONFIG_DIR": str(folder), "PYTHONPATH": str(ROOT), **environment}
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def table(runs: Path) -> dict:
    return json.loads((runs / "small/study.json").read_text())


def makers(runs: Path) -> dict[str, int]:
    """How many runs did the work of each shared stage."""
    return {
        stage: sum(
            json.loads(path.read_text())["reused_from"] is None
            for path in (runs / "small").glob(f"*/{stage}/manifest.json")
        )
        for stage in SHARED
    }


def killed_after(process: subprocess.Popen, seconds: float) -> bool:
    """Whether it still ran then, and was killed with all its processes."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def local(folder: Path, kills: int, jobs: int) -> tuple[int, int]:
    """The kills that met a running study, and the exit code of the last run."""
    started = time.monotonic()
    code = start(folder, folder / "whole", "run", "--jobs", str(jobs)).wait()
    seconds = time.monotonic() - started
    print(f"undisturbed: exit code {code}, {seconds:.0f} s", flush=True)
    cut = ("run", "--jobs", str(jobs))
    killed = sum(killed_after(start(folder, folder / "cut", *cut), seconds / kills) for _ in range(kills))
    return killed, start(folder, folder / "cut", *cut).wait()


def on_slurm(folder: Path, kills: int) -> tuple[int, int]:
    """As :func:`local`, with submissions and their jobs."""
    rng = random.Random(0)
    with Cluster(folder / "cluster") as cluster:
        environment = {key: cluster.environment[key] for key in ("SLURM_CONF", "PATH")}

        def submit(runs: Path) -> subprocess.Popen:
            return start(folder, runs, "submit", "cluster=slurm_minimal", **environment)

        def running() -> list[str]:
            return cluster.call("squeue", "--noheader", "--states=R", "--format=%i").split()

        def drained(runs: Path, seconds: float = 1800) -> bool:
            """Wait until no job waits or runs; whether the study is finished."""
            end = time.monotonic() + seconds
            while cluster.call("squeue", "--noheader", "--format=%i").split() and time.monotonic() < end:
                time.sleep(1)
            return len(list((runs / "small").glob("*/evaluate/scores/manifest.json"))) == RUNS

        started = time.monotonic()
        code = submit(folder / "whole").wait()
        seconds = time.monotonic() - started
        print(f"undisturbed: submitted with exit code {code} in {seconds:.0f} s, finished: {drained(folder / 'whole')}", flush=True)
        killed = 0
        for number in itertools.count():
            if number >= 3 * kills or killed == kills:
                break
            if number % 2 == 0:
                killed += killed_after(submit(folder / "cut"), rng.uniform(0.2, 1.0) * seconds)
                continue
            submit(folder / "cut").wait()
            time.sleep(rng.uniform(0, 10))
            if jobs := running():
                cluster.call("scancel", "--full", "--signal=KILL", rng.choice(jobs), check=False)
                killed += 1
            print(f"{killed} kills", flush=True)
        submit(folder / "cut").wait()
        if not drained(folder / "cut"):
            submit(folder / "cut").wait()
            print("finished: ", drained(folder / "cut"))
        for runs in ("whole", "cut"):
            code = start(folder, folder / runs, "report", **environment).wait()
    return killed, code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--slurm", action="store_true")
    chosen = parser.parse_args()
    if chosen.slurm and (reason := lacking()):
        parser.error(f"no Slurm here: {reason}")
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the pretend nodes' jobs run as their user
        write_study(folder)
        killed, code = on_slurm(folder, chosen.kills) if chosen.slurm else local(folder, chosen.kills, chosen.jobs)
        same = table(folder / "cut") == table(folder / "whole")
        print(f"killed {killed} times, then: exit code {code}, same table: {same}, done by so many runs: {makers(folder / 'cut')}")
        if not same:
            sys.stdout.write((folder / "log").read_text()[-4000:])


if __name__ == "__main__":
    main()
