"""What a submitted chain leaves in RUN/slurm: submission.json, and a file per job on how it ended.

Standard library only: the runner inside of a job uses it as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from nemo_cot.errors import UserError

FOLDER = "slurm"
SUBMISSION = "submission.json"
DRY_RUN_FOLDER = "dry-run"
"""The files of a dry run lie here, apart from those that queued jobs read."""
_STATE = "state"
_DAMAGED = (ValueError, TypeError, KeyError, RecursionError)


class Making:
    """What makes ``stage``, then the stages ``also``; of an array each task its chunk of them."""

    stage: str
    also: Sequence[str]

    @property
    def stages(self) -> list[str]:
        """All that it makes."""
        return [self.stage, *self.also]

    @property
    def recipe(self) -> str:
        """The script that it runs."""
        return self.stage.partition("/")[0]


@dataclass(frozen=True)
class SubmittedJob(Making):
    """``id`` is empty where sbatch has given none; ``log`` is the file name pattern, relative to the folder;
    ``array``: the chunks of its stages that its tasks make.
    """

    key: str
    stage: str
    id: str
    after: list[str]
    log: str
    array: list[int]
    also: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Submission:
    """One call of `nemo-cot submit`, to the ``cluster`` of that name (Slurm's ClusterName). ``recipes`` is the
    whole chain, with those that were finished already.
    """

    submitted_at: str
    cluster: str
    code: str
    overrides: list[str]
    recipes: list[str]
    jobs: list[SubmittedJob]

    @property
    def whole(self) -> bool:
        """Whether the id of every job is known: submit was not killed halfway."""
        return all(job.id for job in self.jobs)


@dataclass(frozen=True)
class Attempt:
    """What a job reported of itself. ``exit_code`` None: it has not ended in order (yet). ``faults``: of all attempts."""

    id: str
    node: str
    started: str
    restarts: int
    exit_code: int | None = None
    ended: str = ""
    faults: int = 0


def folder_of(run: Path) -> Path:
    """Where the job files, logs and records of a run lie."""
    return run / FOLDER


def comment_of(run: Path) -> str:
    """What marks the jobs of a run in the queue."""
    return "nemo-cot:" + hashlib.sha256(os.fsencode(run)).hexdigest()[:16]


def write_json(path: Path, content: Any) -> None:
    """Atomically; text that is not UTF-8 (a file name) survives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")
    os.replace(temporary, path)


def write_submission(run: Path, submission: Submission | None) -> None:
    """Replace the record of the last chain; None removes it."""
    if submission is None:
        (folder_of(run) / SUBMISSION).unlink(missing_ok=True)
    else:
        write_json(folder_of(run) / SUBMISSION, asdict(submission))


def read_submission(run: Path) -> Submission | None:
    """The last chain that was submitted; None without one. Raises UserError for a damaged record."""
    path = folder_of(run) / SUBMISSION
    try:
        return _read(Submission, json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except _DAMAGED as error:
        raise UserError(
            f"damaged record of the submitted chain ({type(error).__name__}: {error})",
            where=str(path),
            fix="remove it; nemo-cot cancel finds jobs that are left in the queue all the same",
        ) from None


def write_attempt(run: Path, key: str, attempt: Attempt) -> None:
    """``key`` of an array's task: KEY-NNN."""
    write_json(folder_of(run) / _STATE / f"{key}.json", asdict(attempt))


def read_attempt(run: Path, key: str, job: str) -> Attempt | None:
    """What the job ``job`` reported last; None when it reported nothing, or an earlier one did."""
    try:
        attempt = _read(Attempt, json.loads((folder_of(run) / _STATE / f"{key}.json").read_bytes()))
    except (FileNotFoundError, *_DAMAGED):
        return None
    return attempt if attempt.id == job else None


def _read(wanted: Any, content: Any) -> Any:
    """``content`` of a JSON file as a ``wanted``: a dataclass, a list, a plain type. Raises one of _DAMAGED."""
    if get_origin(wanted) is list:
        return [_read(get_args(wanted)[0], item) for item in _read(list, content)]
    if is_dataclass(wanted):
        types = get_type_hints(wanted)
        return wanted(**{name: _read(types[name], item) for name, item in _read(dict, content).items()})
    if not isinstance(content, wanted):
        raise TypeError(f"not of type {wanted}")
    return content


def task_key(key: str, task: int | str) -> str:
    """The key of one task of an array."""
    return f"{key}-{int(task):03d}"


def log_file(run: Path, job: SubmittedJob, task: int | None = None) -> Path:
    """Where Slurm writes the output of a job, or of a task of it."""
    name = job.log.replace("%A", job.id).replace("%j", job.id).replace("%a", str(task))
    return folder_of(run) / name
