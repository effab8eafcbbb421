"""Slurm's own commands: sbatch, squeue, scontrol, sacct, scancel. Argument lists, bounded, never a shell.

Standard library only: the runner inside of a job uses it as well.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_cot.errors import Fault, UserError

SECONDS = 60.0
"""Bound of every call: a controller that does not answer must not hang a command."""
LIVE = {
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
    "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT", "RESV_DEL_HOLD",
}  # fmt: skip
"""States of jobs that run, or may run yet."""


@dataclass(frozen=True)
class JobState:
    """What Slurm says of a job, or of a task of an array (``id`` 12_3). Empty where it says nothing.

    ``name`` is given by the accounting alone, which keeps comments on few clusters.
    """

    id: str
    state: str
    reason: str = ""
    elapsed: str = ""
    node: str = ""
    exit_code: str = ""
    comment: str = ""
    name: str = ""

    @property
    def live(self) -> bool:
        """Whether it runs or may run yet."""
        return self.state in LIVE


def call(
    arguments: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Standard output of a command. Raises UserError with the command's own words when it fails, and Fault
    when Slurm does not answer.
    """
    environment = _unfiltered(os.environ) if environment is None else environment
    try:
        done = subprocess.run(
            arguments, cwd=cwd, env=environment, capture_output=True, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError(
            f"there is no {arguments[0]} here",
            where="Slurm",
            fix="run this on a login node of the cluster; `nemo-cot submit --dry-run` needs no Slurm",
        ) from None
    except subprocess.TimeoutExpired:
        raise Fault(
            f"no answer within {SECONDS:.0f} s",
            where=Path(arguments[0]).name,
            fix="look at `sinfo`, and run the same command again later",
        ) from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise _refusal(Path(arguments[0]).name, said or f"exit code {done.returncode}")
    return done.stdout.decode(errors="replace")


def _unfiltered(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the variables that send a command to another cluster, or hide jobs from it."""
    others = ("SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_", "SACCT_", "SLURM_CLUSTERS")
    return {name: value for name, value in environment.items() if not name.startswith(others)}


_UNREACHABLE = (
    "unable to contact slurm",
    "configuration source",
    "configuration file",
    "connection",
    "timed out on send/recv",
)
"""Parts of what Slurm's commands say when no controller answers."""
_CLOSED = "partition not available"


def _refusal(command: str, said: str) -> UserError:
    """Slurm's own words, and what to do about them."""
    if any(part in said.lower() for part in _UNREACHABLE):
        fix = "run the same command again when `scontrol ping` says UP; is SLURM_CONF right?"
        return Fault(said, where=command, fix=fix)
    if _CLOSED in said.lower():
        fix = "run the same command again when `sinfo -s` shows the partition up, or set cluster.partition"
        return Fault(said, where=command, fix=fix)
    hints = {
        "account": "set cluster.account to one of `sacctmgr show associations user=$USER format=account`",
        "partition": "set cluster.partition to one of `sinfo -s`",
        "qos": "set cluster.qos to one of `sacctmgr show qos format=name`",
        "reservation": "set cluster.reservation to one of `scontrol show reservation`",
        "container": "set cluster.container.runtime: this cluster has no pyxis",
        "feature": "set cluster.constraint to features that `sinfo -o %f` shows",
        "node configuration": "ask for less in cluster.resources",
        "time limit": "lower the stage's time_limit in cluster.resources",
        "gres": "correct gpus_per_node and cluster.gpu_type",
    }
    fix = next((fix for word, fix in hints.items() if word in said.lower()), "correct the cluster profile")
    return UserError(said, where=command, fix=fix)


def cluster_name() -> str:
    """The name of the cluster whose controller answers here. Raises UserError as :func:`call`."""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", call(["scontrol", "show", "config"]), re.MULTILINE)
    if found is None:
        raise UserError("says no ClusterName", where="scontrol show config", fix="correct slurm.conf")
    return found[1]


@dataclass(frozen=True)
class Nodes:
    """How many nodes a partition has, and how many of them take jobs now."""

    there: int = 0
    up: int = 0


_AWAY = ("down", "drain", "fail", "inval", "maint", "unk", "reboot")
"""Beginnings of the states of nodes that take no jobs; a star behind any state: it does not respond."""


def partitions() -> dict[str, Nodes]:
    """The nodes of each partition by its name, of the default one also by an empty name."""
    found: dict[str, Nodes] = {}
    for line in call(["sinfo", "--noheader", "--format=%P|%T|%D"]).splitlines():
        partition, state, count = line.split("|")
        up = not state.startswith(_AWAY) and "*" not in state
        for name in (partition.rstrip("*"), *([""] if partition.endswith("*") else [])):
            nodes = found.get(name, Nodes())
            found[name] = Nodes(nodes.there + int(count), nodes.up + int(count) * up)
    return found


def live_jobs() -> list[JobState]:
    """The user's own jobs that are queued or running; a line per task of an array."""
    output = call(["squeue", "--noheader", "--me", "--array", "--format=%i|%T|%r|%M|%N|%k"])
    rows = [line.split("|", 5) for line in output.splitlines() if line.count("|") >= 5]
    return [
        JobState(i, state, reason, elapsed, node, "", comment)
        for i, state, reason, elapsed, node, comment in rows
    ]


def job_states(ids: Iterable[str]) -> dict[str, list[JobState]]:
    """What is known of each job id: from squeue, then scontrol, then sacct where there is accounting."""
    wanted = list(ids)
    found: dict[str, list[JobState]] = {i: [] for i in wanted}
    for state in live_jobs():
        _file(found, state)
    for job in wanted:
        known = {state.id for state in found[job]}
        found[job] += [state for state in _scontrol(job) if state.id not in known]
    gone = [job for job in wanted if not found[job]]
    for state in _sacct(gone) if gone else []:
        _file(found, state)
    return found


def _file(found: dict[str, list[JobState]], state: JobState) -> None:
    job = state.id.partition("_")[0]
    if job in found:
        found[job].append(state)


def _scontrol(job: str) -> list[JobState]:
    try:
        output = call(["scontrol", "show", "job", "--oneliner", job])
    except UserError:  # purged from the controller's memory
        return []
    return [_parsed(line) for line in output.splitlines() if line.startswith("JobId=")]


def _parsed(line: str) -> JobState:
    """A line of scontrol. The first match counts, but for the comment, which stands behind paths: these may hold
    anything.
    """

    def value(key: str) -> str:
        found = re.search(rf" {key}=(\S*)", line)
        return found[1] if found else ""

    job, task = value("ArrayJobId"), value("ArrayTaskId")
    own = line.split()[0].removeprefix("JobId=")
    node = value("NodeList")
    comment = re.match(r".* Comment=(.*?)\s*(?: [A-Z]\w*=|$)", line)
    return JobState(
        id=f"{job}_{task}" if job and task else own,
        state=value("JobState"),
        reason=value("Reason"),
        elapsed=value("RunTime"),
        node="" if node == "(null)" else node,
        exit_code=value("ExitCode"),
        comment=comment[1] if comment else "",
    )


def _sacct(ids: Sequence[str]) -> list[JobState]:
    fields = "JobID,State,Reason,Elapsed,NodeList,ExitCode,Comment,JobName"
    command = [
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        f"--jobs={','.join(ids)}",
        f"--format={fields}",
    ]
    try:
        rows = [line.split("|", 7) for line in call(command).splitlines()]
    except UserError:  # no accounting on this cluster
        return []
    states = [JobState(*row) for row in rows if len(row) == 8]
    return [
        replace(s, state=s.state.split()[0], node="" if s.node == "None assigned" else s.node)
        for s in states
        if s.state
    ]


def sbatch(arguments: Sequence[str], script: Path, environment: Mapping[str, str]) -> str:
    """Submit ``script`` from its own folder; returns the job id. Raises UserError with sbatch's words."""
    # The folder is the job's working directory, so the file needs no path of its own.
    # By its path: PATH may not be among the variables.
    command = [shutil.which("sbatch") or "sbatch", "--parsable", *arguments, script.name]
    answer = call(command, cwd=script.parent, environment=environment).strip().partition(";")[0]
    if not answer.isdigit():
        raise UserError(
            f"it answered {answer!r} instead of a job id", where="sbatch", fix="look at `squeue --me`"
        )
    return answer


_MOST_IDS = 100
"""Job ids in one call."""
NOT_YET = "--begin=now+30days"
"""Keeps a job from starting until :func:`release`. A held one is not looked at so closely: what asks for more
than any node has would be taken, and wait for ever. sbatch --test-only refuses what fits, too, while nodes are
down or drained (22.05).
"""


def release(ids: Sequence[str]) -> None:
    """Let jobs that were submitted with :data:`NOT_YET` start."""
    for start in range(0, len(ids), _MOST_IDS):
        call(["scontrol", "update", f"JobId={','.join(ids[start : start + _MOST_IDS])}", "StartTime=now"])


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs; those that have ended are passed over."""
    for start in range(0, len(ids), _MOST_IDS):
        call(["scancel", "--quiet", *ids[start : start + _MOST_IDS]])


def requeue(environment: Mapping[str, str]) -> None:
    """Put this very job (or task of an array) back into the queue."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    call(["scontrol", "requeue", f"{array}_{task}" if array else environment["SLURM_JOB_ID"]])


def first_node(environment: Mapping[str, str]) -> str | None:
    """The name of the first node of this job: where the ranks of a training meet."""
    nodes = environment.get("SLURM_JOB_NODELIST")
    if not nodes:
        return None
    return call(["scontrol", "show", "hostnames", nodes]).split()[0]


def chosen(names: Iterable[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of sbatch, which jobs take over as a whole: what is named, and the way to Slurm.

    Not --export=NAMES, with which the node runs a login shell for the user's environment and merges
    it in. What an salloc shell sets, or SBATCH_..., would be obeyed; it is left out.
    """
    kept = {name for name in names if not name.startswith(("SLURM_", "SBATCH_"))}
    return {name: environment[name] for name in sorted(kept | {"SLURM_CONF"}) if name in environment}
