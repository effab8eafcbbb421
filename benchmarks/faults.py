"""Seeded faults in the files, the overrides and the machine of a finished run; no command may end in a traceback.

Usage: python benchmarks/faults.py [--count N] [--first SEED] [--seed SEED]
--seed repeats one fault and prints all that its command said.

Every fault starts from a copy of the same run of the tiny experiment (tests/tiny.py), in which training,
sampling and sampling over a server have also been killed halfway, and a chain has been submitted. One thing
is broken, then one command runs: a verb, or a recipe alone. Exit codes: 0 it went on, or never read the broken
thing; 2 a mistake of the user; 3 a fault of the machine or a server; 75 stopped, can resume; 1 a bug.

Files without permissions need a user who lacks root's power over them: root gives it up (setpriv).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from broken import break_path, mangled
from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nemo_cot.launchers.slurm.record import (  # noqa: E402
    Attempt,
    Submission,
    SubmittedJob,
    comment_of,
    log_file,
    write_attempt,
    write_submission,
)
from tests.chain.forks import Forks, TooLong  # noqa: E402
from tests.scripted_server import scripted  # noqa: E402
from tests.support import RECIPES, environment, tiny_experiment  # noqa: E402
from tests.tiny import write_tiny_model  # noqa: E402

SECONDS = 90
"""Bound of one command; longer counts as a bug."""
CLI = "nemo_cot.launchers.cli"
NO_BUG = ("0", "2", "3", "75", "library")
VERBS = {
    "recipe": 8, "run": 2, "plan": 3, "show": 1, "status": 2, "report": 3, "compare": 3, "grade": 2, "logs": 2,
    "cancel": 2, "submit": 2,
}  # fmt: skip
"""Weights of the draw."""
LIGHT = ("plan", "show", "status", "report", "compare", "logs", "cancel", "submit")
TRACEBACK = "Traceback (most recent call last)"
_LIBRARIES = ("OpenBLAS error: Memory allocation", "Fatal Python error")
"""With these words a library ends the process itself, and Python sees no exception: counted apart."""
_SLURM = {
    "scontrol": 'echo "ClusterName             = made-up"',
    "squeue": 'test -z "$LIVE" || echo "101|RUNNING|None|1:00|node1|COMMENT"',
    "sacct": ":",
    "scancel": ":",
    "sbatch": "echo 111",
    "sinfo": 'echo "up"',
}
"""A cluster of shell scripts: one job of the run is running, except where that alone would stop the command."""


@dataclass(frozen=True)
class Fault:
    """What was broken, and the command that met it. ``address_space``: its limit, in bytes."""

    what: str
    verb: str
    command: list[str]
    address_space: int | None = None


@dataclass(frozen=True)
class Bench:
    """The folder in which every fault is made (``work``), what it is copied from, and the server of forks."""

    work: Path
    pristine: Path
    forks: Forks
    overrides: list[str]
    served: list[str]

    @property
    def given(self) -> dict[str, str]:
        """Overrides that name files of the user: by key, what of the run they hold."""
        return {
            "problems.train_path": "problems/train.jsonl",
            "problems.heldout_path": "problems/heldout.jsonl",
            "teacher.path": "generate/generations.jsonl",
        }

    @property
    def run(self) -> Path:
        """The run directory that is broken."""
        return self.work / "runs" / "tiny"

    def restore(self) -> None:
        """Undo every fault."""
        for folder, names, _ in os.walk(self.work):
            for name in names:
                if not os.path.islink(os.path.join(folder, name)):
                    os.chmod(os.path.join(folder, name), 0o755)
        shutil.rmtree(self.work)
        shutil.copytree(self.pristine, self.work, symlinks=True)

    def call(self, module: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """The command, with the made-up Slurm first on its path."""
        return self.forks.command(module, arguments, self.environment(arguments), self.work)

    def environment(self, arguments: Sequence[str]) -> dict[str, str]:
        """That of a command with these arguments."""
        live = "" if {"run", "submit"} & set(arguments) else "1"
        return environment(PATH=f"{self.work / 'bin'}{os.pathsep}{os.environ['PATH']}", LIVE=live)


def main() -> None:
    """Make the faults, and print a table, the tracebacks, and how to repeat each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    _give_up_roots_power()
    seeds = (
        range(arguments.first, arguments.first + arguments.count)
        if arguments.seed is None
        else [arguments.seed]
    )
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    print(describe_machine(), flush=True)
    started, bugs = time.monotonic(), []
    with _bench() as bench:
        print(f"prepared in {time.monotonic() - started:.0f} s", flush=True)
        for seed in seeds:
            bench.restore()
            fault = draw_fault(bench, random.Random(seed))
            outcome, said = meet(bench, fault)
            counts[fault.verb][outcome] += 1
            bad = outcome not in NO_BUG
            if bad or arguments.seed is not None:
                bugs += [seed] * bad
                shown = said if arguments.seed is not None else said[-1500:]
                print(f"--seed {seed}: {fault.verb}, {fault.what}: {outcome}\n{shown}", flush=True)
    print(_table(counts))
    print(
        f"{sum(map(sum, map(collections.Counter.values, counts.values())))} faults, {len(bugs)} tracebacks {bugs}"
    )
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(bool(bugs))


