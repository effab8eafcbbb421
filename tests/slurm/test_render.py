"""What jobs ask for, and what is copied for them; no Slurm is needed."""

from __future__ import annotations

import re
import subprocess

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import CONF, load_config
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.render import Chain, render_script, sbatch_options
from nemo_cot.launchers.slurm.snapshot import snapshot
from nemo_cot.launchers.slurm.submit import _check_nodes
from nemo_cot.training.backend import job_size
from tests.slurm.test_jobs import ALIGNER, config, jobs_of


def test_merges_and_the_check_of_a_model_ask_for_no_gpus(tmp_path):
    cpu = ["cluster.resources.cpu.partition=cpus", 'cluster.resources.cpu.time_limit="00:30:00"']
    cfg = load_config(
        ["cluster=slurm_8xh100", "experiment=quickstart", "generate.chunks=2", "evaluate.chunks=2", *cpu]
    )
    jobs = jobs_of(cfg)
    gpus = {key for key, job in jobs.items() if job_size(cfg, job)[1]}
    sampling = {"generate-chunks", "evaluate-base-chunks", "evaluate-trained-chunks"}
    assert gpus - {"train"} == sampling and {"generate", "evaluate-base", "convert"} <= set(jobs)
    chain = Chain(cfg, tmp_path / "run", tmp_path / "code", tmp_path, (), False)
    for key, job in jobs.items():
        here = {"--partition=cpus", "--time=00:30:00"} & set(sbatch_options(job, chain))
        assert len(here) == (0 if key in {*sampling, "train"} else 2), key


def test_one_piece_samples_where_it_merges_with_gpus(tmp_path):
    cfg = load_config(["cluster=slurm_8xh100", "experiment=quickstart"])
    jobs = jobs_of(cfg)
    assert job_size(cfg, jobs["generate"]) == job_size(cfg, jobs["evaluate-base"]) == (1, 8)
    assert job_size(cfg, jobs["evaluate-scores"]) == (1, None)


@pytest.mark.parametrize("sinfo, outcome", [
    ("batch*|idle|2", None),
    ("batch*|mixed|1\nbatch*|planned|1\nbatch*|down*|5", None),
    ("batch*|drained|2", "note: 0 of 2 nodes are up where problems (and 8 more) will run"),
    ("batch*|idle*|1\nbatch*|drained*|1", "note: 0 of 2 nodes are up where problems (and 8 more)"),
    ("batch*|idle|1\nbatch*|draining|1", "note: 1 of 2 nodes are up where train will run"),
    ("batch*|idle|1\nother|idle|9", "cluster.resources.train.nodes: 2 nodes, and the partition has 1"),
    ("other|idle|9", None),
])  # fmt: skip
def test_what_waits_for_nodes_is_told_from_what_waits_for_ever(monkeypatch, capsys, sinfo, outcome):
    """By `sinfo`; the training wants two nodes, the rest one."""
    monkeypatch.setattr(scheduler, "call", lambda _: sinfo + "\n")
    cfg = config([*ALIGNER, "cluster.resources.train.nodes=null", "train.layout.num_nodes=2"])
    jobs = [job for job in jobs_of(cfg).values() if job.recipe not in ("convert", "evaluate")]
    try:
        _check_nodes(jobs, cfg)
        said = capsys.readouterr().out
    except UserError as error:
        said = str(error)
    assert (outcome or "") in said and bool(outcome) == bool(said), said


@pytest.mark.parametrize("overrides, gpus", [
    (["cluster=slurm_8xh100"], 1),
    (["cluster=slurm_8xh100", "cluster.resources.train.gpus_per_node=2"], 2),
    (["cluster=slurm_8xh100", "cluster.resources.train.gpus_per_node=0"], 0),
    (["cluster=slurm_8xh100", "train.device=cpu"], None),
    (["cluster=slurm_minimal"], None),
])  # fmt: skip
def test_local_training_asks_for_the_one_gpu_that_it_can_use(tmp_path, overrides, gpus):
    cfg = load_config(["experiment=quickstart", "cluster.gpu_type=h100", *overrides])
    job = jobs_of(cfg)["train"]
    assert job_size(cfg, job) == (1, gpus)
    chain = Chain(cfg, tmp_path / "run", tmp_path / "code", tmp_path, (), False)
    asked = [option for option in sbatch_options(job, chain) if option.startswith("--gpus")]
    assert asked == ([f"--gpus-per-node=h100:{gpus}"] if gpus else [])


def test_only_a_script_with_setup_is_a_login_shells(tmp_path):
    for overrides, first in (([], "#!/bin/bash"), (["cluster.setup=['module load x']"], "#!/bin/bash -l")):
        cfg = load_config(["cluster=slurm_minimal", *overrides])
        job = jobs_of(cfg)["problems"]
        chain = Chain(cfg, tmp_path / "run", tmp_path / "code", tmp_path, (), False)
        assert render_script(job, chain, "01-problems").decode().splitlines()[0] == first


@pytest.mark.parametrize("profile", ["slurm_minimal", "slurm_8xh100"])
def test_an_option_with_a_value_is_quoted_as_the_profile_says(tmp_path, profile):
    comment = re.search(r"'(cluster\.sbatch_arguments=.*)'", (CONF / f"cluster/{profile}.yaml").read_text())
    assert comment, "the way to write it"
    cfg = load_config([f"cluster={profile}", comment[1]])
    job = jobs_of(cfg)["problems"]
    chain = Chain(cfg, tmp_path / "run", tmp_path / "code", tmp_path, (), False)
    assert "--mail-type=FAIL" in sbatch_options(job, chain)


def test_dotenv_files_are_left_out_of_the_copy_of_the_code(tmp_path, capsys):
    root = tmp_path / "checkout"
    (root / "recipes").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=300)
    for name in ("recipes/a.py", ".env", ".env.local", "recipes/.envrc", "environment.md"):
        (root / name).write_text(f"{name}\n")
    copy = snapshot(tmp_path / "run", runs_dir=tmp_path / "runs", extra_conf=None, root=root)
    names = {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()}
    assert names - {".revision.json"} == {"recipes/a.py", "environment.md"}
    said = capsys.readouterr().out
    assert all(
        f"left out of the copy of the code, as secrets: {name}\n" in said for name in (".env", ".env.local")
    )


def test_an_unpacked_archive_is_copied_with_the_folders_that_the_package_links_to(tmp_path):
    """Without git, too; and what is a link to a file in one's own conf is frozen as the file."""
    root, own = tmp_path / "archive", tmp_path / "own"
    for folder in ("recipes", "conf", "nemo_cot", "own"):
        (root / folder).mkdir(parents=True)
    (own / "experiment").mkdir(parents=True)
    for name in ("recipes/train.py", "conf/config.yaml", "nemo_cot/__init__.py"):
        (root / name).write_text(f"{name}\n")
    for name in ("recipes", "conf"):
        (root / "nemo_cot" / name).symlink_to(f"../{name}")
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    (own / "experiment" / "mine.yaml").symlink_to("../../mine.yaml")
    copy = snapshot(tmp_path / "run", runs_dir=tmp_path / "runs", extra_conf=own, root=root)
    assert (copy / "nemo_cot" / "recipes" / "train.py").read_text() == "recipes/train.py\n"
    assert (copy / "nemo_cot" / "conf").is_symlink() and (copy / "conf" / "config.yaml").is_file()
    frozen = copy / "extra_conf" / "experiment" / "mine.yaml"
    assert frozen.read_text() == "name: mine\n" and not frozen.is_symlink()
