"""nemo-cot logs on files that jobs are writing; no Slurm is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.launchers.slurm import logs
from nemo_cot.launchers.slurm.record import Submission, SubmittedJob, write_submission


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of job 7, which has written 300 lines and half of the next one; no job is in the queue any more."""
    run = tmp_path / "quickstart"
    job = SubmittedJob("train", "train", "7", [], "logs/train-%j.log", [])
    write_submission(run, Submission("2026-01-01T00:00:00+00:00", "test", "code", [], ["train"], [job]))
    path = run / "slurm" / "logs" / "train-7.log"
    path.parent.mkdir()
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(300)) + b"ha")
    monkeypatch.setattr(logs, "live_jobs_of", lambda run: [])
    monkeypatch.setattr(logs, "_LOOK_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(logs, "_EVERY_SECONDS", 0.05)
    return path


def _said(capsys: pytest.CaptureFixture[str], log: Path) -> list[str]:
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"==> {log}"
    return lines


def test_nothing_is_lost_of_what_is_written_while_the_tail_is_printed(log, tmp_path, monkeypatch, capsys):
    """A slow terminal: the job goes on writing meanwhile, and ends the line that was half there."""
    say, rest = logs._say, [b"lf\n", *(b"line %d\n" % n for n in range(301, 400)), b"end"]

    def slowly(line: bytes) -> None:
        say(line)
        with open(log, "ab") as handle:
            handle.write(rest.pop(0) if rest else b"")

    monkeypatch.setattr(logs, "_say", slowly)
    logs.print_logs(["train", "--follow", f"runs_dir={tmp_path}", "name=quickstart"])
    expected = [
        *(f"line {n}" for n in range(100, 300)),
        "half",
        *(f"line {n}" for n in range(301, 400)),
        "end",
    ]
    assert _said(capsys, log) == expected


def test_the_last_lines_are_printed_with_the_one_that_is_being_written(log, tmp_path, capsys):
    logs.print_logs([f"runs_dir={tmp_path}", "name=quickstart"])
    assert _said(capsys, log) == [*(f"line {n}" for n in range(100, 300)), "ha"]


@pytest.mark.parametrize("arguments", [
    ["quickstart"], ["quickstart", "train"], ["{}/quickstart", "train"], ["train", "name=quickstart"],
    ["train", "experiment=quickstart"], ["quickstart", "train", "experiment=quickstart"], ["experiment=quickstart"],
])  # fmt: skip
def test_the_run_comes_first_as_of_other_verbs_and_a_job_alone_is_that_of_the_run_in_the_overrides(
    log, tmp_path, capsys, arguments
):
    logs.print_logs([*(a.format(tmp_path) for a in arguments), *([] if "/" in arguments[0] else [f"runs_dir={tmp_path}"])])
    assert _said(capsys, log)[-1] == "ha"


def test_a_job_alone_is_that_of_the_default_run_unless_a_run_has_its_name(log, tmp_path, capsys):
    (tmp_path / "quickstart").rename(tmp_path / "default")
    logs.print_logs(["train", f"runs_dir={tmp_path}"])
    assert _said(capsys, tmp_path / "default/slurm/logs/train-7.log")
    for arguments, words in ((["trian"], "no such run"), (["default", "trian"], "there is no job"), (["a", "b", "c"], "both the run a and b")):
        with pytest.raises(UserError, match=words):
            logs.print_logs([*arguments, f"runs_dir={tmp_path}"])
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="nothing was submitted"):
        logs.print_logs(["train", f"runs_dir={tmp_path}"])


@pytest.mark.parametrize("content", [b"", b'{"jobs": [', b"[1]", b"null", b'{"jobs": [{"a": 1}]}', b"\xff"])
def test_a_damaged_record_of_the_chain_is_named(log, tmp_path, content):
    record = tmp_path / "quickstart" / "slurm" / "submission.json"
    record.write_bytes(content)
    with pytest.raises(UserError, match="damaged record") as caught:
        logs.print_logs([f"runs_dir={tmp_path}", "name=quickstart"])
    assert caught.value.where == str(record)