def _give_up_roots_power() -> None:
    """Over files without permissions. Started again once, by setpriv."""
    if os.geteuid() or "FAULTS_AS_USER" in os.environ:
        return
    capabilities = "-dac_override,-dac_read_search"
    os.environ["FAULTS_AS_USER"] = "1"
    os.execvp(
        "setpriv",
        ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities, sys.executable, *sys.argv],
    )


def _table(counts: dict[str, collections.Counter[str]]) -> str:
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter})
    lines = [f"{'verb':10}" + "".join(f"{outcome:>12}" for outcome in outcomes)]
    for verb in sorted(counts):
        lines.append(f"{verb:10}" + "".join(f"{counts[verb][outcome]:12}" for outcome in outcomes))
    return "\n".join(lines)


@contextlib.contextmanager
def _bench() -> Iterator[Bench]:
    """A finished run with three stages that were killed halfway, and a submission."""
    with (
        tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as top,
        scripted("tiny") as server,
        Forks(Path(top), SECONDS) as forks,
    ):
        work = Path(top) / "work"
        model = write_tiny_model(work / "model")
        overrides = tiny_experiment(model, work / "runs")
        served = [
            "evaluate.engine=openai", "evaluate.subjects=[base]", f"evaluate.engine.server.base_url={server.base_url}",
            "evaluate.engine.server.neutral=true", "evaluate.engine.server.model_name=tiny", "evaluate.engine.retries=1",
            "evaluate.engine.max_concurrent_requests=1", "evaluate.engine.server.connect_deadline_seconds=1",
        ]  # fmt: skip
        bench = Bench(work, Path(top) / "pristine", forks, overrides, served)
        for name in RECIPES:
            _prepare(forks, name, overrides)
        _write_slurm(bench)
        for module, more in (
            (CLI, ["run", *overrides]),
            (CLI, ["submit", "--dry-run", "cluster=slurm_minimal", *overrides]),
        ):
            done = bench.call(module, more)
            assert done.returncode == 0, done.stdout + done.stderr
        for name, more in (
            ("train", ["train.optim.lr=3e-5"]), ("evaluate", ["evaluate.seed=7"]), ("evaluate", served),
        ):  # fmt: skip
            _kill_halfway(bench, name, [*overrides, *more])
        _submit(bench.run)
        for key, file in bench.given.items():
            shutil.copyfile(bench.run / file, work / f"{key}.jsonl")
        shutil.copytree(work, bench.pristine, symlinks=True)
        yield bench


def _prepare(forks: Forks, name: str, overrides: Sequence[str]) -> list[str]:
    ended = forks.run(name, overrides)
    assert ended.code == 0, ended.output
    return ended.calls


