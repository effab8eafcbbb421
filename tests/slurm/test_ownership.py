"""Whose jobs are a run's: a made-up Slurm answers, and says what was cancelled. No Slurm is needed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.cancel import cancel_chain
from nemo_cot.launchers.slurm.live import chain_states, live_jobs_of, refuse_live_jobs
from nemo_cot.launchers.slurm.record import (
    Attempt,
    Submission,
    SubmittedJob,
    comment_of,
    folder_of,
    read_attempt,
    read_submission,
    write_attempt,
    write_submission,
)
from nemo_cot.launchers.slurm.status import submitted_tables
from nemo_cot.launchers.status import print_status
from nemo_cot.stages import RunDirectory
from tests.slurm.hostile import hostile_strings


@dataclass
class MadeUp:
    """A cluster of that name. ``queue``: comment by id, of jobs that run; ``ended``: of those that did."""

    name: str
    queue: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    accounts: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)

    def call(self, arguments: Sequence[str], **_: object) -> str:
        match list(arguments):
            case ["scontrol", "show", "config"]:
                return f"Configuration data\nClusterName             = {self.name}\n"
            case ["scontrol", "show", "job", _, job]:
                return "".join(
                    f"JobId={i} JobName=x UserId=me(1) JobState={state} Reason=None NodeList=node1 ExitCode=3:0 "
                    f"WorkDir=/a Comment=b Comment={said}  StdErr=/dev/null Power= \n"
                    for jobs, state in ((self.queue, "RUNNING"), (self.ended, "FAILED"))
                    for i, said in jobs.items()
                    if i.partition("_")[0] == job
                )
            case ["squeue", *_]:
                return "".join(f"{i}|RUNNING|None|1:00|node1|{said}\n" for i, said in self.queue.items())
            case ["sacct", *_]:
                return "\n".join(self.accounts)
            case ["scancel", "--quiet", *ids]:
                self.cancelled |= set(ids)
                return ""
        raise AssertionError(arguments)


def submitted(run: Path, ids: Sequence[str], cluster: str = "here") -> Submission:
    """A submission of jobs with ``ids``, written down."""
    jobs = [SubmittedJob(f"job{n}", "train", i, [], "logs/%j.log", []) for n, i in enumerate(ids)]
    submission = Submission("2026-01-01T00:00:00+00:00", cluster, "code", [], ["train"], jobs)
    write_submission(run, submission)
    return submission


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run that cancel finds, without a config to compose."""
    (tmp_path / "quickstart").mkdir()
    found = RunDirectory(tmp_path / "quickstart")
    monkeypatch.setattr("nemo_cot.launchers.slurm.cancel.find_directory", lambda _: found)
    return found.path


def cancel(run: Path) -> None:
    cancel_chain([])


def use(monkeypatch: pytest.MonkeyPatch, slurm: MadeUp) -> MadeUp:
    monkeypatch.setattr(scheduler, "call", slurm.call)
    return slurm


def test_of_50_made_up_queues_cancel_touches_all_of_ours_and_none_of_others(run, monkeypatch, capsys):
    """Others' jobs have ids of ours, marks that look like ours, or, on another cluster, both."""
    draw, mark, texts = random.Random(11), comment_of(run), hostile_strings()
    foreign = ["", "(null)", mark[:-1], f"{mark}x", f"{mark} too", f"x {mark}", comment_of(run / "other")]
    for _ in range(50):
        ids = [str(i) for i in draw.sample(range(1, 40), 8)]
        submission = submitted(run, ids)
        slurm = use(monkeypatch, MadeUp(draw.choice(["here", "here", "there"])))
        ours = set(draw.sample(ids, draw.randint(0, 8))) if slurm.name == "here" else set()
        for job in range(1, 40):
            tasks = [f"{job}_{n}" for n in range(draw.randint(1, 3))] if draw.random() < 0.2 else [str(job)]
            said = draw.choice(foreign + [t for t in texts if "\n" not in t and "\r" not in t])
            if str(job) in ours:
                said = mark
            elif (str(job) not in ids or slurm.name == "there") and draw.random() < 0.3:
                said = mark  # submitted by hand, or by a run at the same path of another cluster
            if str(job) in ours or draw.random() < 0.7:
                slurm.queue |= dict.fromkeys(tasks, said)
        if slurm.name == "there":
            with pytest.raises(UserError, match="was submitted to the cluster here, and this is there"):
                cancel(run)
            with pytest.raises(UserError, match="this is there"):
                chain_states(run, submission)
        else:
            cancel(run)
            states = chain_states(run, submission)
            assert {job for job, found in states.items() if found} == ours
        assert slurm.cancelled == ours
        assert {state.id.partition("_")[0] for state in live_jobs_of(run)} == ours
        try:
            refuse_live_jobs(run)
        except UserError as error:
            assert ours and "queued or running" in str(error)
        else:
            assert not ours
    capsys.readouterr()


