"""How each stage of a submitted chain ended, for the report: the file that the local launcher writes too.

Standard library only: the runner inside of the report's job uses it.
"""

from __future__ import annotations

from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.io.paths import CHAIN_FILE
from nemo_cot.launchers.slurm.live import chain_states
from nemo_cot.launchers.slurm.record import (
    Submission,
    SubmittedJob,
    read_attempt,
    read_submission,
    task_key,
    write_json,
)
from nemo_cot.launchers.slurm.scheduler import JobState

_GOOD = "ok"


def write_chain_file(run: Path) -> None:
    """Write RUN/chain.json: stage, outcome and exit code of each stage but the report."""
    submission = read_submission(run)
    if submission is not None:
        write_json(run / CHAIN_FILE, stage_ends(run, submission))


def stage_ends(run: Path, submission: Submission) -> list[dict]:
    """A stage without a job was finished before. One whose jobs never started needs another that failed."""
    states = _states(run, submission)
    ends = {job.key: _job_end(run, job, states.get(job.id, [])) for job in submission.jobs}
    jobs = {job.key: job for job in submission.jobs}
    rows = []
    for recipe in submission.recipes:
        own = [key for key, job in jobs.items() if job.recipe == recipe]
        if recipe != "report":
            rows.append(_stage_end(recipe, own, ends, jobs))
    return rows


def _states(run: Path, submission: Submission) -> dict[str, list[JobState]]:
    try:
        return chain_states(run, submission)
    except UserError:
        return {}


def _stage_end(stage: str, own: list[str], ends: dict[str, tuple], jobs: dict[str, SubmittedJob]) -> dict:
    bad = next((ends[key] for key in own if ends[key][0] == "failed"), None)
    bad = bad or next((ends[key] for key in own if ends[key][0] != _GOOD), (_GOOD, 0))
    outcome, code = bad
    if outcome == "not run":
        outcome = f"not run: it needs {_culprit(own, ends, jobs)}"
    return {"stage": stage, "outcome": outcome, "exit_code": code}


def _culprit(own: list[str], ends: dict[str, tuple], jobs: dict[str, SubmittedJob]) -> str:
    """The stage of the first job before these that did not end well."""
    before, seen = list(own), set()
    while before:
        key = before.pop()
        seen.add(key)
        if ends[key][0] not in (_GOOD, "not run"):
            return jobs[key].recipe
        before += [k for k in jobs[key].after if k not in seen]
    return "a stage that did not run"


def _job_end(run: Path, job: SubmittedJob, states: list[JobState]) -> tuple[str, int | None]:
    """ok, failed or not run, and the exit code: by what the job reported, then by what Slurm says."""
    tasks = [(task_key(job.key, t), f"{job.id}_{t}") for t in job.array] or [(job.key, job.id)]
    found = [_task_end(run, key, i, states) for key, i in tasks]
    return next(
        (end for end in found if end[0] == "failed"), next((e for e in found if e[0] != _GOOD), (_GOOD, 0))
    )


def _task_end(run: Path, key: str, job: str, states: list[JobState]) -> tuple[str, int | None]:
    said = read_attempt(run, key, job)
    if said is not None and said.exit_code is not None:
        return (_GOOD if said.exit_code == 0 else "failed"), said.exit_code
    if said is None:
        return "not run", None
    code = next((s.exit_code for s in states if s.id == job), "").partition(":")[0]
    return "failed", int(code) if code.isdigit() and code != "0" else None  # killed before it could say