def _kill_halfway(bench: Bench, name: str, overrides: Sequence[str]) -> None:
    """Leave the partial folder of a stage of ``name`` behind, beside what was finished before."""
    kept = bench.work.with_name("kept")
    shutil.copytree(bench.run, kept)
    calls = _prepare(bench.forks, name, overrides)
    shutil.rmtree(bench.run)
    kept.rename(bench.run)
    published = next(at for at, call in enumerate(calls) if "manifest" in call)
    ended = bench.forks.run(name, overrides, kill_at=published * 2 // 3)
    assert ended.code < 0, ended.output
    assert list(bench.run.rglob(".attempt.json")), "no partial folder is left"


def _write_slurm(bench: Bench) -> None:
    (bench.work / "bin").mkdir()
    for name, said in _SLURM.items():
        script = bench.work / "bin" / name
        script.write_text(f"#!/bin/sh\n{said.replace('COMMENT', comment_of(bench.run))}\n")
        script.chmod(0o755)


def _submit(run: Path) -> None:
    """A record of a chain of which one job runs, and the logs of its jobs."""
    jobs = [
        SubmittedJob(name, name, str(101 + at), [str(100 + at)] if at else [], f"logs/{name}-%j.log", [])
        for at, name in enumerate(RECIPES)
    ]
    write_submission(run, Submission("2026-01-01T00:00:00+00:00", "made-up", "code", [], list(RECIPES), jobs))
    for job in jobs[:3]:
        write_attempt(run, job.key, Attempt(job.id, "node1", "2026-01-01T00:00:00+00:00", 0, 0))
        log_file(run, job).parent.mkdir(parents=True, exist_ok=True)
        log_file(run, job).write_text("a line\n" * 30)


def draw_fault(bench: Bench, draw: random.Random) -> Fault:
    """Break one thing, and name the command that is to meet it."""
    verb = draw.choices(list(VERBS), list(VERBS.values()))[0]
    kind = draw.random()
    if kind < 0.08 and verb in LIGHT:
        limit = draw.randrange(40, 200) << 20
        module, head, overrides = _command(bench, draw, verb, None)
        return Fault(f"{limit >> 20} MiB of address space", verb, [module, *head, *overrides], limit)
    if kind < 0.25:
        module, head, overrides = _command(bench, draw, verb, None)
        text = mangled(draw, overrides, bench.run / "config.yaml")
        return Fault(repr(text), verb, [module, *head, *overrides, text])
    path = _target(bench, draw)
    what = break_path(path, draw)
    inside = path.relative_to(bench.run if path.is_relative_to(bench.run) else bench.work)
    stage = inside.parts[0].partition(".")[0] if inside.parts else None
    module, head, overrides = _command(bench, draw, verb, stage)
    return Fault(f"{path.relative_to(bench.work)} {what}", verb, [module, *head, *overrides])


def _command(
    bench: Bench, draw: random.Random, verb: str, stage: str | None
) -> tuple[str, list[str], list[str]]:
    """Module, arguments and overrides of a command that reads ``stage`` (or problems, or a teacher, of files),
    or (None) any.
    """
    overrides = list(bench.overrides)
    name = draw.choice(RECIPES[RECIPES.index(stage) :] if stage in RECIPES else RECIPES)
    if stage in ("problems", "teacher") and draw.random() < 0.6:
        name = draw.choice(["problems", "generate"])
        overrides += [
            "problems=file",
            "teacher=file",
            *(f"{key}={bench.work / key}.jsonl" for key in bench.given),
        ]
    elif name == "evaluate":
        overrides += draw.choice([[], ["evaluate.seed=7"], bench.served])
    elif name == "train":
        overrides += draw.choice([[], ["train.optim.lr=3e-5"]])
    match verb:
        case "recipe":
            return f"nemo_cot.recipes.{name}", [], overrides
        case "run":
            return CLI, ["run"], [*overrides, f"launcher.stages=[{name}]"]
        case "compare":
            files = ["--json", str(bench.work / "compared.json")] if draw.random() < 0.3 else []
            runs = draw.choice([["tiny:base", "tiny"], ["tiny", "tiny:base"]])
            return CLI, ["compare", *runs, *files], [f"runs_dir={bench.work / 'runs'}"]
        case "grade":
            source = draw.choice(["generate/generations.jsonl", "evaluate/base/generations.jsonl"])
            return CLI, ["grade", str(bench.run / source), str(bench.work / "out.jsonl")], ["grade.workers=1"]
        case "submit":
            return CLI, ["submit", "--dry-run"], ["cluster=slurm_minimal", *overrides]
        case "status" | "logs" | "cancel" | "report":
            return CLI, [verb], [f"runs_dir={bench.work / 'runs'}", "name=tiny"]
    return CLI, [verb], overrides


def _target(bench: Bench, draw: random.Random) -> Path:
    """A file or a folder: first the kind of file is drawn, so that the few manifests weigh as much as the rest."""
    kinds: dict[str, list[Path]] = collections.defaultdict(list)
    for path in sorted(bench.work.rglob("*")):
        if "bin" in path.relative_to(bench.work).parts[:1]:
            kinds["bin"].append(path)
        elif path.is_dir():
            kinds["folder"].append(path)
        elif ".partial-" in str(path) and not path.name.startswith("."):
            kinds["partial"].append(path)
        elif "model" in path.parts:
            kinds[f"model {path.suffix}"].append(path)
        elif path.parent == bench.work:
            kinds["given"].append(path)
        elif path.parent.name in ("slurm", "state", "dry-run", "logs"):
            kinds[path.parent.name].append(path)
        else:
            kinds[path.name if path.suffix in (".json", ".yaml") else path.suffix].append(path)
    return draw.choice(kinds[draw.choice(sorted(kinds))])


def meet(bench: Bench, fault: Fault) -> tuple[str, str]:
    """Run the command: its exit code, or "traceback" or "endless", and what it said."""
    try:
        if fault.address_space is None:
            done = bench.call(fault.command[0], fault.command[1:])
        else:
            done = _limited(bench, fault)
    except (TooLong, subprocess.TimeoutExpired):
        return "endless", ""
    said = done.stdout + done.stderr
    if TRACEBACK in said:
        return "traceback", said
    gave_up = done.returncode == 1 and any(words in said for words in _LIBRARIES)
    return "library" if gave_up else str(done.returncode), said


def _limited(bench: Bench, fault: Fault) -> subprocess.CompletedProcess[str]:
    """A process of its own: the limit counts what a fork has imported."""
    return subprocess.run(
        ["prlimit", f"--as={fault.address_space}", sys.executable, "-m", *fault.command],
        env=bench.environment(fault.command),
        cwd=bench.work, capture_output=True, text=True, errors="replace", timeout=SECONDS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