@pytest.mark.parametrize("ids", [None, ["7", ""]], ids=["no record", "a submission that was killed halfway"])
def test_where_ids_are_not_known_the_mark_alone_counts(run, monkeypatch, ids):
    if ids is not None:
        submitted(run, ids)
    slurm = use(monkeypatch, MadeUp("here", {"7": comment_of(run), "8_1": comment_of(run), "9": "another's"}))
    cancel(run)
    assert slurm.cancelled == {"7", "8"}


def test_an_ended_job_counts_by_its_mark_and_in_accounts_without_comments_by_its_name(run, monkeypatch):
    submission = submitted(run, ["5", "6", "7", "8"])
    accounts = [
        "7|FAILED|None|1:00|node1|3:0||quickstart.job2", "8|FAILED|None|1:00|node1|3:0||my.other|job3",
    ]  # fmt: skip
    use(monkeypatch, MadeUp("here", {}, {"5": comment_of(run), "6": f"{comment_of(run)} x"}, accounts))
    found = chain_states(run, submission)
    assert {job: [s.state for s in states] for job, states in found.items()} == {
        "5": ["FAILED"], "6": [], "7": ["FAILED"], "8": [],
    }  # fmt: skip


def test_status_on_another_cluster_says_so_and_goes_by_what_the_jobs_reported(run, monkeypatch, capsys):
    submitted(run, ["5", "6"], cluster="there")
    write_attempt(run, "job0", Attempt("5", "node7", "", 0, 2, "now"))
    use(monkeypatch, MadeUp("here", {"5": comment_of(run), "6": comment_of(run)}))
    monkeypatch.setenv("COLUMNS", "250")
    assert print_status([f"runs_dir={run.parent}", f"name={run.name}", "--watch"]) == 0, "it does not wait"
    said = capsys.readouterr().out
    assert "submitted to the cluster there, and this is here" in " ".join(said.split())
    assert "running" not in said.replace("nothing is running", "") and "node7" in said


def test_no_variable_sends_a_command_to_another_cluster_or_hides_jobs(monkeypatch, tmp_path):
    (tmp_path / "squeue").write_text("#!/bin/sh\nenv | sed 's/^/1|RUNNING|/;s/$/||||/'\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("SLURM_CLUSTERS", "SQUEUE_STATES", "SQUEUE_PARTITION"):
        monkeypatch.setenv(name, "other")
    monkeypatch.setenv("SLURM_CONF", "kept")
    said = [state.reason for state in scheduler.live_jobs()]
    assert "SLURM_CONF=kept" in said and not [line for line in said if line.endswith("=other")]


def damaged_records() -> list[bytes]:
    """JSON of every wrong type in every place, and text that is none."""
    whole = {
        "submitted_at": "", "cluster": "here", "code": "", "overrides": [], "recipes": ["train"],
        "jobs": [{"key": "k", "stage": "train", "id": "7", "after": [], "log": "l", "array": [0]}],
    }  # fmt: skip
    found = [b"", b"[1]", b"null", b'{"jobs": [', b"\xff\xfe", b"[" * 200_000, b'{"a": ' * 100_000]
    for wrong in (None, 7, "text", [[]], {"a": 1}, [None]):
        for key in whole:
            found.append(json.dumps({**whole, key: wrong}).encode())
        for key in whole["jobs"][0]:
            found.append(json.dumps({**whole, "jobs": [{**whole["jobs"][0], key: wrong}]}).encode())
    for key in whole:
        found.append(json.dumps({k: v for k, v in whole.items() if k != key}).encode())
    return found


def test_a_damaged_record_is_one_line_in_every_verb_or_read_as_it_is(run, monkeypatch, capsys):
    use(monkeypatch, MadeUp("here"))
    verbs = (cancel, lambda run: submitted_tables(RunDirectory(run)))
    refused = 0
    for content in damaged_records():
        folder_of(run).mkdir(exist_ok=True)
        (folder_of(run) / "submission.json").write_bytes(content)
        for verb in verbs:
            try:
                verb(run)
            except UserError as error:
                if "the cluster text" not in error.what:
                    assert "damaged record" in error.what and error.where.endswith("submission.json")
                    refused += 1
    assert refused > 100
    capsys.readouterr()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b'{"id": 7}', b'{"exit_code": "x"}', b"3"])
def test_a_damaged_report_of_a_job_counts_for_none(run, content):
    write_attempt(run, "train", Attempt("7", "", "", 0))
    assert read_attempt(run, "train", "7") is not None and read_attempt(run, "train", "8") is None
    (folder_of(run) / "state" / "train.json").write_bytes(content)
    assert read_attempt(run, "train", "7") is None


def test_what_is_written_is_read_again(run):
    submission = submitted(run, ["5", "6"])
    assert read_submission(run) == submission and submission.whole
    write_submission(run, None)
    assert read_submission(run) is None
