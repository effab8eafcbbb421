"""The cluster's keys: what sbatch may be given, and what looks like a secret."""

from __future__ import annotations

import dataclasses

import pytest

from nemo_cot.config.cluster import SlurmCluster
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from tests.experiment.test_config import SLURM, refusal


@pytest.fixture(scope="module")
def slurm() -> SlurmCluster:
    return load_config(SLURM).cluster


def test_options_of_sbatch_that_the_chain_rests_on_are_refused(slurm):
    assert refusal(*SLURM, "cluster.sbatch_arguments=['--output=x']").where == "cluster.sbatch_arguments"
    for option in (
        "--output=x", "--outp=x", "--array=0-3", "--export=ALL", "--no-requeue", "--dependency=after:1", "--depend=after:1",
        "--job-name=x", "--signal=TERM@9", "--parsable", "--wrap=ls", "--hold", "--partition=x", "--gpus-per-node=9",
    ):  # fmt: skip
        with pytest.raises(UserError, match="the launcher's own"):
            dataclasses.replace(slurm, sbatch_arguments=[option])
    others = ["--mail-type=FAIL", "--nice=5", "--mem-per-cpu=2G", "--gres=tmp:1", "--exclude=n1"]
    assert dataclasses.replace(slurm, sbatch_arguments=others).sbatch_arguments == others


def test_variables_that_look_like_secrets_are_written_nowhere(slurm, monkeypatch):
    for name in (
        "HF_TOKEN", "GITHUB_PAT", "HFTOKEN", "OPENAI_KEY1", "WANDB_API_KEY", "MYSECRET", "DB_PASS", "passphrase", "PGPASSWORD",
        "MYSQL_PWD", "AWS_CREDENTIALS",
    ):  # fmt: skip
        with pytest.raises(UserError, match="looks like a secret"):
            dataclasses.replace(slurm, environment={name: "x"})
    monkeypatch.setenv("HF_TOKEN", "the-value")
    error = refusal("report.title=${oc.env:HF_TOKEN}")
    assert error.where == "report.title" and "HF_TOKEN" in error.what and "the-value" not in str(error)


def test_other_variables_are_written_one_at_a_time():
    names = ["TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "LD_LIBRARY_PATH", "TORCH_COMPAT", "BYPASS"]
    cluster = load_config([*SLURM, *(f"cluster.environment.{name}=x y" for name in names)]).cluster
    assert cluster.environment == dict.fromkeys(names, "x y")
    assert "looks like a secret" in refusal(*SLURM, "cluster.environment.HF_TOKEN=x").what


def test_a_variable_that_a_profile_passes_to_jobs_is_taken_for_a_secret(monkeypatch):
    monkeypatch.setenv("MY_LOGIN", "the-value")
    title = "report.title=${oc.env:MY_LOGIN}"
    assert load_config([*SLURM, title]).report.title == "the-value"
    assert "MY_LOGIN" in refusal(*SLURM, title, "cluster.pass_environment=[PATH,MY_LOGIN]").what
    assert load_config([*SLURM, "report.title=${oc.env:NONESUCH,else}"]).report.title == "else"
